from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from toys import HOG, SMALL_CNN, TIMM, candidate, draw

from pipeline import FieldmarkError
from pipeline.exported import engines, signature, write
from pipeline.exported.write import Deployed
from pipeline.training import density, network
from pipeline.training.network import Network

CLASSES = ["ant", "bee", "猫"]
PX = 16
IMAGES = draw([0, 1, 2, 3] * 5, px=PX)
FEATURES: dict[str, dict[str, Any]] = {
    "timm": {"extractor": TIMM, "head": {"kind": "mlp", "hidden": 8}, "average_views": True},
    "small": {"extractor": SMALL_CNN},
    "hog": {"extractor": HOG},
}


def deployed(**how: Any) -> Deployed:
    net = network_of(**how)
    with torch.inference_mode():
        features = net.extractor(torch.from_numpy(IMAGES)).numpy()
    return Deployed(net, density.fit(features, components=4, sketch=16, seed=0))


def network_of(**how: Any) -> Network:
    torch.manual_seed(1)
    net = network.build(candidate(**how), n_classes=3, size_px=PX, symmetry="d4").eval()
    with torch.no_grad():
        for parameter in net.head.parameters():
            parameter.mul_(3)  # far from even probabilities, so that differences show
    net.temperature.fill_(0.8)  # type: ignore[operator]
    return net


@pytest.fixture(scope="module", params=FEATURES)
def packed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Deployed, Path]:
    model, file = (
        deployed(**FEATURES[request.param]),
        tmp_path_factory.mktemp("packed") / "model.onnx",
    )
    write.write_onnx(model, CLASSES, PX, 18, file)
    return model, file


def own(model: Deployed, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        probs: np.ndarray = model(torch.from_numpy(images))[0].numpy()
    return probs


@pytest.mark.parametrize("n", [1, 3, 8])
def test_the_file_says_what_the_network_says_for_any_number_of_images(
    packed: tuple[Deployed, Path], n: int
) -> None:
    model, file = packed
    probs, *_ = engines.onnx_runtime(file).run(IMAGES[:n])
    assert np.ptp(own(model, IMAGES)) > 0.1
    np.testing.assert_allclose(probs, own(model, IMAGES[:n]), atol=1e-4)


@pytest.mark.parametrize("shade", [0, 77, 255])
def test_an_even_image_gets_an_answer_too(packed: tuple[Deployed, Path], shade: int) -> None:
    """The exporter once dropped HOG's guard against division by zero: overexposed photos got NaN."""
    model, file = packed
    even = np.full((1, PX, PX, 3), shade, np.uint8)
    probs, *_ = engines.onnx_runtime(file).run(even)
    np.testing.assert_allclose(probs, own(model, even), atol=1e-4)


def test_the_file_is_described_in_itself(packed: tuple[Deployed, Path]) -> None:
    ready = ort.InferenceSession(packed[1])
    (images,), (probs, ood, sketch) = ready.get_inputs(), ready.get_outputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(uint8)", [PX, PX, 3])
    assert (probs.name, probs.type, probs.shape[1:]) == ("probs", "tensor(float)", [3])
    assert (ood.name, len(ood.shape), sketch.name, sketch.shape[1:]) == (
        "ood",
        1,
        "sketch",
        [signature.SKETCH],
    )
    assert isinstance(images.shape[0], str) and isinstance(probs.shape[0], str)
    assert ready.get_modelmeta().custom_metadata_map["classes"].split("\n") == CLASSES


def test_the_file_tells_nothing_of_the_machine_it_was_made_on(
    packed: tuple[Deployed, Path],
) -> None:
    """Every node quoted the source lines behind it, with the path of the project."""
    written = packed[1].read_bytes()
    assert b"/" + Path(write.__file__).name.encode() not in written
    assert str(Path(write.__file__).parent).encode() not in written


def test_everything_is_in_the_one_file(packed: tuple[Deployed, Path]) -> None:
    assert [path.name for path in packed[1].parent.iterdir()] == ["model.onnx"]
    assert {opset.domain: opset.version for opset in onnx.load(packed[1]).opset_import}[""] == 18


def test_a_faithful_file_passes(packed: tuple[Deployed, Path]) -> None:
    differences = write.parity(*packed, IMAGES, 1e-4)
    assert differences["parity/max_difference"] <= 1e-4
    assert differences["parity/top1_differences"] == 0


def test_writing_leaves_the_network_as_it_was(packed: tuple[Deployed, Path]) -> None:
    assert not any(part.training for part in packed[0].modules())
    assert write.parity(*packed, IMAGES[:3], 1e-4)["parity/max_difference"] <= 1e-4


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("small") / "model.onnx"
    write.write_onnx(deployed(extractor=SMALL_CNN), CLASSES, PX, 18, file)
    return file


def test_a_network_changed_after_its_export_fails(small: Path) -> None:
    model = deployed(extractor=SMALL_CNN)
    with torch.no_grad():
        model.network.head[-1].bias[0] += 0.01  # type: ignore[index,operator]
    with pytest.raises(
        FieldmarkError, match="does not agree with the trained network.*not registered"
    ):
        write.parity(model, small, IMAGES, 1e-4)


def test_another_temperature_fails(small: Path) -> None:
    model = deployed(extractor=SMALL_CNN)
    model.network.temperature.fill_(0.9)  # type: ignore[operator]
    with pytest.raises(FieldmarkError, match="does not agree"):
        write.parity(model, small, IMAGES, 1e-4)


def test_a_network_that_says_nothing_fails(tmp_path: Path) -> None:
    """NaN differs from nothing by more than the tolerance, and yet from everything."""
    model = deployed(extractor=SMALL_CNN)
    with torch.no_grad():
        model.network.head[-1].weight.fill_(float("nan"))  # type: ignore[index,operator]
    write.write_onnx(model, CLASSES, PX, 18, tmp_path / "model.onnx")
    with pytest.raises(FieldmarkError, match="does not agree"):
        write.parity(model, tmp_path / "model.onnx", IMAGES, 1e-4)


def test_images_of_another_size_are_refused(small: Path) -> None:
    with pytest.raises(Exception, match="[Ii]nvalid dimensions for input: images"):
        engines.onnx_runtime(small).run(draw([0], px=PX + 1))


def test_another_view_of_what_is_strange_fails(small: Path) -> None:
    model = deployed(extractor=SMALL_CNN)
    model.density.noise *= 2
    with pytest.raises(FieldmarkError, match="strangeness.*not registered"):
        write.parity(model, small, IMAGES, 1e-4)


def test_the_slow_answers_are_no_faster_than_the_usual_ones(small: Path) -> None:
    latency = write.latency(small, IMAGES[:1], CLASSES, runs=20)
    assert 0 < latency["latency/p50_ms"] <= latency["latency/p95_ms"]
