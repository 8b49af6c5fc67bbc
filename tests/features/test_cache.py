import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import HOG, draw

from pipeline import config
from pipeline.compute import parallel
from pipeline.features import cache
from pipeline.pixels.symmetry import SYMMETRIES, view
from pipeline.storage import memo


class Projection(nn.Module):
    """Cheap features that tell every image and every view of it from any other."""

    def __init__(self, seed: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        weight = np.random.default_rng(seed).normal(size=(8, 8, 3, 4)) / 1000
        self.register_buffer("weight", torch.from_numpy(weight).float())

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.float().flatten(1) @ self.get_buffer("weight").flatten(0, 2)


class Dying(Sequence[np.ndarray]):
    """Images whose process dies as soon as the first shard is on disk."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.images)

    def __getitem__(self, i: int) -> np.ndarray:  # type: ignore[override]
        if shards():
            raise KeyboardInterrupt
        return self.images[i]


def shards() -> dict[int, int]:
    """How many rows each shard holds; a shard that is written anew is another inode."""
    files = Path(os.environ["FIELDMARK_CACHE"]).rglob("*.npz")
    return {file.stat().st_ino: len(np.load(file)["keys"]) for file in files}


def computed(before: dict[int, int]) -> int:
    """How many rows were computed since."""
    return sum(n for inode, n in shards().items() if inode not in before)


IMAGES = draw([0, 1, 2, 3, 0, 1, 2, 3], px=8)
LARGE = draw([0, 1], px=64)


def own(module: nn.Module, images: np.ndarray, symmetry: str) -> np.ndarray:
    batch = torch.from_numpy(images)
    return torch.stack(
        [module(view(batch, flips)) for flips in SYMMETRIES[symmetry]], dim=1
    ).numpy()


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_features_are_those_of_each_view(symmetry: str) -> None:
    found = cache.features(Projection(), IMAGES, symmetry=symmetry)
    np.testing.assert_allclose(found, own(Projection(), IMAGES, symmetry), atol=1e-2)
    assert found.shape[1] == len(SYMMETRIES[symmetry])


def test_the_second_time_nothing_is_computed() -> None:
    first = cache.features(Projection().eval(), IMAGES, symmetry="d4")
    before = shards()
    np.testing.assert_array_equal(cache.features(Projection().eval(), IMAGES, symmetry="d4"), first)
    assert computed(before) == 0 < sum(before.values())


def test_only_new_images_are_computed_whatever_the_order() -> None:
    first = cache.features(Projection().eval(), IMAGES[:5], symmetry="flip")
    before = shards()
    shuffled = IMAGES[[6, 4, 5, 3, 2, 7, 1, 0]]
    found = cache.features(Projection().eval(), shuffled, symmetry="flip")
    assert computed(before) == 3 * 2
    np.testing.assert_array_equal(found[[7, 6, 4, 3, 1]], first)
    np.testing.assert_allclose(found, own(Projection(), shuffled, "flip"), atol=1e-2)


@pytest.mark.parametrize(
    ("module", "symmetry", "n"),
    [
        (Projection(seed=1), "none", 8),
        (Projection(scale=2.0), "none", 8),
        (Projection(), "flip", 8),
    ],
    ids=["another weight", "another setting", "another view"],
)
def test_a_change_computes_anew(module: Projection, symmetry: str, n: int) -> None:
    cache.features(Projection().eval(), IMAGES, symmetry="none")
    before = shards()
    found = cache.features(module.eval(), IMAGES, symmetry=symmetry)
    assert computed(before) == n
    np.testing.assert_allclose(found, own(module, IMAGES, symmetry), atol=1e-2)


def test_one_changed_pixel_computes_that_image_anew() -> None:
    cache.features(Projection().eval(), IMAGES, symmetry="none")
    before = shards()
    changed = IMAGES.copy()
    changed[3, 0, 0, 0] ^= 1
    cache.features(Projection().eval(), changed, symmetry="none")
    assert computed(before) == 1


def test_a_killed_run_goes_on_where_it_stopped() -> None:
    many = np.random.default_rng(0).integers(0, 256, (2 * cache.SHARD, 8, 8, 3), np.uint8)
    with pytest.raises(KeyboardInterrupt):
        cache.features(Projection().eval(), Dying(many), symmetry="none")
    before = shards()
    found = cache.features(Projection().eval(), many, symmetry="none")
    assert computed(before) == len(many) - sum(before.values()) < len(many)
    np.testing.assert_allclose(found, own(Projection(), many, "none"), atol=1e-2)


def test_a_half_written_shard_is_ignored() -> None:
    first = cache.features(Projection().eval(), IMAGES[:4], symmetry="none")
    (shard,) = Path(os.environ["FIELDMARK_CACHE"]).rglob("*.npz")
    (shard.parent / ".0123.partial").write_bytes(shard.read_bytes()[:60])
    found = cache.features(Projection().eval(), IMAGES, symmetry="none")
    np.testing.assert_array_equal(found[:4], first)


def test_equal_images_have_equal_features_which_are_computed_once() -> None:
    found = cache.features(Projection(), IMAGES[[0, 1, 0, 0]], symmetry="none")
    assert sum(shards().values()) == 2
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[0], found[3])


def test_the_cache_may_be_deleted_at_any_time() -> None:
    first = cache.features(Projection(), IMAGES, symmetry="none")
    shutil.rmtree(os.environ["FIELDMARK_CACHE"])
    np.testing.assert_array_equal(cache.features(Projection(), IMAGES, symmetry="none"), first)


@pytest.mark.parametrize("damage", ["cut short", "emptied", "a bit flipped"])
def test_a_damaged_shard_is_computed_again(damage: str) -> None:
    first = cache.features(Projection(), IMAGES, symmetry="none")
    (shard,) = Path(os.environ["FIELDMARK_CACHE"]).rglob("*.npz")
    whole = bytearray(shard.read_bytes())
    whole[-300 if damage == "a bit flipped" else 0] ^= 1
    shard.write_bytes(
        {"cut short": whole[: len(whole) // 2], "emptied": b"", "a bit flipped": whole}[damage]
    )
    cache._last.clear()
    np.testing.assert_array_equal(cache.features(Projection(), IMAGES, symmetry="none"), first)
    assert sum(shards().values()) == len(IMAGES)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The modules that settings were built to, in this process: projections, whatever the settings
    say.
    """
    made: list[nn.Module] = []
    monkeypatch.setattr(parallel, "apart", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(
        config, "build", lambda settings, group: made.append(Projection()) or made[-1]
    )
    return made


def test_features_on_disk_are_those_in_memory(tmp_path: Path, built: list[nn.Module]) -> None:
    found = cache.write_features(HOG, IMAGES, tmp_path / "features.npy", seed=0)
    np.testing.assert_array_equal(
        found, cache.features(Projection(), IMAGES, symmetry="none")[:, 0]
    )
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), found)


def test_features_from_a_process_of_their_own_are_the_same(tmp_path: Path) -> None:
    found = cache.write_features(HOG, LARGE, tmp_path / "features.npy", seed=0)
    np.testing.assert_array_equal(
        found, cache.features(config.build(HOG, "candidate"), LARGE, symmetry="none")[:, 0]
    )


def test_a_network_is_built_only_where_the_cache_lacks_something_or_its_weights_are_others(
    tmp_path: Path, built: list[nn.Module]
) -> None:
    """Building it imports torch and takes seconds."""
    out, file = tmp_path / "features.npy", tmp_path / "weights.pth"
    file.write_bytes(b"one")
    settings = {**HOG, "weights": str(file)}
    first = np.array(cache.write_features(settings, IMAGES[:-1], out, seed=0))
    np.testing.assert_array_equal(cache.write_features(settings, IMAGES[:-1], out, seed=0), first)
    assert len(built) == 1
    np.testing.assert_array_equal(cache.write_features(settings, IMAGES, out, seed=0)[:-1], first)
    assert len(built) == 2
    file.write_bytes(b"two")
    cache.write_features(settings, IMAGES, out, seed=0)
    assert len(built) == 3
    for _ in range(2):
        cache.write_features({**HOG, "weights": "random"}, IMAGES, out, seed=0)
    assert len(built) == 5


@pytest.mark.parametrize("symmetry", ["none", "flip"])
def test_exact_features_are_in_full_precision_and_those_that_the_memo_keeps(
    symmetry: str, tmp_path: Path
) -> None:
    half = cache.features(Projection(), IMAGES, symmetry=symmetry)
    before = shards()
    found = cache.exact(Projection(), IMAGES, tmp_path / "exact.npy", symmetry=symmetry)
    assert computed(before) == 0
    np.testing.assert_allclose(found, own(Projection(), IMAGES, symmetry), rtol=1e-5)
    np.testing.assert_array_equal(found.astype(np.float16), half)


def test_of_known_keys_only_new_images_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: list[nn.Module]
) -> None:
    """What it costs to decode the others is saved."""
    keys = np.array([memo.item(image) for image in IMAGES])
    cache.write_features(HOG, IMAGES[:-2], tmp_path / "before.npy", keys[:-2], seed=0)
    monkeypatch.setattr(cache, "image_keys", lambda images: pytest.fail("the keys are known"))
    taken, batch = [], cache._batch

    def noted(images: np.ndarray, which: list[int], flips: tuple[int, ...]) -> np.ndarray:
        taken.extend(which)
        return batch(images, which, flips)

    monkeypatch.setattr(cache, "_batch", noted)
    cache.write_features(HOG, IMAGES, tmp_path / "features.npy", keys, seed=0)
    assert taken == [len(IMAGES) - 2, len(IMAGES) - 1]
