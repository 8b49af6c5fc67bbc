"""SIFT and SURF on a dense grid: descriptors as others compute them, and their words."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from toys import draw

from pipeline import FieldmarkError
from pipeline.features import engine, identity, learning, sift, surf
from pipeline.features.cache import image_keys
from pipeline.features.coding import Coded
from pipeline.features.sift import SIFT
from pipeline.features.surf import SURF

RANDOM = np.random.default_rng(0)
NOISE = cv2.GaussianBlur(RANDOM.integers(0, 256, (96, 96)).astype(np.float32), (0, 0), 2)
TEXTURE = ((NOISE - NOISE.min()) / np.ptp(NOISE) * 255).astype(np.uint8)
STRIDE = 8
INNER = slice(3, -3)  # points whose windows lie within the image
SMALL = {"input_px": 32, "stride_px": 6, "words": 3, "components": 5, "pyramid": [1, 2]}
KINDS = [(SIFT, [2.0, 3.0]), (SURF, [1.0])]
IMAGES = draw([0, 1, 2, 3] * 3, px=32)


def made(kind: type[Coded], scales: list[float], **changes: object) -> Coded:
    settings: dict[str, object] = {**SMALL, "scales": scales, "coding": "fisher", **changes}
    extractor = kind(**settings).eval()  # type: ignore[arg-type]
    extractor.learn(IMAGES, seed=0)
    return extractor


def planes() -> torch.Tensor:
    return torch.from_numpy(TEXTURE).float()[None]


def cosines(ours: torch.Tensor, theirs: np.ndarray) -> np.ndarray:
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (ours.numpy(), theirs))
    products: np.ndarray = (a * b).sum(-1)
    return products


def test_sift_is_opencvs_at_the_same_points() -> None:
    """OpenCV describes in its first octave, which is smoothed by 1.6 px: cells of 4.8 px."""
    ours = sift.descriptors(sift.directions(planes(), 4.8, STRIDE))[0]
    places = [float(x) for x in range(STRIDE // 2, 96, STRIDE)]
    points = [cv2.KeyPoint(x, y, 3.2, 0.0) for y in places for x in places]
    _, found = cv2.SIFT_create().compute(TEXTURE, points)
    theirs = found.reshape(len(places), len(places), 128)
    assert cosines(ours, theirs)[INNER, INNER].min() > 0.999


def paper(image: np.ndarray, x: float, y: float, s: int) -> np.ndarray:
    """U-SURF at one point, sample by sample, from sums of pixels; pixel centres are whole numbers."""
    described = np.zeros((4, 4, 4))
    for row in range(20):
        for column in range(20):
            down, right = (row - 9.5) * s, (column - 9.5) * s
            top, left = round(y + down + 0.5), round(x + right + 0.5)
            box = image[top - s : top + s, left - s : left + s].astype(float)
            dx = box[:, s:].sum() - box[:, :s].sum()
            dy = box[s:].sum() - box[:s].sum()
            weight = np.exp(-(down**2 + right**2) / (2 * (3.3 * s) ** 2))
            entries = weight * np.array([dx, dy, abs(dx), abs(dy)])
            described[row // 5, column // 5] += entries
    return described.ravel() / np.linalg.norm(described)


@pytest.mark.parametrize("s", [1, 2])
def test_surf_is_that_of_the_paper(s: int) -> None:
    ours = surf.wavelets(planes(), s, STRIDE)[0]
    within = [3, 5, 7]
    shift = 0.0 if s % 2 else 0.5
    at = [STRIDE // 2 + i * STRIDE + shift for i in within]
    theirs = np.array([[paper(TEXTURE, x, y, s) for x in at] for y in at])
    assert cosines(ours[within][:, within], theirs).min() > 0.9999


@pytest.mark.parametrize(("kind", "scales"), KINDS)
def test_an_even_image_is_in_no_word_and_has_no_gap(kind: type[Coded], scales: list[float]) -> None:
    even = torch.full((1, 32, 32, 3), 77, dtype=torch.uint8)
    extractor = made(kind, scales)
    assert not extractor.points(even).any()
    assert extractor(even).isfinite().all()


@pytest.mark.parametrize("coding", ["fisher", "histogram"])
@pytest.mark.parametrize(("kind", "scales"), KINDS)
def test_the_engine_computes_what_torch_does(
    kind: type[Coded], scales: list[float], coding: str
) -> None:
    extractor = made(kind, scales, coding=coding)
    with torch.inference_mode():
        ours = extractor(torch.from_numpy(IMAGES)).numpy()
    (found,) = engine.run(extractor, [IMAGES], 32)
    np.testing.assert_allclose(found, ours, atol=2e-3)
    lengths = np.linalg.norm(ours.reshape(len(IMAGES), 5, -1), axis=2)
    np.testing.assert_allclose(lengths, 1, atol=1e-3)


@pytest.mark.parametrize("coding", ["fisher", "histogram"])
@pytest.mark.parametrize(("kind", "scales"), KINDS)
def test_images_say_which_way_to_change_them(
    kind: type[Coded], scales: list[float], coding: str
) -> None:
    """A gradient is there, and finite also where the image is even: attacks need it."""
    extractor = made(kind, scales, coding=coding)
    pixels = torch.from_numpy(IMAGES[:1].astype(np.float32))
    pixels[:, :16] = 100
    pixels.requires_grad_(True)
    extractor(pixels)[0, :7].sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all() and pixels.grad.any()


@pytest.mark.parametrize("coding", ["fisher", "histogram"])
def test_the_same_seed_learns_the_same_words(coding: str) -> None:
    one, same = (made(SIFT, [2.0], coding=coding).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], same[name]) for name in one)


def test_words_of_other_settings_are_not_taken_for_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their buffers have the same shapes, and before they learn the same content."""
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path))
    states = []
    for scales in ([2.0], [3.0]):
        extractor = SIFT(**SMALL, scales=scales, coding="fisher").eval()  # type: ignore[arg-type]
        learning.learn(extractor, IMAGES, image_keys(IMAGES), seed=0)
        states.append(extractor.state_dict())
    assert not torch.equal(states[0]["coder.means"], states[1]["coder.means"])
    other_stride = SIFT(**{**SMALL, "stride_px": 5}, scales=[2.0], coding="fisher").eval()  # type: ignore[arg-type]
    other_stride.load_state_dict(states[0])
    same = SIFT(**SMALL, scales=[2.0], coding="fisher").eval()  # type: ignore[arg-type]
    same.load_state_dict(states[0])
    assert identity.fingerprint(same) != identity.fingerprint(other_stride)


def test_fewer_descriptors_than_words_are_refused_in_words() -> None:
    with pytest.raises(FieldmarkError, match="extractor.words"):
        made(SIFT, [2.0], words=5000)


def test_parts_of_the_pyramid_see_their_part_alone() -> None:
    image = np.full((1, 32, 32, 3), 77, np.uint8)
    image[:, 4:12, 4:12] = IMAGES[:1, 4:12, 4:12]
    extractor = made(SIFT, [1.0], pyramid=[2])
    corners = extractor(torch.from_numpy(image)).reshape(4, -1)
    even = extractor(torch.full((1, 32, 32, 3), 77, dtype=torch.uint8)).reshape(4, -1)
    torch.testing.assert_close(corners[3], even[3])
    assert not torch.allclose(corners[0], even[0], atol=0.1)
