from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline import FieldmarkError
from pipeline.pixels.images import decode
from pipeline.sources import Item, Skipped, video

EVERY: dict[str, Any] = {"every_seconds": 0.5, "scene_change": None, "min_difference": 0.01}


def read(images: Path, **changes: Any) -> list[Item | Skipped]:
    return list(video.read(images=images, **{**EVERY, **changes}))


def film(path: Path, greys: list[int]) -> Path:
    """Ten frames a second, each of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for grey in greys:
        writer.write(np.full((48, 64, 3), grey, np.uint8))
    writer.release()
    return path


def items(entries: list[Item | Skipped]) -> list[Item]:
    return [entry for entry in entries if isinstance(entry, Item)]


def test_a_frame_is_taken_every_so_often(tmp_path: Path) -> None:
    film(tmp_path / "cat" / "1.avi", list(range(0, 200, 10)))
    frames = items(read(tmp_path))
    assert [(i.name, i.label, i.group) for i in frames] == [
        (f"cat/1.avi#t={seconds}", "cat", "cat/1.avi")
        for seconds in ("0.000", "0.500", "1.000", "1.500")
    ]
    greys = [decode(item.load(), max_pixels=None).mean() for item in frames]
    assert greys == pytest.approx([0, 50, 100, 150], abs=3)


def test_near_identical_frames_are_dropped_and_counted(tmp_path: Path) -> None:
    film(tmp_path / "cat" / "1.avi", [0] * 10 + [90] * 10)
    entries = read(tmp_path, every_seconds=0.1)
    assert [item.name for item in items(entries)] == ["cat/1.avi#t=0.000", "cat/1.avi#t=1.000"]
    assert entries[-1] == Skipped(
        "cat/1.avi", "18 frames dropped, near-identical to the one before"
    )


def test_a_scene_is_one_frame(tmp_path: Path) -> None:
    film(tmp_path / "cat" / "1.avi", [0] * 7 + [90] * 6 + [200] * 7)
    frames = read(tmp_path, scene_change=0.1)
    assert [entry.name for entry in frames] == [
        f"cat/1.avi#t={t}" for t in ("0.000", "0.700", "1.300")
    ]


def test_the_same_video_gives_the_same_bytes(tmp_path: Path) -> None:
    film(tmp_path / "cat" / "1.avi", [0, 90, 200])
    assert [i.load() for i in items(read(tmp_path))] == [i.load() for i in items(read(tmp_path))]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "text, not a video"),
        (bytes(range(256)) * 9, "not a video that can be read"),
    ],
)
def test_what_is_no_video_is_left_out(tmp_path: Path, content: bytes, reason: str) -> None:
    film(tmp_path / "cat" / "1.avi", [0])
    (tmp_path / "cat" / "2.mp4").write_bytes(content)
    assert read(tmp_path)[-1] == Skipped("cat/2.mp4", reason)


def test_of_a_truncated_video_the_frames_before_the_cut_are_taken(tmp_path: Path) -> None:
    file = film(tmp_path / "cat" / "1.avi", list(range(0, 200, 4)))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    entries = read(tmp_path)
    assert 0 < len(items(entries)) < 10
    assert "truncated" in entries[-1].reason  # type: ignore[union-attr]


def test_an_address_says_that_videos_are_read_here(tmp_path: Path) -> None:
    with pytest.raises(FieldmarkError, match="copy them there first"):
        list(video.read(images="s3://bucket/videos", **EVERY))
