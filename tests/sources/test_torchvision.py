import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import FieldmarkError
from pipeline.sources import Item, Skipped, torchvision


def idx(path: Path, values: np.ndarray) -> None:
    """A file in MNIST's format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())
    with gzip.open(f"{path}.gz", "wb") as packed:
        packed.write(path.read_bytes())


def items(name: str, root: Path) -> list[Item]:
    return [
        entry
        for entry in torchvision.read(name=name, root=str(root), download=False)
        if isinstance(entry, Item)
    ]


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    for part, n in {"train": 3, "t10k": 2}.items():
        raw = tmp_path / "MNIST" / "raw"
        idx(raw / f"{part}-images-idx3-ubyte", np.full((n, 28, 28), n))
        idx(raw / f"{part}-labels-idx1-ubyte", np.arange(n))
    return tmp_path


def test_a_set_in_its_root_keeps_its_split_and_class_names(mnist: Path) -> None:
    placed = [(item.name, item.label, item.given_split) for item in items("MNIST", mnist)]
    assert placed == [
        ("train/000000.png", "0 - zero", "train"),
        ("train/000001.png", "1 - one", "train"),
        ("train/000002.png", "2 - two", "train"),
        ("test/000000.png", "0 - zero", "test"),
        ("test/000001.png", "1 - one", "test"),
    ]


def test_an_image_is_a_lossless_png_and_always_the_same(mnist: Path) -> None:
    first, again = (items("MNIST", mnist)[0] for _ in range(2))
    assert first.load() == again.load()
    assert first.load().startswith(b"\x89PNG")


def test_a_set_of_plain_files_has_no_split(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 3)).save(tmp_path / name / "1.png")
    placed = items("ImageFolder", tmp_path)
    assert [(item.label, item.given_split) for item in placed] == [("ant", ""), ("bee", "")]


def test_a_damaged_file_of_a_set_costs_that_file_alone(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 3)).save(tmp_path / name / "1.png")
    (tmp_path / "ant" / "0.png").write_text("no image")
    first, *rest = torchvision.read(name="ImageFolder", root=str(tmp_path), download=False)
    assert isinstance(first, Skipped) and first.reason.startswith(
        "cannot be read: cannot identify image file"
    )
    assert [entry.label for entry in rest if isinstance(entry, Item)] == ["ant", "bee"]


@pytest.mark.parametrize("name", ["FakeData", "DatasetFolder"])
def test_a_set_that_takes_more_than_a_folder_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(FieldmarkError, match=f"{name} takes more than a name and a folder"):
        list(torchvision.read(name=name, root=str(tmp_path), download=False))


def test_neither_files_nor_a_download_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        FieldmarkError, match="MNIST is neither in .* nor can it be fetched: .*download: true"
    ):
        list(torchvision.read(name="MNIST", root=str(tmp_path), download=False))


def test_a_set_with_a_split_argument_says_so_too(tmp_path: Path) -> None:
    with pytest.raises(FieldmarkError, match="Flowers102 is neither in"):
        list(torchvision.read(name="Flowers102", root=str(tmp_path), download=False))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FieldmarkError, match="no data set 'MINST'; .*MNIST"):
        list(torchvision.read(name="MINST", root=".", download=False))
