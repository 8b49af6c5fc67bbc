"""Where answers rest, in networks of which it is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from toys import samples

from pipeline.config.schema import Regions
from pipeline.evaluation import region_rules, regions
from pipeline.evaluation.measuring import Answers
from pipeline.evaluation.regions import Looked
from pipeline.training import regions as looking
from pipeline.training.network import Network

PX, N = 40, 12
SETTINGS = Regions(mistakes=3, right=9, cells=8, all_views=False, shuffles=4)
TOP, LEFT, SIDE = 10, 20, 10  # the patch, whole cells of 5 pixels


class Patch(nn.Module):
    """Bright pixels speak for class 1 as much as `weight` says."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.zeros(PX, PX)
        weight[TOP : TOP + SIDE, LEFT : LEFT + SIDE] = 0.1
        self.register_buffer("weight", weight)

    def forward(self, images: Tensor) -> Tensor:
        bright = images.float().mean(-1) / 255 - 0.4
        score = (bright * self.get_buffer("weight")).sum((1, 2))
        return torch.stack([-score, score], 1)


class Unlearned(nn.Module):
    """The same patch, whatever the weights."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images[:, TOP : TOP + SIDE, LEFT : LEFT + SIDE].float().mean((1, 2, 3)) / 25
        return torch.stack([-bright, bright], 1)


class Moody(nn.Module):
    """Another answer to each change of the image, wherever it is."""

    def forward(self, images: Tensor) -> Tensor:
        score = 4 * torch.sin(images.float().mean((1, 2, 3)) * 1000)
        return torch.stack([-score, score], 1)


def network(extractor: nn.Module) -> Network:
    return Network(extractor, nn.Sequential(nn.Identity()), "none").eval()


@pytest.fixture
def test() -> Answers:
    """Photos with four bright patches, of which one counts; three of the answers are wrong."""
    pixels = np.random.default_rng(0).integers(0, 90, (N, PX, PX, 3)).astype(np.uint8)
    for top, left in ((TOP, LEFT), (TOP, 5), (25, LEFT), (25, 5)):
        pixels[:, top : top + SIDE, left : left + SIDE] += 150
    labels = [0] * 3 + [1] * 9
    box = f'{{"x": {LEFT}, "y": {TOP}, "w": {SIDE}, "h": {SIDE}}}'
    rows = pd.DataFrame({"name": [f"{i}.png" for i in range(N)], "metadata": box})
    probs = np.tile([0.1, 0.9], (N, 1))
    some = np.arange(N)
    images = samples(labels, images=pixels)
    rows["width"] = rows["height"] = PX
    return Answers(rows, images.labels, probs, ["dark", "light"], 1.0, some, {}, images)


def looked(extractor: nn.Module, test: Answers) -> Looked:
    return looking.look(network(extractor), test.images, test.probs.argmax(1), SETTINGS, seed=0)  # type: ignore[arg-type]


def said(extractor: nn.Module, test: Answers) -> str:
    table = regions.table(looked(extractor, test), test, np.arange(N), "stretch")
    return "; ".join(region_rules.failed(regions.figures(table)))


def test_an_answer_that_rests_on_a_patch_has_its_box_there_and_with_shuffled_weights_not(
    test: Answers,
) -> None:
    found = looked(Patch(), test)
    there = (TOP, LEFT, TOP + SIDE, LEFT + SIDE)
    assert {regions.box(effect, PX) for effect in found.maps} == {there}
    shuffled = [regions.box(effect, PX) for effect in found.shuffled]
    assert shuffled.count(there) <= N // 2  # of four bright patches any may count most
    assert said(Patch(), test) == ""


def test_maps_that_stay_without_the_weights_are_not_to_be_read(test: Answers) -> None:
    assert "hardly change when the network's weights are shuffled" in said(Unlearned(), test)


def test_maps_of_answers_that_change_with_anything_are_not_to_be_read(test: Answers) -> None:
    assert "blurring as much elsewhere" in said(Moody(), test)


def test_figures_and_pictures_are_written_and_nothing_where_it_is_left_out(
    test: Answers, tmp_path: Path
) -> None:
    trained = network(Patch())
    figures = looking.measured(trained, test, SETTINGS, "stretch", 0, tmp_path)
    assert figures["regions/in_box"].value == 1.0 and figures["regions/in_box"].n == 9
    assert np.load(tmp_path / "regions.npy").shape == (N, PX, PX, 3)
    assert looking.measured(trained, test, None, "stretch", 0, tmp_path) == {}
    assert np.load(tmp_path / "regions.npy").shape == (0, PX, PX, 3)
    assert pd.read_csv(tmp_path / "regions.csv").empty


def test_answers_are_computed_once(test: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    first = looked(Patch(), test)
    monkeypatch.setattr(looking.engine, "run", None)
    again = looked(Patch(), test)
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
