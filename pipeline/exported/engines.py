"""ONNX Runtime and OpenVINO behind one call, on the CPU, and the choice between them."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline import FieldmarkError
from pipeline.compute.parallel import N_CORES
from pipeline.exported import signature

# It would report each conversion to Google.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
ROUNDS = 5
MAX_DIFFERENCE = 1e-3  # of a probability; engines that differ by more run different models


@dataclass(frozen=True, eq=False)
class Engine:
    """`run` maps uint8 (n, s, s, 3) to the arrays of signature.NAMES; it is thread-safe.

    `classes`: the class names in the file's own metadata, one per line, in the order of the columns
    of the first output; None where the file has none.
    """

    name: str
    run: Callable[[np.ndarray], list[np.ndarray]]
    classes: str | None = None


class Engines(NamedTuple):
    """The same engine twice: `whole` has the lowest latency, `lane` the highest throughput.

    `whole` runs one call on all cores, `lane` one call on each core.
    """

    whole: Engine
    lane: Engine


def load(file: Path, images: np.ndarray, classes: Sequence[str]) -> Engines:
    """The file in the faster of the two engines, which is measured on `images`, uint8 (n, s, s, 3).

    Raises FieldmarkError where ONNX Runtime cannot run the file, or where the classes differ from
    those in its metadata.
    """
    make, whole = faster(file, images, classes)
    # Each engine takes much memory: load the second copy only after the slower engine is released.
    return Engines(whole, make(file, lanes=N_CORES))


def load_one(file: Path, images: np.ndarray, classes: Sequence[str]) -> Engines:
    """The file in ONNX Runtime, unmeasured: for a few images, which take less time than `load`.

    Raises FieldmarkError as `load` does.
    """
    engine, _ = _reference(file, images, classes)
    return Engines(engine, engine)


def faster(
    file: Path, images: np.ndarray, classes: Sequence[str]
) -> tuple[Callable[..., Engine], Engine]:
    """OpenVINO where it agrees with ONNX Runtime and is faster on the images, else ONNX Runtime: how
    to make it, and one that has all cores. Raises as `load`.
    """
    reference, reference_outputs = _reference(file, images, classes)
    try:
        other = openvino(file)
        outputs = other.run(images)
    except RuntimeError:
        return onnx_runtime, reference  # OpenVINO does not know an operator of the file
    agrees = all(
        np.allclose(a, b, rtol=0.01, atol=MAX_DIFFERENCE)
        for a, b in zip(outputs, reference_outputs, strict=True)
    )
    seconds = _seconds([reference, other], images)
    if agrees and seconds[1] < seconds[0]:
        return openvino, other
    return onnx_runtime, reference


def onnx_runtime(file: Path, *, lanes: int = 1) -> Engine:
    """The file in ONNX Runtime, for one call on all cores or for `lanes` parallel calls.

    Raises exceptions of ONNX Runtime where it cannot run the file.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    # 0 means one thread per core; with 1, each call runs in its caller's thread.
    options.intra_op_num_threads = 0 if lanes == 1 else 1
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    classes = session.get_modelmeta().custom_metadata_map.get("classes")
    return Engine(
        f"onnxruntime {ort.__version__}",
        lambda images: list(session.run(list(signature.NAMES), {"images": images})),
        classes,
    )


def openvino(file: Path, *, lanes: int = 1) -> Engine:
    """The file in OpenVINO, in f32, for one call on all cores or for `lanes` parallel calls.

    Raises RuntimeError where OpenVINO cannot run the file.
    """
    import openvino as ov

    # By default OpenVINO uses bfloat16 on some processors, and results differ between machines.
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": lanes,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = ov.Core().compile_model(file, "CPU", settings)
    ports = [compiled.output(name) for name in signature.NAMES]

    def run(images: np.ndarray) -> list[np.ndarray]:
        outputs = compiled.create_infer_request().infer({"images": images})
        return [outputs[port] for port in ports]

    return Engine(f"openvino {ov.__version__.split('-')[0]}", run)


def _reference(
    file: Path, images: np.ndarray, classes: Sequence[str]
) -> tuple[Engine, list[np.ndarray]]:
    """The file in ONNX Runtime, and its outputs for the images."""
    try:
        reference = onnx_runtime(file)
        outputs = reference.run(images)
    except Exception as error:  # ONNX Runtime raises a type of its own for each of its complaints
        raise FieldmarkError("model.onnx: ONNX Runtime cannot run it; export it again") from error
    if reference.classes not in (None, "\n".join(classes)):
        raise FieldmarkError(
            "signature.json: its classes are not those of model.onnx; export it again"
        )
    return reference, outputs


def _seconds(engines: Sequence[Engine], images: np.ndarray) -> list[float]:
    """The time of each engine for the images one by one: the best of several rounds, in turns."""
    best = [float("inf")] * len(engines)
    for _ in range(ROUNDS):
        for i, engine in enumerate(engines):
            start = time.perf_counter()
            for image in images:
                engine.run(image[None])
            best[i] = min(best[i], time.perf_counter() - start)
    return best
