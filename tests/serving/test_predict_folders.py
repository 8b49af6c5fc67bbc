"""What `fieldmark predict` finds below a folder: everything is answered, accounted for, or its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.exported import model
from pipeline.prediction import pictures, traces
from pipeline.sources.signatures import is_video

ROOT = Path(model.__file__).parents[2]


def shot(file: Path, shade: int = 90) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 50), (shade, 90, 90)).save(file)
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(3):
        shot(tmp_path / "photos" / f"{number}.jpg", 80 * number)
    return tmp_path / "photos"


def shots(*paths: Path, own: pictures.Own | None = None) -> list[tuple[str, str]]:
    """Name and error of each."""
    stream = pictures.pictures(paths, every_seconds=0.5, max_pixels=10**6, own=own)
    return [(Path(shot.name).name, shot.error) for shot in stream]


def predict(export: Path, line: str) -> subprocess.CompletedProcess[str]:
    """By a shell, beside the photos, as people redirect what it prints."""
    command = f"{sys.executable} -m pipeline.cli predict --model {export} {line}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command,
        shell=True,
        cwd=export.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_linked_is_named_and_the_exit_code_tells_of_it(
    export: Path, photos: Path, tmp_path: Path
) -> None:
    shot(tmp_path / "elsewhere" / "4.jpg")
    (photos / "more").symlink_to(tmp_path / "elsewhere")
    (photos / "gone.jpg").symlink_to("nowhere")
    (photos / "linked.jpg").symlink_to(tmp_path / "elsewhere" / "4.jpg")
    done = predict(export, "photos")
    lines = {Path(line["name"]).name: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert lines["more"]["error"].startswith("a link to a folder, which is not followed: name it")
    assert lines["gone.jpg"]["error"] == "link to nothing"
    assert {name for name, line in lines.items() if "top" in line} == {
        *("0.jpg", "1.jpg", "2.jpg", "linked.jpg")
    }


def test_a_linked_folder_that_is_named_is_looked_into(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    assert len(shots(tmp_path / "link")) == 3


def test_a_circle_of_links_is_not_walked(photos: Path) -> None:
    (photos / "round").symlink_to(".")
    assert [name for name, error in shots(photos) if error] == ["round"]


def test_a_folder_that_cannot_be_listed_is_named(photos: Path) -> None:
    at = os.open(photos, os.O_RDONLY)
    for _ in range(20):  # too long a path, which is refused to root as well
        os.mkdir("x" * 250, dir_fd=at)
        at = os.open("x" * 250, os.O_RDONLY, dir_fd=at)
    *rest, (_, error) = shots(photos)
    assert error == "cannot be listed: File name too long" and len(rest) == 3


@pytest.mark.parametrize(
    "name", ["@eaDir/1.jpg", "#recycle/1.jpg", "lost+found/1.jpg", ".Trash-0/1.jpg", "Thumbs.db"]
)
def test_litter_is_not_looked_at(photos: Path, name: str) -> None:
    (photos / name).parent.mkdir(exist_ok=True)
    shutil.copy(photos / "0.jpg", photos / name)
    assert len(shots(photos)) == 3


@pytest.mark.parametrize("form", ["json", "csv"])
def test_answers_written_beside_the_photos_are_not_read_again(
    export: Path, photos: Path, form: str
) -> None:
    first = predict(export, f"photos --format {form} > photos/answers.csv")
    written = (photos / "answers.csv").read_text()
    shutil.copy(photos / "answers.csv", photos / "of yesterday.txt")
    second = predict(export, f"photos photos/* --format {form} > photos/answers.csv")
    assert (first.returncode, second.returncode) == (0, 1)  # the copy was named by itself
    assert len((photos / "answers.csv").read_text().splitlines()) == 2 * len(
        written.splitlines()
    ) + (form == "json")
    assert "left out, as `fieldmark predict` wrote it: photos/answers.csv, ..." in second.stderr


@pytest.mark.parametrize("out", ["photos/answers", "photos/deep/er"])
def test_pictures_written_among_the_photos_are_not_read_again(
    export: Path, photos: Path, out: str
) -> None:
    for folder in (out, f"{out}-2"):
        done = predict(export, f"photos --format pictures --out {folder}")
        assert done.returncode == 0, done.stderr
        assert len(list((export.parent / folder).iterdir())) == 3
    assert len(shots(photos)) == 3  # whoever writes somewhere else does not read them either


def test_the_mark_in_a_picture_is_no_part_of_what_it_shows(photos: Path) -> None:
    plain = photos / "plain.png"
    shot(plain)
    marked = traces.marked(plain.read_bytes())
    (photos / "marked.png").write_bytes(marked)
    with Image.open(photos / "marked.png") as picture, Image.open(plain) as same:
        picture.verify()
        assert picture.info["Software"] == "fieldmark predict" and picture.size == same.size
    assert np.array_equal(cv2.imread(str(plain)), cv2.imread(str(photos / "marked.png")))
    assert traces.is_own(marked) and not traces.is_own(plain.read_bytes())


def test_a_persons_own_picture_or_table_is_not_taken_for_an_answer() -> None:
    assert not traces.is_own(b"name,class\na.jpg,cat\n")
    assert not traces.is_own(b'{"name": "a.jpg", "label": "cat"}\n')
    assert not traces.is_own(b"")


FORMATS = [("avi", "MJPG"), ("mkv", "MJPG"), ("mp4", "mp4v"), ("m4v", "mp4v"), ("mov", "mp4v")]


@pytest.mark.parametrize(("ending", "codec"), FORMATS)
@pytest.mark.parametrize("name", ["film.{}", "film.jpg", "film", "film.bin"])
def test_a_video_is_one_by_its_content(tmp_path: Path, ending: str, codec: str, name: str) -> None:
    written = tmp_path / f"written.{ending}"
    writer = cv2.VideoWriter(str(written), cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
    for grey in range(0, 200, 20):
        writer.write(np.full((48, 64, 3), grey, np.uint8))
    writer.release()
    written.rename(tmp_path / name.format(ending))
    assert [name.rpartition("#")[2] for name, _ in shots(tmp_path)] == ["t=0.000", "t=0.500"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_an_image_that_is_called_a_video_is_an_image(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "x.mp4", kind)
    assert shots(tmp_path) == [("x.mp4", "")]


def test_what_else_begins_like_a_video() -> None:
    stream = (b"G" + bytes(187)) * 4
    assert is_video(stream) and is_video(bytes(4) + (b"G" + bytes(191)) * 4)
    assert not is_video(b"GIF89a" + stream[6:]) and not is_video(b"") and not is_video(b"G" * 99)
    assert not is_video(b"RIFF\0\0\0\0WEBPVP8 ") and not is_video(b"\0\0\0\x18ftypheic" + bytes(64))
