"""Runs a torch module over many images on the fastest engine there is: CUDA, or OpenVINO on a CPU.

Axes: n images, h height, w width.
"""

import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline import FieldmarkError, one_line
from pipeline.compute import timing

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # would tell Google of each conversion

BATCH = 16
AHEAD = 4  # batches for each request of the engine, which are done or waiting for those before them


def run(module: nn.Module, batches: Iterable[np.ndarray], size_px: int) -> Iterator[np.ndarray]:
    """Outputs of `module` for uint8 batches (n, size_px, size_px, 3), in order; float32 in, float32
    out.
    """
    if _on_gpu():
        yield from _run_torch(module, batches, "cuda")
    else:
        yield from _run_openvino(module, batches, size_px)


def name() -> str:
    """The engine and its version: results of two engines differ in the last digits, so caches keep
    them apart.
    """
    return f"torch-{torch.__version__}-cuda" if _on_gpu() else f"openvino-{version('openvino')}-f32"


def latency_ms(module: nn.Module, size_px: int, runs: int, batch: int = 1) -> float:
    """Median time of one image through the module with OpenVINO on this machine's CPU, which serving
    picks, too, wherever it is the faster engine; see compute/timing. With a batch it is the share of
    one image in a call of so many.
    """
    compiled = _compile(module, size_px, "LATENCY")
    images = np.zeros((batch, size_px, size_px, 3), np.uint8)
    warm_up = timing.WARM_UP if batch == 1 else 1
    return timing.latency(lambda: compiled(images), runs, warm_up)["latency/p50_ms"] / batch


@contextmanager
def plainly() -> Iterator[None]:
    """What a GPU or a loader process fails with, in words that say what to turn; any other error as
    it is.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            advice = (
                "the processes that load images ended: give them more shared memory "
                "(docker run --shm-size=1g), or set FIELDMARK_WORKERS=0"
            )
        elif "out of memory" in str(error) or "ALLOC_FAILED" in str(error):
            advice = (
                "the GPU's memory does not suffice: lower fit.batch_size or "
                "preprocess.size_px, end what else uses it, or set "
                "FIELDMARK_ACCELERATOR=cpu"
            )
        elif isinstance(error, torch.AcceleratorError) or "cuDNN error" in str(error):
            advice = (
                "the GPU cannot be used, which may be too old for this torch: set "
                "FIELDMARK_ACCELERATOR=cpu"
            )
        else:
            raise
        raise FieldmarkError(f"{advice} ({one_line(error)})") from error


def _on_gpu() -> bool:
    return os.environ.get("FIELDMARK_ACCELERATOR") != "cpu" and torch.cuda.is_available()


def _run_torch(
    module: nn.Module, batches: Iterable[np.ndarray], device: str
) -> Iterator[np.ndarray]:
    with plainly():
        try:
            module = module.eval().to(device)
            for batch in batches:
                yield _outputs(module, batch, device)
        finally:
            module.cpu()  # where everybody else expects it


@torch.inference_mode()
def _outputs(module: nn.Module, batch: np.ndarray, device: str) -> np.ndarray:
    # A GPU's own default for convolutions keeps ten bits, and may take another algorithm each time.
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        outputs: np.ndarray = (
            module(torch.from_numpy(np.ascontiguousarray(batch)).to(device)).float().cpu().numpy()
        )
    return outputs


def _run_openvino(
    module: nn.Module, batches: Iterable[np.ndarray], size_px: int
) -> Iterator[np.ndarray]:
    import openvino as ov

    compiled = _compile(module, size_px, "THROUGHPUT")
    queue = ov.AsyncInferQueue(compiled)
    queue.set_callback(
        lambda request, output: output.set_result(request.get_output_tensor(0).data.copy())
    )
    waiting: deque[Future[np.ndarray]] = deque()
    try:
        for batch in batches:
            waiting.append(Future())
            queue.start_async([np.ascontiguousarray(batch)], waiting[-1])
            if len(waiting) > AHEAD * len(
                queue
            ):  # one slow batch must not let those behind it pile up
                yield waiting.popleft().result()
    finally:
        # also on an error: a queue that is dropped while it works takes the process down
        queue.wait_all()
    for output in waiting:
        yield output.result()


def _compile(module: nn.Module, size_px: int, hint: str) -> Any:
    import openvino as ov

    example = torch.zeros(2, size_px, size_px, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's notes to the authors of converters
        # OpenVINO takes over a traced module five times as fast as a program of torch.export.
        # Unchecked, since the check
        # traces it again, which takes as long as all the rest.
        traced = torch.jit.trace(module.eval().cpu(), example, strict=False, check_trace=False)  # type: ignore[no-untyped-call]
        model = ov.convert_model(
            traced, example_input=(example,), input=[([-1, *example.shape[1:]], ov.Type.u8)]
        )
    # f32: the default would pick bfloat16 on some processors and change results from one machine to
    # the next
    return ov.Core().compile_model(
        model, "CPU", {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32"}
    )
