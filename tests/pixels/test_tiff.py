import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiffs import (
    CMYK,
    DEFLATE,
    FLOAT,
    FLOATING,
    GREY,
    HORIZONTAL,
    INT,
    LAB,
    LZW,
    NONE,
    PACKBITS,
    PALETTE,
    RGB,
    UINT,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
    shown,
    tiff,
)

from pipeline.pixels.images import BadImage, decode, probe

LIMIT = 1_000_000
N_SAMPLES = {WHITE_IS_ZERO: 1, GREY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}


def random(bits: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**bits, shape)


def opened(data: bytes) -> np.ndarray:
    return decode(data, max_pixels=LIMIT)


def difference(pixels: np.ndarray, meant: np.ndarray) -> float:
    """In steps of 8 bits."""
    assert pixels.shape[:2] == meant.shape[:2]
    return float(np.abs(pixels - 255 * meant).max())


@st.composite
def layouts(draw: st.DrawFn, bits: int, sample_format: int) -> Layout:
    compression = draw(st.sampled_from([NONE, LZW, DEFLATE, PACKBITS]))
    predictors = [1]
    if compression in (LZW, DEFLATE):
        if sample_format == FLOAT:
            predictors.append(FLOATING)
        elif bits in (8, 16, 32):
            predictors.append(HORIZONTAL)
    return Layout(
        order=draw(st.sampled_from("<>")),
        planar=draw(st.booleans()),
        compression=compression,
        fill_order=draw(st.sampled_from([1, 1, 2])),
        predictor=draw(st.sampled_from(predictors)),
        tile=draw(st.sampled_from([None, None, (16, 16), (32, 16)])),
        rows_per_strip=draw(st.sampled_from([2**32 - 1, 1, 7])),
        big=draw(st.booleans()),
    )


@st.composite
def kinds(draw: st.DrawFn) -> dict[str, Any]:
    photometric = draw(st.sampled_from(list(N_SAMPLES)))
    sample_format = draw(st.sampled_from([UINT, UINT, UINT, INT, FLOAT]))
    if sample_format == FLOAT:
        bits = draw(st.sampled_from([16, 32, 64]))
    else:
        bits = draw(
            st.sampled_from([1, 2, 4, 8, 8, 10, 12, 14, 16, 16, 24, 32]) | st.integers(1, 32)
        )
    assume(photometric != PALETTE or (bits <= 16 and sample_format == UINT))
    n_extra = draw(st.sampled_from([0, 0, 0, 1, 1, 2]))
    extra = draw(st.lists(st.sampled_from([0, 1, 2]), min_size=n_extra, max_size=n_extra))
    declared = draw(st.booleans())  # or the bands are there and nothing is stated of them
    return {
        "photometric": photometric,
        "sample_format": sample_format,
        "bits": bits,
        "extra": extra if declared else [0] * n_extra,
        "declared": declared,
        "layout": draw(layouts(bits, sample_format)),
        "seed": draw(st.integers(0, 99)),
    }


def drawn_samples(kind: dict[str, Any], height: int, width: int) -> np.ndarray:
    n = N_SAMPLES[kind["photometric"]] + len(kind["extra"])
    rng = np.random.default_rng(kind["seed"])
    bits = kind["bits"]
    if kind["sample_format"] == FLOAT:
        return rng.random((height, width, n)).astype(f"f{bits // 8}")
    top = 2 ** min(bits, 16) if kind["sample_format"] == UINT else 2 ** (bits - 1)
    samples = rng.integers(0, top, (height, width, n))
    if kind["photometric"] == LAB and bits == 8:  # colours that sRGB has
        samples[..., 0] = 80 + samples[..., 0] // 2
        samples[..., 1:3] = (samples[..., 1:3] // 8 - 16) & 255
    if 1 in kind["extra"]:  # no colour is stronger than its opacity
        opacity = samples[..., N_SAMPLES[kind["photometric"]] + kind["extra"].index(1)]
        n_colours = N_SAMPLES[kind["photometric"]]
        samples[..., :n_colours] = np.minimum(samples[..., :n_colours], opacity[..., None])
    return samples


def as_tifffile_has_it(data: bytes, planar: bool) -> np.ndarray | None:
    """(h, w, s); None where a codec is missing that its makers leave to another package."""
    page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
    if page.dtype is None:
        return None
    try:
        pixels = page.asarray()
    except (ValueError, NotImplementedError) as error:
        assert "imagecodecs" in str(error) or "not supported" in str(error), error
        return None
    if pixels.ndim == 2:
        return pixels[..., None]
    return np.moveaxis(pixels, 0, 2) if planar else pixels


def tags_of(kind: dict[str, Any], colours: np.ndarray) -> dict[int, Sequence[int]]:
    tags: dict[int, Sequence[int]] = {530: [1, 1]} if kind["photometric"] == YCBCR else {}
    if kind["extra"] and kind["declared"]:
        tags[338] = kind["extra"]
    if kind["photometric"] == PALETTE:
        tags[320] = colours.T.reshape(-1).tolist()
    return tags


def meant(kind: dict[str, Any], samples: np.ndarray, colours: np.ndarray) -> np.ndarray:
    bits = min(kind["bits"], 16)  # of 32 bits, 16 are in use
    if kind["photometric"] != PALETTE:
        return np.asarray(shown(samples, bits, kind["photometric"], kind["extra"]))
    rgb = colours[samples[..., 0]] / 65535
    if 2 in kind["extra"]:
        opacity = samples[..., 1 + kind["extra"].index(2)][..., None] / (2**bits - 1)
        rgb = rgb * opacity + 1 - opacity
    return rgb


# as they are or in the other byte order: what cameras, scanners and scientific software write
NEVER_REFUSED = {
    (WHITE_IS_ZERO, UINT, 1),
    (WHITE_IS_ZERO, UINT, 8),
    (GREY, UINT, 1),
    (GREY, UINT, 8),
    (GREY, UINT, 16),
    (RGB, UINT, 8),
    (RGB, UINT, 16),
    (PALETTE, UINT, 4),
    (PALETTE, UINT, 8),
    (CMYK, UINT, 8),
    (CMYK, UINT, 16),
    (LAB, UINT, 8),
    (YCBCR, UINT, 8),
}


def is_common(kind: dict[str, Any]) -> bool:
    layout = kind["layout"]
    plain = not (kind["extra"] or layout.planar or layout.fill_order == 2 or layout.big)
    return plain and (kind["photometric"], kind["sample_format"], kind["bits"]) in NEVER_REFUSED


def is_true(reason: str, kind: dict[str, Any]) -> bool:
    n_bands = 1 + len(kind["extra"])
    if "does not say what they are" in reason:
        return f"{n_bands} bands" in reason and kind["photometric"] in (GREY, WHITE_IS_ZERO)
    if "BigTIFF" in reason:
        return bool(kind["layout"].big and kind["layout"].order == ">")
    parts = {
        f"a TIFF of {kind['bits']}-bit": True,
        "signed": kind["sample_format"] == INT,
        "floating-point": kind["sample_format"] == FLOAT,
        "WhiteIsZero": kind["photometric"] == WHITE_IS_ZERO,
        "in separate planes": kind["layout"].planar or kind["photometric"] == YCBCR,
        "FillOrder 2": kind["layout"].fill_order == 2,
        "compressed": kind["layout"].compression != NONE,
        "more bands": bool(kind["extra"]) or kind["photometric"] == YCBCR,
    }
    return f"{kind['bits']}-bit" in reason and all(parts[part] for part in parts if part in reason)


@settings(max_examples=250, deadline=None)
@given(kinds(), st.integers(1, 40), st.integers(1, 40))
def test_every_tiff_shows_what_it_means_or_says_why_not(
    kind: dict[str, Any], height: int, width: int
) -> None:
    samples = drawn_samples(kind, height, width)
    colours = random(16, (2 ** min(kind["bits"], 16), 3))
    options = {key: kind[key] for key in ("bits", "photometric", "sample_format", "layout")}
    data = tiff(samples, **options, tags=tags_of(kind, colours))
    independent = as_tifffile_has_it(data, kind["layout"].planar)
    if independent is not None:
        assert kind["sample_format"] == INT or (independent == samples).all()
    try:
        pixels = opened(data)
    except BadImage as refusal:
        assert is_true(str(refusal), kind), refusal
        assert not is_common(kind), refusal
        return
    assert probe(data, max_pixels=LIMIT)[:2] == pixels.shape[1::-1]
    mixed = kind["photometric"] in (CMYK, YCBCR, LAB)
    steps_of_rounding = 1 + (kind["bits"] == 16) + mixed + len(kind["extra"])
    assert difference(pixels, meant(kind, samples, colours)) <= steps_of_rounding


def test_a_tiff_of_12_bits_is_as_bright_as_its_8_bits() -> None:
    samples = random(12, (20, 30, 1))
    pixels = opened(tiff(samples, bits=12, photometric=GREY))
    assert np.abs(pixels - samples / 4095 * 255).max() <= 1


def test_a_fourth_band_of_which_nothing_is_stated_is_no_transparency() -> None:
    samples = random(8, (20, 30, 4))
    samples[..., 3] = 0
    assert (opened(tiff(samples, bits=8, photometric=RGB)) == samples[..., :3]).all()


def test_a_fourth_band_that_is_stated_to_be_transparency_lies_on_white() -> None:
    samples = random(8, (20, 30, 4))
    samples[..., 3] = 0
    assert (opened(tiff(samples, bits=8, photometric=RGB, tags={338: [2]})) == 255).all()


def test_white_is_zero_also_with_16_bits() -> None:
    samples = random(16, (5, 6, 1))
    pixels = opened(tiff(samples, bits=16, photometric=WHITE_IS_ZERO))
    assert np.abs(pixels - (255 - samples / 257)).max() <= 1


@pytest.mark.parametrize("compression", [NONE, LZW])
def test_reversed_bits_of_a_fax_are_read(compression: int) -> None:
    samples = random(1, (9, 21, 1))
    layout = Layout(fill_order=2, compression=compression)
    pixels = opened(tiff(samples, bits=1, photometric=WHITE_IS_ZERO, layout=layout))
    assert (pixels == 255 * (1 - samples)).all()


def test_white_may_be_zero_in_floating_point() -> None:
    samples = np.array([[[0.0], [0.25], [1.0]]])
    data = tiff(samples, bits=32, photometric=WHITE_IS_ZERO, sample_format=FLOAT)
    assert opened(data)[0, :, 0].tolist() == [255, 191, 0]


@pytest.mark.parametrize(
    ("shape", "options", "reason"),
    [
        ((4, 4, 1), {"bits": 10, "photometric": GREY}, "10-bit grey, which is not read"),
        ((4, 4, 1), {"bits": 14, "photometric": GREY}, "14-bit grey, which is not read"),
        ((4, 4, 1), {"bits": 16, "photometric": GREY, "sample_format": INT}, "16-bit signed grey"),
        ((4, 4, 1), {"bits": 8, "photometric": GREY, "sample_format": INT}, "8-bit signed grey"),
        ((4, 4, 1), {"bits": 8, "photometric": GREY, "sample_format": 5}, "8-bit complex grey"),
        ((4, 4, 1), {"bits": 8, "photometric": 4}, "photometric interpretation 4"),
        ((4, 4, 1), {"bits": 16, "photometric": 32803}, "photometric interpretation 32803"),
        ((4, 4, 2), {"bits": 8, "photometric": GREY}, "2 bands that does not say what they are"),
        ((4, 4, 4), {"bits": 16, "photometric": GREY}, "4 bands that does not say"),
        ((4, 4, 2), {"bits": 8, "photometric": RGB}, "2 bands, too few for RGB"),
        ((4, 4, 4), {"bits": 8, "photometric": CMYK, "tags": {332: [2]}}, "inks that are not CMYK"),
        ((4, 4, 3), {"bits": 8, "photometric": RGB, "tags": {258: [8, 8, 16]}}, "differ in depth"),
        ((4, 4, 3), {"bits": 8, "photometric": YCBCR}, "subsampled without JPEG"),
        ((4, 4, 1), {"bits": 8, "photometric": GREY, "tags": {254: [1]}}, "page is a thumbnail"),
        ((4, 4, 1), {"bits": 8, "photometric": GREY, "tags": {254: [4]}}, "page is a mask"),
        ((4, 4, 1), {"bits": 8, "photometric": GREY, "tags": {259: [34887]}}, "by method 34887"),
    ],
)
def test_a_tiff_that_cannot_be_shown_is_refused_with_the_true_reason(
    shape: tuple[int, int, int], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadImage, match=reason):
        opened(tiff(np.zeros(shape, int), **options))


@pytest.mark.parametrize(
    ("layout", "tags", "reason"),
    [
        (Layout(rows_per_strip=4), {273: [8, 12]}, "2 of 5 strips are listed"),
        (Layout(rows_per_strip=4), {273: [8, 12, 16, 20, 24, 28]}, "6 strips are listed for 5"),
        (Layout(rows_per_strip=4), {273: [8, 12, 0, 20, 24]}, "some of its strips are empty"),
        (Layout(rows_per_strip=4), {279: [80, 80, 80, 0, 80]}, "some of its strips are empty"),
        (Layout(rows_per_strip=4), {273: [8, 12, 16, 20, 60_000]}, "truncated"),
        (Layout(tile=(16, 16)), {324: [8, 12]}, "2 of 4 tiles are listed"),
        (Layout(tile=(16, 16)), {322: [60_000], 323: [60_000]}, "far larger than the image"),
        (Layout(tile=(16, 16)), {322: [0]}, "the sizes of its tiles are missing"),
    ],
)
def test_a_tiff_without_some_of_its_pixels_is_damaged(
    layout: Layout, tags: dict[int, Sequence[int]], reason: str
) -> None:
    """Pillow leaves black what is not listed."""
    samples = random(8, (20, 20, 1))
    with pytest.raises(BadImage, match=reason):
        opened(tiff(samples, bits=8, photometric=GREY, layout=layout, tags=tags))


@pytest.mark.parametrize("tag", [254, 256, 258, 259, 262, 266, 273, 277, 278, 279, 284, 338, 339])
@pytest.mark.parametrize("values", [[], [0], [9, 9, 9], [65535], [65535] * 9])
def test_tags_that_mean_nothing_raise_nothing_but_bad_image(tag: int, values: list[int]) -> None:
    samples = random(8, (20, 20, 1))
    data = tiff(samples, bits=8, photometric=GREY, tags={tag: values})
    try:
        assert opened(data).dtype == np.uint8
    except BadImage as refusal:
        assert str(refusal)


def test_the_first_of_several_pages_is_shown() -> None:
    file = io.BytesIO()
    pages = random(8, (3, 20, 30)).astype(np.uint8)
    tifffile.imwrite(file, pages, photometric="minisblack")
    assert (opened(file.getvalue()) == pages[0][..., None]).all()
    assert probe(file.getvalue(), max_pixels=LIMIT).n_frames == 3


def test_a_page_with_smaller_copies_below_it_is_shown_itself() -> None:
    file, whole = io.BytesIO(), random(8, (20, 30, 3)).astype(np.uint8)
    with tifffile.TiffWriter(file) as writer:
        writer.write(whole, photometric="rgb", subifds=1)
        writer.write(whole[::2, ::2], photometric="rgb", subfiletype=1)
    assert (opened(file.getvalue()) == whole).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [12, 16])
def test_deep_pixels_stand_upright_too(bits: int, orientation: int) -> None:
    samples = random(bits, (3, 5, 1))
    views = [samples, samples[:, ::-1], samples[::-1, ::-1], samples[::-1]]
    upright = [*views, *(view.swapaxes(0, 1) for view in (views[0], views[3], views[2], views[1]))]
    data = tiff(samples, bits=bits, photometric=GREY, tags={274: [orientation]})
    assert difference(opened(data), upright[orientation - 1] / (2**bits - 1)) <= 1
