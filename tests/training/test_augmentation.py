import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch.utils.data import DataLoader
from toys import draw, samples

from pipeline.features.dense import shrink
from pipeline.training import augmentation
from pipeline.training.augmentation import Policy
from pipeline.training.samples import ImageRows

FILES = sorted((Path(__file__).parents[2] / "conf" / "augment").glob("*.yaml"))
IMAGES = draw([0, 1, 2, 3], px=32)


def policy(file: Path) -> Policy:
    node: Any = OmegaConf.to_container(OmegaConf.load(file))
    return augmentation.from_nodes(node["policy"])


def no_up() -> Policy:
    return policy(next(file for file in FILES if file.stem == "no_up"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_same_seed_gives_the_same_image_in_any_order(file: Path) -> None:
    apply = policy(file)
    forwards = [apply(IMAGES[seed % 4], seed) for seed in range(8)]
    backwards = [policy(file)(IMAGES[seed % 4], seed) for seed in reversed(range(8))]
    np.testing.assert_array_equal(forwards, backwards[::-1])


def test_another_seed_gives_another_image() -> None:
    apply = no_up()
    assert (
        len({apply(IMAGES[0], seed).tobytes() for seed in range(40)}) > 8
    )  # more than the turns alone


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_policy_read_back_does_the_same(file: Path, tmp_path: Path) -> None:
    apply = policy(file)
    saved = {"symmetry": "flip", "policy": json.loads(apply.to_json())}
    (tmp_path / "policy.json").write_text(json.dumps(saved))
    read, symmetry = augmentation.read(tmp_path)
    assert symmetry == "flip"
    np.testing.assert_array_equal(
        [read(IMAGES[1], seed) for seed in range(12)],
        [apply(IMAGES[1], seed) for seed in range(12)],
    )


@pytest.mark.parametrize("px", [8, 28, 65])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_size_and_type_stay(file: Path, px: int) -> None:
    image, apply = draw([1], px=px)[0], policy(file)
    views = [apply(image, seed) for seed in range(20)]
    assert {(view.shape, view.dtype.name) for view in views} == {((px, px, 3), "uint8")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_image_itself_is_not_touched(file: Path) -> None:
    image, apply = IMAGES[2].copy(), policy(file)
    for seed in range(20):
        apply(image, seed)[:] = 0
    np.testing.assert_array_equal(image, IMAGES[2])


def test_a_loader_process_sees_the_same_views() -> None:
    """Albumentations mixes the number of the process into seeds of its own."""
    rows = ImageRows(samples([0, 1], images=IMAGES[:2]), no_up())
    keys = [[(0, 7)], [(1, 8)], [(0, 9)]]
    here = [batch[0] for batch in DataLoader(rows, batch_sampler=keys)]
    there = [
        batch[0]
        for batch in DataLoader(
            rows, batch_sampler=keys, num_workers=2, multiprocessing_context="forkserver"
        )
    ]
    np.testing.assert_array_equal(np.concatenate(here), np.concatenate(there))


COUNTS = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 12), min_size=1)


@given(COUNTS, st.floats(0, 1), st.integers(0, 3))
def test_rare_classes_are_filled_up_and_nothing_else(
    counts: dict[str, int], balance_to: float, each: int
) -> None:
    labels = np.array([name for name, n in counts.items() for _ in range(n)])
    origins = augmentation.extra_views(labels, balance_to, each)
    wanted = np.ceil(balance_to * max(counts.values())) * (1 + each)
    after = {name: n + int((labels[origins] == name).sum()) for name, n in counts.items()}
    assert after == {name: max(n * (1 + each), wanted) for name, n in counts.items()}


@given(COUNTS, st.floats(0, 1), st.integers(0, 3))
def test_no_image_of_a_class_is_used_much_more_than_another(
    counts: dict[str, int], balance_to: float, each: int
) -> None:
    labels = np.array([name for name, n in counts.items() for _ in range(n)])
    uses = np.bincount(augmentation.extra_views(labels, balance_to, each), minlength=len(labels))
    assert all(np.ptp(uses[labels == name]) <= 1 for name in counts)


@pytest.mark.parametrize(
    ("height", "width", "input_px"), [(224, 224, 96), (230, 219, 96), (64, 64, 96), (90, 90, 30)]
)
def test_averaging_down_beforehand_is_what_an_extractor_does_up_to_rounding(
    height: int, width: int, input_px: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    planes = torch.from_numpy(pixels).permute(2, 0, 1).float()
    expected = shrink(planes, input_px).permute(1, 2, 0).numpy()
    assert augmentation.averaged_down(pixels, input_px) == pytest.approx(expected, abs=0.51)
