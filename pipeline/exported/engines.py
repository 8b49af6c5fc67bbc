"""ONNX Runtime and OpenVINO behind one call, on the CPU."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.exported import signature

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # would tell Google of each conversion


@dataclass(frozen=True, eq=False)
class Engine:
    """`run` takes uint8 (n, s, s, 3) and returns the arrays named in outputs.NAMES; threads may
    call it at once.

    `classes`: the names that the file itself has for the columns of its first output, a line each;
    None where nothing is known of them.
    """

    name: str
    run: Callable[[np.ndarray], list[np.ndarray]]
    classes: str | None = None


def onnx_runtime(file: Path, *, lanes: int = 1) -> Engine:
    """The file in ONNX Runtime, for one call on all cores or `lanes` calls at once; raises its own
    exceptions where it cannot be run.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = (
        0 if lanes == 1 else 1
    )  # 0: as many as there are cores; else each call runs in its caller's thread
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    classes = session.get_modelmeta().custom_metadata_map.get("classes")
    return Engine(
        f"onnxruntime {ort.__version__}",
        lambda images: list(session.run(list(signature.NAMES), {"images": images})),
        classes,
    )


def openvino(file: Path, *, lanes: int = 1) -> Engine:
    """The file in OpenVINO, in f32, for one call on all cores or `lanes` calls at once; raises
    RuntimeError where it cannot be run.
    """
    import openvino as ov

    # f32: the default would pick bfloat16 on some processors and change results from one machine to
    # the next
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": lanes,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = ov.Core().compile_model(file, "CPU", settings)
    ports = [compiled.output(name) for name in signature.NAMES]

    def run(images: np.ndarray) -> list[np.ndarray]:
        answer = compiled.create_infer_request().infer({"images": images})
        return [answer[port] for port in ports]

    return Engine(f"openvino {ov.__version__.split('-')[0]}", run)
