"""A trained network as one ONNX file that needs no torch: normalise, network, temperature and softmax in one graph."""

import io
import statistics
import time
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from pipeline.errors import FieldmarkError
from pipeline.schema import Winner
from pipeline.training.network import Network


class Probabilities(nn.Module):
    """The network with softmax: uint8 images (n, h, w, 3) -> probs (n, k)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.softmax(self.network(images), dim=1)


def write_onnx(network: Network, classes: list[str], size_px: int, opset: int, file: Path) -> None:
    """Input `images` uint8 (n, size_px, size_px, 3), output `probs` float32 (n, k); class names in its metadata."""
    example = torch.zeros(2, size_px, size_px, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # torch's notes to the authors of exporters
        program = torch.onnx.export(
            Probabilities(network).eval(), (example,), dynamo=True, opset_version=opset, verbose=False,
            input_names=["images"], output_names=["probs"], dynamic_shapes=({0: torch.export.Dim("n")},),
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")  # the exporter's notes quote source lines with this machine's paths
    onnx.helper.set_model_props(model, {"classes": "\n".join(classes)})
    onnx.checker.check_model(model)
    onnx.save(model, file)


def session(file: Path) -> ort.InferenceSession:
    """The file in ONNX Runtime, on the CPU."""
    return ort.InferenceSession(file, providers=["CPUExecutionProvider"])


def parity(network: Network, file: Path, images: np.ndarray, tolerance: float) -> dict[str, float]:
    """The largest difference between the file's probabilities and the network's own in torch.

    images: uint8 (n, h, w, 3). Raises FieldmarkError beyond the tolerance, or where a top class differs by more
    than a tie.
    """
    onnx_probs = _in_batches(session(file), images)
    with torch.inference_mode():
        own = torch.cat([Probabilities(network).eval()(torch.from_numpy(np.array(part))) for part in _parts(images)]).numpy()
    worst = float(np.abs(onnx_probs - own).max())
    differ = onnx_probs.argmax(1) != own.argmax(1)
    if not np.isfinite(worst) or worst > tolerance or (differ & (np.ptp(np.sort(own, axis=1)[:, -2:], axis=1) > tolerance)).any():
        raise FieldmarkError(
            f"the ONNX file does not agree with the trained network: probabilities differ by {worst:.2g} "
            f"(export.parity_tolerance is {tolerance:g}) and {differ.sum()} of {len(images)} top classes; not registered"
        )
    return {"parity/max_difference": worst, "parity/top1_differences": float(differ.sum())}


def latency(file: Path, image: np.ndarray, runs: int) -> dict[str, float]:
    """Milliseconds for one image with ONNX Runtime on this CPU, warmed up: median and 95th percentile."""
    ready, times = session(file), []
    for _ in range(runs + 5):
        start = time.perf_counter()
        ready.run(None, {"images": image})
        times.append((time.perf_counter() - start) * 1000)
    return {
        "latency/p50_ms": statistics.median(times[5:]),
        "latency/p95_ms": float(np.percentile(times[5:], 95)),
    }


def _in_batches(ready: ort.InferenceSession, images: np.ndarray) -> Float32[np.ndarray, "n k"]:
    return np.concatenate([ready.run(None, {"images": np.array(part)})[0] for part in _parts(images)])


def _parts(images: np.ndarray) -> list[np.ndarray]:
    return [images[i : i + 8] for i in range(0, len(images), 8)]


def card(
    winner: Winner, classes: list[str], size_px: int, tested: Mapping[str, float], *, data_hash: str, commit: str
) -> str:
    """The model card (Mitchell et al., FAccT 2019) as Markdown."""
    low, high = tested["test/accuracy_low"], tested["test/accuracy_high"]
    return f"""# {winner.title}

- **Input** `images`: uint8, RGB, (n, {size_px}, {size_px}, 3), prepared as `signature.json` says
- **Output** `probs`: float32, (n, {len(classes)}), calibrated on validation images
- **Classes**: {", ".join(classes)}

| on {tested["test/n"]:.0f} test images | |
|---|---|
| accuracy | {tested["test/accuracy"]:.4f} (interval {low:.4f} to {high:.4f}) |
| macro F1 | {tested["test/f1_macro"]:.4f} |
| expected calibration error | {tested["test/ece"]:.4f} |

Made from data `{data_hash}` with code `{commit}`. Fit for images like the ones it was trained on, and for nothing else:
it always names one of its classes, whatever it is shown.
"""
