import json
import subprocess
import sys
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.pixels import cost
from pipeline.pixels.images import BadImage

N_PIXELS = 1600 * 1280


@cache
def measured() -> list[dict[str, int]]:
    program = Path(__file__).with_name("peaks.py")
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def encoded(mode: str, size: tuple[int, int], kind: str, **options: object) -> bytes:
    data = BytesIO()
    Image.new(mode, size).save(data, kind, **options)
    return data.getvalue()


@pytest.mark.slow  # a process for each of ninety images
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_no_format_takes_more_memory_than_stated_and_few_much_less() -> None:
    per_pixel = [
        (case["name"], case["peak"] / N_PIXELS, case["bound"] / N_PIXELS) for case in measured()
    ]
    assert len(per_pixel) > 80
    assert [case for case in per_pixel if case[1] > case[2]] == []
    idle = [(bound - cost.FIXED_BYTES / N_PIXELS) / peak for _, peak, bound in per_pixel]
    assert np.median(idle) < 1.6


@pytest.mark.slow  # a process for each of ninety images
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_a_transparent_png_takes_a_dozen_bytes_a_pixel_at_most() -> None:
    peaks = {case["name"].strip(): case["peak"] / N_PIXELS for case in measured()}
    assert peaks["PNG RGBA"] < 12 and peaks["PNG transparent colour"] < 12


def test_the_cost_is_known_from_the_header_alone() -> None:
    whole = encoded("RGB", (4000, 3000), "JPEG")
    assert cost.decoding_bytes(whole[:700]) == pytest.approx(cost.decoding_bytes(whole), rel=0.01)


def test_a_progressive_jpeg_costs_more_than_one_that_comes_line_by_line() -> None:
    plain = cost.decoding_bytes(encoded("RGB", (4000, 3000), "JPEG"))
    progressive = cost.decoding_bytes(encoded("RGB", (4000, 3000), "JPEG", progressive=True))
    assert 3 * 12e6 < plain < 5 * 12e6 and 9 * 12e6 < progressive < 11 * 12e6


def test_a_line_of_single_pixels_is_not_cheaper_than_its_blocks() -> None:
    line = cost.decoding_bytes(encoded("RGB", (1, 60_000), "JPEG"))
    assert line > 60_000 * 32 * 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"no image", "not an image of a known format"),
        (encoded("L", (200, 100), "PNG"), "0.1 megapixels exceed the limit of 0.01"),
    ],
    ids=["empty", "text", "too large"],
)
def test_what_decoding_would_refuse_has_no_cost(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        cost.decoding_bytes(data, max_pixels=10_000)
