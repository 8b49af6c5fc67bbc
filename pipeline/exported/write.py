"""A trained network as one ONNX file that runs without torch.

One graph normalises the image, runs the network, applies temperature and softmax, and computes the
out-of-distribution score.
"""

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from pipeline import FieldmarkError
from pipeline.compute import timing
from pipeline.config.schema import Export
from pipeline.exported import signature
from pipeline.exported.engines import Engine, faster, onnx_runtime
from pipeline.storage import store
from pipeline.training.density import Density
from pipeline.training.network import Network

BATCH = 8
Images = Sequence[np.ndarray] | np.ndarray


class Deployed(nn.Module):
    """From uint8 images (n, h, w, 3) to probs (n, k), ood (n,) and sketch (n, 16)."""

    def __init__(self, network: Network, density: Density) -> None:
        super().__init__()
        self.network, self.density = network, density

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, features = self.network.described(images)
        return torch.softmax(logits, dim=1), *self.density(features)


def write_onnx(
    deployed: Deployed, classes: list[str], size_px: int, opset: int, file: Path
) -> None:
    """Write the ONNX file: input `images` uint8 (n, size_px, size_px, 3), outputs as in Deployed.

    Outputs are float32; the metadata has the class names.
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
        # The exporter's notes quote source lines with paths of this machine.
        part.ClearField("metadata_props")
    onnx.helper.set_model_props(model, {"classes": "\n".join(classes)})
    onnx.checker.check_model(model)
    onnx.save(model, file)


def write_checked(
    deployed: Deployed,
    classes: list[str],
    size_px: int,
    settings: Export,
    images: np.ndarray,
    out: Path,
) -> dict[str, float]:
    """model.onnx in the folder, after parity was shown; returns parity and latency.

    images: uint8 (n, size_px, size_px, 3), of which some are compared.
    """
    file = out / "model.onnx"
    write_onnx(deployed, classes, size_px, settings.opset, file)
    n = min(settings.parity_images, len(images))
    some = np.linspace(0, len(images) - 1, n).astype(int)
    return {
        **parity(deployed, file, images[some], settings.parity_tolerance),
        **latency(file, images[:1], classes, settings.latency_runs),
    }


def parity(
    deployed: Deployed, file: Path, images: np.ndarray, tolerance: float
) -> dict[str, float]:
    """The largest difference between the file's probabilities and those of the network in torch.

    images: uint8 (n, h, w, 3). Raises FieldmarkError beyond the tolerance, where a top class
    differs by more than a tie, or where score or sketch differ by more than one per cent.
    """
    onnx_probs, *onnx_rest = run(onnx_runtime(file), images)
    torch_probs, *torch_rest = in_torch(deployed, images)
    if not all(
        np.allclose(a, b, rtol=0.01, atol=0.01) for a, b in zip(onnx_rest, torch_rest, strict=True)
    ):
        raise FieldmarkError(
            "the ONNX file and the trained network differ in the strangeness of images; "
            "not registered"
        )
    worst = float(np.abs(onnx_probs - torch_probs).max())
    differ = onnx_probs.argmax(1) != torch_probs.argmax(1)
    if (
        not np.isfinite(worst)
        or worst > tolerance
        or (differ & (np.ptp(np.sort(torch_probs, axis=1)[:, -2:], axis=1) > tolerance)).any()
    ):
        raise FieldmarkError(
            f"the ONNX file does not agree with the trained network: probabilities differ by "
            f"{worst:.2g} (export.parity_tolerance is {tolerance:g}), top classes in "
            f"{differ.sum()} of {len(images)} images; not registered"
        )
    return {"parity/max_difference": worst, "parity/top1_differences": float(differ.sum())}


def latency(file: Path, image: np.ndarray, classes: list[str], runs: int) -> dict[str, float]:
    """Milliseconds for one image, uint8 (1, s, s, 3), with the engine that serving would pick for
    this file on this CPU; see compute/timing.
    """
    _, engine = faster(file, image, classes)
    return timing.latency(lambda: engine.run(image), runs)


def run(engine: Engine, images: Images) -> list[np.ndarray]:
    """The outputs for all images, run in small batches."""
    parts = [engine.run(np.stack(part)) for part in store.chunks(images, BATCH)]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]


def in_torch(deployed: Deployed, images: Images) -> list[np.ndarray]:
    """The same outputs, computed by torch."""
    with torch.inference_mode():
        parts = [
            deployed.eval()(torch.from_numpy(np.stack(part)))
            for part in store.chunks(images, BATCH)
        ]
    return [torch.cat(output).numpy() for output in zip(*parts, strict=True)]
