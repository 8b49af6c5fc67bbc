"""A look at an image is taken once: what was seen before comes from the cache, whatever stands
beside it.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packing import write_images
from PIL import Image
from skimage import data

from pipeline.labels import duplicates, quality, scan
from pipeline.storage import memo

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 30, 3), np.uint8)
IDS = [f"id{i:02d}" for i in range(12)]


def how(size_px: int, blur_faces: bool = False) -> dict[str, Any]:
    return {"size_px": size_px, "blur_faces": blur_faces}


def packed(folder: Path, which: range) -> Path:
    files = []
    for i in which:
        file = io.BytesIO()
        Image.fromarray(PIXELS[i]).save(file, "PNG")
        files.append((IDS[i], file.getvalue()))
    write_images(folder, files)
    return folder


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for each image that is decoded."""
    monkeypatch.setattr(scan, "EVERY", 4)
    seen: list[int] = []
    decode = scan._decoded

    def noted(data: bytes) -> np.ndarray:
        seen.append(1)
        return decode(data)

    monkeypatch.setattr(scan, "_decoded", noted)
    return seen


def test_a_look_holds_what_the_pixels_say(tmp_path: Path) -> None:
    folder = packed(tmp_path / "ingest", range(12))
    found, squares = scan.looks(folder, **how(16)), scan.Squares(folder, **how(16))
    for i, pixels in enumerate(PIXELS):
        np.testing.assert_array_equal(found["hash"][i], duplicates.perceptual_hash(pixels))
        assert found["scores"][i].tolist() == [
            quality.scores(pixels)[figure] for figure in quality.FIGURES
        ]
        assert found["key"][i] == memo.item(squares[i])
    np.testing.assert_array_equal(squares.stack(np.array([3, 1])), [squares[3], squares[1]])
    assert squares.stack(np.array([], int)).shape == (0, 16, 16, 3)


def test_squares_of_many_images_take_little_memory(tmp_path: Path) -> None:
    """A process that computes features of 100,000 images gets next to nothing beside the
    network.
    """
    write_images(tmp_path, ((f"{number:064x}", b"") for number in range(2000)))
    squares = scan.Squares(tmp_path, **how(16))
    assert len(squares) == 2000 and len(pickle.dumps(squares)) < 2000


def test_the_second_time_nothing_is_decoded(tmp_path: Path, decoded: list[int]) -> None:
    folder = packed(tmp_path / "ingest", range(12))
    first = scan.looks(folder, **how(16))
    assert len(decoded) == 12
    np.testing.assert_array_equal(
        scan.looks(packed(tmp_path / "other", range(11, -1, -1)), **how(16)), first[::-1]
    )
    assert len(decoded) == 12


def test_only_new_images_are_looked_at(tmp_path: Path, decoded: list[int]) -> None:
    scan.looks(packed(tmp_path / "first", range(8)), **how(16))
    decoded.clear()
    scan.looks(packed(tmp_path / "second", range(12)), **how(16))
    assert len(decoded) == 4


def test_another_size_is_another_look(tmp_path: Path, decoded: list[int]) -> None:
    folder = packed(tmp_path / "ingest", range(12))
    assert (
        scan.looks(folder, **how(16))["key"].tolist()
        != scan.looks(folder, **how(8))["key"].tolist()
    )
    assert len(decoded) == 24


def test_after_a_kill_what_was_kept_is_not_looked_at_again(
    tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = packed(tmp_path / "ingest", range(12))
    scores, scored = quality.scores, []

    def failing(pixels: np.ndarray) -> dict[str, float]:
        scored.append(1)
        if len(scored) > 9:
            raise KeyboardInterrupt
        return scores(pixels)

    monkeypatch.setattr("pipeline.compute.parallel.AHEAD", 1)
    monkeypatch.setattr("pipeline.compute.parallel.N_CORES", 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(quality, "scores", failing)
        scan.looks(folder, **how(16))
    decoded.clear()
    again = scan.looks(folder, **how(16))
    assert len(decoded) == 4
    assert (again["key"] != b"").all()


def test_blurred_faces_are_another_look(tmp_path: Path) -> None:
    """Or else what was learnt from the faces would come back from the cache."""
    file = io.BytesIO()
    Image.fromarray(data.astronaut()).save(file, "PNG")
    write_images(tmp_path / "ingest", [("a", file.getvalue())])
    plain, blurred = (
        scan.looks(tmp_path / "ingest", **how(64, blur))["key"][0] for blur in (False, True)
    )
    shown = scan.Squares(tmp_path / "ingest", **how(64, blur_faces=True))[0]
    assert plain != blurred == memo.item(shown)
