"""A trained network as one ONNX file that needs no torch: normalise, network, temperature, softmax
and strangeness in one graph.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate
from pipeline.exported import signature
from pipeline.features import engine
from pipeline.storage import store
from pipeline.training.density import Density
from pipeline.training.network import Network

BATCH = 8
Images = Sequence[np.ndarray] | np.ndarray
Thresholds = Mapping[str, Mapping[str, float]]


class Deployed(nn.Module):
    """What serving needs of uint8 images (n, h, w, 3): probs (n, k), ood (n,) and sketch (n,
    16).
    """

    def __init__(self, network: Network, density: Density) -> None:
        super().__init__()
        self.network, self.density = network, density

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, features = self.network.described(images)
        return torch.softmax(logits, dim=1), *self.density(features)


def write_onnx(
    deployed: Deployed, classes: list[str], size_px: int, opset: int, file: Path
) -> None:
    """Input `images` uint8 (n, size_px, size_px, 3), outputs as in Deployed, float32; class names
    in its metadata.
    """
    example = torch.zeros(2, size_px, size_px, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # torch's notes to the authors of exporters
        program = torch.onnx.export(
            deployed.eval(),
            (example,),
            dynamo=True,
            opset_version=opset,
            verbose=False,
            input_names=["images"],
            output_names=list(signature.NAMES),
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    for part in (
        graph,
        *graph.node,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *graph.initializer,
    ):
        part.ClearField(
            "metadata_props"
        )  # the exporter's notes quote source lines with this machine's paths
    onnx.helper.set_model_props(model, {"classes": "\n".join(classes)})
    onnx.checker.check_model(model)
    onnx.save(model, file)


def session(file: Path) -> ort.InferenceSession:
    """The file in ONNX Runtime, on the CPU."""
    return ort.InferenceSession(file, providers=["CPUExecutionProvider"])


def parity(
    deployed: Deployed, file: Path, images: np.ndarray, tolerance: float
) -> dict[str, float]:
    """The largest difference between the file's probabilities and the network's own in torch.

    images: uint8 (n, h, w, 3). Raises FieldmarkError beyond the tolerance, where a top class
    differs by more than a tie, or where strangeness or sketch differ by more than a hundredth.
    """
    onnx_probs, *onnx_rest = run(session(file), images)
    own, *own_rest = in_torch(deployed, images)
    if not all(
        np.allclose(a, b, rtol=0.01, atol=0.01) for a, b in zip(onnx_rest, own_rest, strict=True)
    ):
        raise FieldmarkError(
            "the ONNX file judges the strangeness of images otherwise than the trained "
            "network; not registered"
        )
    worst = float(np.abs(onnx_probs - own).max())
    differ = onnx_probs.argmax(1) != own.argmax(1)
    if (
        not np.isfinite(worst)
        or worst > tolerance
        or (differ & (np.ptp(np.sort(own, axis=1)[:, -2:], axis=1) > tolerance)).any()
    ):
        raise FieldmarkError(
            f"the ONNX file does not agree with the trained network: probabilities differ by "
            f"{worst:.2g} "
            f"(export.parity_tolerance is {tolerance:g}) and {differ.sum()} of {len(images)} "
            f"top classes; not registered"
        )
    return {"parity/max_difference": worst, "parity/top1_differences": float(differ.sum())}


def latency(file: Path, image: np.ndarray, runs: int) -> dict[str, float]:
    """Milliseconds for one image with ONNX Runtime on this CPU, warmed up: median and 95th
    percentile.
    """
    ready = session(file)
    times = engine.times_ms(lambda: ready.run(None, {"images": image}), runs)
    return {
        "latency/p50_ms": float(np.median(times)),
        "latency/p95_ms": float(np.percentile(times, 95)),
    }


def run(ready: ort.InferenceSession, images: Images) -> list[np.ndarray]:
    """The outputs of all images, a few at a time."""
    parts = [
        ready.run(list(signature.NAMES), {"images": np.stack(part)})
        for part in store.chunks(images, BATCH)
    ]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]


def in_torch(deployed: Deployed, images: Images) -> list[np.ndarray]:
    """The same, by torch itself."""
    with torch.inference_mode():
        parts = [
            deployed.eval()(torch.from_numpy(np.stack(part)))
            for part in store.chunks(images, BATCH)
        ]
    return [torch.cat(output).numpy() for output in zip(*parts, strict=True)]


def card(
    winner: Candidate,
    classes: list[str],
    size_px: int,
    tested: Mapping[str, float],
    thresholds: Thresholds,
    *,
    data_hash: str,
    commit: str,
) -> str:
    """The model card (Mitchell et al., FAccT 2019) as Markdown."""
    low, high = tested["test/accuracy_low"], tested["test/accuracy_high"]
    abstain, ood = thresholds["abstain"], thresholds["ood"]
    vouched = (
        "with probability {:.0%}".format(1 - abstain["delta"])
        if abstain["guaranteed"]
        else "on the validation images only"
    )
    return f"""# {winner.title}

- **Input** `images`: uint8, RGB, (n, {size_px}, {size_px}, 3), prepared as `signature.json` says
- **Output** `probs`: float32, (n, {len(classes)}), calibrated on validation images
- **Output** `ood`: float32, (n,), how strange an image is to the training images; `sketch`: float32, (n, 16), where it lies
- **Classes**: {", ".join(classes)}
- **Abstains** below a confidence of {abstain["confidence"]:.3f}: at most {abstain["target_risk"]:.0%} of its answers are wrong, {vouched};
  it answered {abstain["val_coverage"]:.0%} of the validation images
- **Strange** above a score of {ood["score"]:.2f}: {1 - ood["quantile"]:.0%} of the validation images are

| on {tested["test/n"]:.0f} test images | |
|---|---|
| accuracy | {tested["test/accuracy"]:.4f} (interval {low:.4f} to {high:.4f}) |
| macro F1 | {tested["test/f1_macro"]:.4f} |
| expected calibration error | {tested["test/ece"]:.4f} |

Made from data `{data_hash}` with code `{commit}`. Fit for images like the ones it was trained on, and for nothing else:
it always gives its classes chances, whatever it is shown; not every image of something else has a high `ood`.
"""
