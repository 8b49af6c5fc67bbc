"""Networks by their name alone, images resized for them, and several extractors side by side."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toys import HOG, TIMM, candidate, draw, samples

from pipeline import config
from pipeline.config.schema import CandidateFile
from pipeline.features import backbones, engine, identity, weights
from pipeline.training import network

IMAGES = draw([0, 1, 2], px=32)
SIFT: dict[str, Any] = {
    "_target_": "pipeline.features.sift.SIFT",
    "input_px": 32,
    "scales": [2.0],
    "stride_px": 6,
    "coding": "fisher",
    "words": 2,
    "components": 3,
    "pyramid": [1],
}
PARTS = {"_target_": "pipeline.features.backbones.Concatenated", "extractors": [TIMM, HOG, SIFT]}
NAMED = {"_target_": "pipeline.features.backbones.Pretrained", "weights": "random"}


def described(node: dict[str, Any], images: np.ndarray = IMAGES) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.inference_mode():
        features: torch.Tensor = config.build(node, "candidate").eval()(torch.from_numpy(images))
    return features


def test_an_extractor_alone_is_a_candidate() -> None:
    file = CandidateFile.model_validate({"extractor": {**NAMED, "name": "test_resnet"}})
    assert file.frozen and file.head.kind == "logistic"


@pytest.mark.parametrize(
    ("name", "library", "px"),
    [("test_resnet", "timm", 48), ("test_vit", "timm", 48), ("mnasnet0_5", "torchvision", 64)],
)
def test_a_network_works_by_its_name_at_any_size(name: str, library: str, px: int) -> None:
    features = described({**NAMED, "name": name, "library": library}, draw([0, 1], px=px))
    assert features.shape[0] == 2 and features.isfinite().all()


def test_a_network_of_one_size_is_made_for_the_size_that_is_asked_for() -> None:
    made = config.build({**NAMED, "name": "test_vit", "input_px": 96}, "candidate").eval()
    (tapped,) = made.maps(backbones.resized(torch.zeros(1, 3, 32, 32), 96, "bilinear"))
    assert tapped.shape[2:] == (6, 6)  # patches of 16 px


@pytest.mark.parametrize(
    ("interpolation", "filter"),
    [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)],
)
@pytest.mark.parametrize("px", [20, 47])
def test_images_are_resized_as_pil_does(
    interpolation: str, filter: Image.Resampling, px: int
) -> None:
    pixels = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float()
    ours = backbones.resized(pixels, px, interpolation).permute(0, 2, 3, 1).numpy()
    theirs = np.stack([Image.fromarray(i).resize((px, px), filter) for i in IMAGES])
    np.testing.assert_allclose(ours, theirs, atol=1.5)  # PIL rounds twice


def test_the_engine_says_of_resized_images_what_torch_says() -> None:
    for name in ("test_resnet", "test_vit"):
        torch.manual_seed(0)
        made = config.build({**NAMED, "name": name, "input_px": 96}, "candidate").eval()
        with torch.inference_mode():
            ours = made(torch.from_numpy(IMAGES)).numpy()
        (theirs,) = engine.run(made, [IMAGES], 32)
        np.testing.assert_allclose(theirs, ours, atol=1e-3)


def test_extractors_side_by_side_give_the_features_of_each() -> None:
    both = {**PARTS, "extractors": [HOG, {**HOG, "cell_px": 8}]}
    apart = [described(part) for part in both["extractors"]]
    torch.testing.assert_close(described(both), torch.cat(apart, 1))


def test_those_side_by_side_learn_run_and_load(tmp_path: Path) -> None:
    train = samples([0, 1, 2, 3] * 2, 4, images=draw([0, 1, 2, 3] * 2, px=32))
    made = candidate(PARTS, frozen=True)
    built = network.build(made, n_classes=4, size_px=32, symmetry="none")
    built.extractor.learn(train, 0)  # type: ignore[operator]
    assert built.extractor.extractors[2].coder.means.any()  # type: ignore[index, union-attr]
    network.save(built.eval(), made, list("abcd"), 32, tmp_path)
    again = network.load(tmp_path)[0]
    (ours,), (theirs,) = (list(engine.run(n, [IMAGES], 32)) for n in (built, again))
    np.testing.assert_array_equal(ours, theirs)


def test_a_part_decides_on_what_is_remembered() -> None:
    """Its settings, its code and its weights, as if it stood alone."""
    one, other = (
        config.build({**PARTS, "extractors": [HOG, part]}, "candidate")
        for part in (SIFT, {**SIFT, "stride_px": 5})
    )
    assert identity.fingerprint(one) != identity.fingerprint(other)
    assert identity.named(PARTS) == [
        f"pipeline.features.{name}" for name in ("backbones", "hog", "sift")
    ]
    assert identity.question(PARTS) is None, "random weights are others each time"


def test_a_network_of_which_nothing_is_said_has_its_weights_from_the_hub() -> None:
    node = {"_target_": NAMED["_target_"], "name": "resnet18"}
    assert weights.named({"extractors": [node, TIMM]}) == ["hub", "random"]
    assert identity.question(node) is None
    assert weights.without({"extractors": [node]})["extractors"] == [{**node, "weights": "random"}]
