from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from toys import HOG, SMALL_CNN, TIMM, candidate, draw

from pipeline.config.schema import Candidate
from pipeline.pixels.symmetry import SYMMETRIES, view
from pipeline.training import heads, network
from pipeline.training.network import Network

MLP = {"kind": "mlp", "hidden": 8, "dropout": 0.5}
IMAGES = torch.from_numpy(draw([0, 1, 2, 3], px=32))


def built(winner: Candidate, symmetry: str = "none", seed: int = 0) -> Network:
    """A network with random weights, constants and temperature, so that forgetting any of them
    shows.
    """
    torch.manual_seed(seed)
    made = network.build(winner, n_classes=3, size_px=32, symmetry=symmetry).eval()
    random = np.random.default_rng(seed)
    standardise: Any = made.head[0]  # type: ignore[index]
    d = len(standardise.mean)
    standardise.mean = torch.from_numpy(random.normal(size=d)).float()
    standardise.std = torch.from_numpy(random.uniform(0.5, 2, d)).float()
    made.temperature.fill_(1.7)  # type: ignore[operator]
    return made


def logits(made: Network, images: torch.Tensor = IMAGES) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = made(images)
    return found


@pytest.mark.parametrize("flips", SYMMETRIES["d4"], ids=str)
@pytest.mark.parametrize("features", [HOG, TIMM], ids=["hog", "timm"])
def test_with_averaged_views_a_turned_image_is_the_same_image(
    features: dict[str, Any], flips: tuple[int, ...]
) -> None:
    made = built(candidate(features, average_views=True), symmetry="d4")
    torch.testing.assert_close(
        logits(made, view(IMAGES, flips)), logits(made), atol=1e-4, rtol=1e-4
    )


def test_without_averaged_views_the_symmetry_is_not_used() -> None:
    made = built(candidate(TIMM, average_views=False), symmetry="d4")
    mirrored = logits(made, view(IMAGES, (2,)))
    assert not torch.allclose(mirrored, logits(made), atol=1e-3)


def test_averaging_keeps_each_images_logits_apart() -> None:
    made = built(candidate(TIMM, average_views=True), symmetry="flip")
    alone = torch.cat([logits(made, image[None]) for image in IMAGES])
    torch.testing.assert_close(logits(made), alone, atol=1e-5, rtol=1e-5)


def test_the_temperature_divides_the_logits() -> None:
    made = built(candidate(TIMM))
    before = logits(made)
    made.temperature.fill_(3.4)  # type: ignore[operator]
    torch.testing.assert_close(logits(made), before / 2)


CANDIDATES = {
    "small": candidate(SMALL_CNN, head={"kind": "linear", "dropout": 0.3}),
    "timm": candidate(TIMM, head=MLP, frozen=True, average_views=True),
    "hog": candidate(HOG, head={"kind": "svm", "C": 0.1}, frozen=True),
}


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_network_read_back_says_the_same(name: str, tmp_path: Path) -> None:
    made = built(CANDIDATES[name], symmetry="d4", seed=5)
    network.save(made, CANDIDATES[name], ["ant", "bee", "cat"], 32, tmp_path)
    torch.manual_seed(99)
    read, winner, classes, size_px = network.load(tmp_path)
    assert torch.equal(logits(read), logits(made))
    assert (winner, classes, size_px) == (CANDIDATES[name], ["ant", "bee", "cat"], 32)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    network.save(built(CANDIDATES["timm"]), CANDIDATES["timm"], ["a", "b", "c"], 32, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_a_trained_network_needs_its_first_weights_no_more(tmp_path: Path) -> None:
    file = tmp_path / "first.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), file)
    winner = candidate({**TIMM, "weights": str(file)}, frozen=True)
    made = built(winner)
    network.save(made, winner, ["a", "b", "c"], 32, tmp_path)
    file.unlink()
    assert torch.equal(logits(network.load(tmp_path)[0]), logits(made))


@pytest.mark.parametrize(
    "classes",
    [
        ["1e5", "yes", "null"],
        ["0", "1", "10"],
        ["é: 猫", "- a", "#"],
        ["a b", "'", '"'],
        ["~", "${x}", "2024-01-01"],
    ],
)
def test_class_names_stay_as_they_are(classes: list[str], tmp_path: Path) -> None:
    winner = CANDIDATES["hog"]
    network.save(built(winner), winner, classes, 32, tmp_path)
    assert network.load(tmp_path)[2] == classes


@pytest.mark.parametrize("px", [8, 28])
@pytest.mark.parametrize(
    "features", [{**SMALL_CNN, "input_px": 96, "blocks": 4}, TIMM], ids=["small", "timm"]
)
def test_tiny_images_will_do(features: dict[str, Any], px: int) -> None:
    made = network.build(candidate(features), n_classes=10, size_px=px, symmetry="d4").eval()
    found = logits(made, torch.from_numpy(draw([0, 1], px=px)))
    assert found.shape == (2, 10) and torch.isfinite(found).all()


@pytest.mark.parametrize(
    ("head", "layers"),
    [
        ({"kind": "linear"}, ["Standardise", "Dropout", "Linear"]),
        (MLP, ["Standardise", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]),
    ],
)
def test_each_kind_of_head_ends_in_a_logit_a_class(head: dict[str, Any], layers: list[str]) -> None:
    made = network.build(
        candidate(HOG, head=head, frozen=True), n_classes=7, size_px=16, symmetry="none"
    )
    assert [type(layer).__name__ for layer in made.head] == layers  # type: ignore[union-attr]
    assert logits(made.eval(), torch.from_numpy(draw([0], px=16))).shape == (1, 7)


def test_features_are_standardised_before_the_head() -> None:
    layer = heads.Standardise(2)
    layer.mean, layer.std = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])
    assert layer(torch.tensor([[3.0, 2.0]])).tolist() == [[1.0, 0.0]]
