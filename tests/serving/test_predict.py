"""`fieldmark predict` answers or accounts for every input, in order, with few in memory."""

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipeline import FieldmarkError
from pipeline.compute import parallel
from pipeline.evaluation.smoothing import Trailing
from pipeline.exported import model
from pipeline.pixels import sheets
from pipeline.prediction import camera, command, pictures
from pipeline.prediction.answers import AT_ONCE, Answer, answers
from pipeline.prediction.pictures import Picture
from pipeline.prediction.writers import CELL_PX, as_csv, as_pictures, caption

ROOT = Path(model.__file__).parents[2]
RED, GREEN, BLUE, GREY, WHITE = (
    (220, 30, 30),
    (30, 220, 30),
    (30, 30, 220),
    (90, 90, 90),
    (255, 255, 255),
)


def shot(file: Path, colour: tuple[int, int, int]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 50), colour).save(file)
    return file


def film(file: Path, colours: list[tuple[int, int, int]], rate: int = 10) -> Path:
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), rate, (64, 48))
    for colour in colours:
        writer.write(np.full((48, 64, 3), colour[::-1], np.uint8))
    writer.release()
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos in a folder and one below it, with what a person's folder has beside them."""
    photos = tmp_path / "photos"
    for name, colour in (
        ("a.jpg", RED),
        ("b.png", GREEN),
        ("more/c.webp", BLUE),
        ("grey.png", GREY),
        ("white.png", WHITE),
    ):
        shot(photos / name, colour)
    (photos / "cut.jpg").write_bytes((photos / "a.jpg").read_bytes()[:300])
    (photos / "note.txt").write_text("not an image")
    (photos / ".DS_Store").touch()
    return photos


def predict(export: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "predict",
        *map(str, arguments),
        "--model",
        str(export),
    ]
    return subprocess.run(
        line,
        cwd=export.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def ask(
    export: Path, *paths: Path, form: str = "json", source: str = "", max_pixels: int = 10**6
) -> int:
    """The command in this process; returns how many could not be read."""
    return command.predict(
        [*paths],
        source=source,
        model=str(export),
        form=form,
        out=export / "out",
        top=3,
        every_seconds=1.0,
        max_pixels=max_pixels,
    )


def shots(*paths: Path, every_seconds: float = 0.5) -> Iterator[Picture]:
    return pictures.pictures(paths, every_seconds=every_seconds, max_pixels=10**6)


def answers_of(export: Path, *paths: Path) -> list[Answer]:
    return [answer for answer, _ in answers(model.load(export), shots(*paths), top=3)]


def test_json_has_a_line_for_everything_and_the_exit_code_tells_of_what_could_not_be_read(
    export: Path, folder: Path
) -> None:
    done = predict(export, folder, "--top", "2")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["name"]).name for line in lines] == [
        "a.jpg",
        "b.png",
        "cut.jpg",
        "grey.png",
        "note.txt",
        "white.png",
        "c.webp",
    ]
    assert [line["top"][0]["class"] for line in lines[:2]] == ["red", "green"]
    assert [len(line["top"]) for line in lines if "top" in line] == [2] * 5
    assert {
        Path(line["name"]).name: line["error"].split(":")[0] for line in lines if "error" in line
    } == {
        "cut.jpg": "truncated",
        "note.txt": "not an image of a known format (AVIF, BMP, GIF, JPEG, JPEG2000, PNG, PPM, "
        "TIFF, WEBP)",
    }
    assert done.returncode == 1
    assert "not read:" in done.stderr and "note.txt" in done.stderr


def test_a_phones_own_format_comes_with_what_to_do(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "IMG_1.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    assert ask(export, tmp_path / "IMG_1.heic") == 1
    assert "save as JPEG; on an iPhone: Settings, Camera, Formats" in capsys.readouterr().err


def test_a_pipe_among_the_photos_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "camera.jpg")
    os.mkfifo(tmp_path / "camera.mp4")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("it waits for ever"))
    assert [shot.error for shot in shots(tmp_path)] == ["neither a file nor a folder"] * 2


def test_doubt_and_strangeness_are_flags(export: Path, folder: Path) -> None:
    grey, white, red = answers_of(
        export, folder / "grey.png", folder / "white.png", folder / "a.jpg"
    )
    assert (grey.abstain, grey.ood) == (True, False)
    assert (white.abstain, white.ood, white.ood_score) == (True, True, pytest.approx(255))
    assert (red.abstain, red.ood, red.top[0][0]) == (False, False, "red")


def test_csv_reads_back_and_is_whole_when_all_could_be_read(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shot(tmp_path / 'a "quoted", name.png', RED)
    assert ask(export, file, form="csv") == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["name"], row["class"], row["abstain"], row["ood"], row["error"]) == (
        str(file),
        "red",
        "false",
        "false",
        "",
    )
    assert float(row["prob"]) > 0.9


def test_annotated_pictures_hold_the_picture_and_more(
    export: Path, tmp_path: Path, folder: Path
) -> None:
    command.run(model.load(export), shots(folder), as_pictures(tmp_path / "out"), top=3)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "00001-a.jpg.png",
        "00002-b.png.png",
        "00003-grey.png.png",
        "00004-white.png.png",
        "00005-c.webp.png",
    ]
    picture = np.asarray(Image.open(tmp_path / "out" / names[1]).convert("RGB"))
    assert (np.abs(picture.astype(int) - GREEN).max(axis=2) < 8).mean() > 0.5
    with pytest.raises(FieldmarkError, match="is not empty"):
        as_pictures(tmp_path / "out")


def test_a_full_disk_leaves_no_half_of_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        as_pictures(tmp_path / "out")(
            Answer("a", [("red", 0.9)]), Picture("a", np.zeros((8, 8, 3), np.uint8))
        )
    assert not list((tmp_path / "out").iterdir())


def test_the_caption_says_doubt_in_words() -> None:
    top = [("red", 0.43), ("green", 0.4)]
    assert caption(Answer("a", top)) == "red (43%)"
    assert (
        caption(Answer("a", top, abstain=True, ood=True))
        == "not sure: perhaps\nred (43%)\na strange image"
    )


def test_no_word_of_an_answer_is_cut_off_below_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda pen, at, text, **how: written.append(text)
    )
    for abstain in (True, False):
        text = caption(
            Answer(
                "a", [("moderately cracked monocrystalline cell", 0.43)], abstain=abstain, ood=True
            )
        )
        sheets.sheet([np.zeros((8, 8, 3), np.uint8)], [text], columns=1, cell_px=CELL_PX)
    assert len(written) > 6 and not [line for line in written if "…" in line]


def test_a_video_is_sampled(export: Path, tmp_path: Path) -> None:
    file = film(tmp_path / "film.avi", [RED] * 5 + [GREEN] * 5 + [BLUE] * 5)
    sampled = answers_of(export, file)
    assert [(answer.name.rpartition("#")[2], answer.top[0][0]) for answer in sampled] == [
        ("t=0.000", "red"),
        ("t=0.500", "green"),
        ("t=1.000", "blue"),
    ]


def test_a_single_odd_frame_is_smoothed_away_and_a_change_shows_half_a_window_later(
    export: Path, tmp_path: Path
) -> None:
    """A film of ten frames a second with known content, smoothed over half a second."""
    file = film(tmp_path / "film.avi", [RED] * 8 + [GREEN] + [RED] * 8 + [BLUE] * 8)
    frames = shots(file, every_seconds=0.1)
    calm = [
        answer.top[0][0]
        for answer, _ in answers(model.load(export), frames, top=1, smoothing=Trailing(0.5))
    ]
    assert calm[:17] == ["red"] * 17
    assert calm[17:].index("blue") == 2 and set(calm[19:]) == {"blue"}


def test_what_is_not_there_is_said_before_any_work(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FieldmarkError, match=r"gone.png: there is no such file or folder"):
        ask(export / "not loaded yet", shot(tmp_path / "a.png", RED), tmp_path / "gone.png")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("paths", "source"), [([], ""), ([Path("a.png")], "0")])
def test_either_files_or_a_camera_must_be_named(
    export: Path, paths: list[Path], source: str
) -> None:
    with pytest.raises(
        FieldmarkError, match="name files or folders to look at, or a --camera, and not both"
    ):
        ask(export, *paths, source=source)


def test_an_image_beyond_the_limit_is_not_decoded(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(export, shot(tmp_path / "a.png", RED), max_pixels=1000) == 1
    assert "megapixels exceed the limit" in json.loads(capsys.readouterr().out)["error"]


def test_only_a_few_pictures_are_in_memory(export: Path) -> None:
    """A folder of a million photos must not end a process."""
    n_drawn = 0

    def many() -> Iterator[Picture]:
        nonlocal n_drawn
        for n_drawn in range(1, 1001):  # noqa: B007
            yield Picture(str(n_drawn), np.zeros((8, 8, 3), np.uint8))

    stream = answers(model.load(export), many(), top=1)
    for _ in range(40):
        next(stream)
    assert 40 <= n_drawn <= 40 + AT_ONCE


def test_of_large_pictures_fewer_are_in_memory(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.prediction.answers.PIXELS_AT_ONCE", 200)
    references: list[weakref.ref[np.ndarray]] = []

    def large() -> Iterator[Picture]:
        for name in range(40):
            pixels = np.full((10, 10, 3), 99, np.uint8)
            references.append(weakref.ref(pixels))
            # the new one, the last one answered, and two of a portion
            assert sum(each() is not None for each in references) <= 4
            yield Picture(str(name), pixels)
            del pixels

    stream = answers(model.load(export), large(), top=1)
    assert [answer.name for answer, _ in stream] == [str(name) for name in range(40)]


def test_hardly_more_is_decoded_than_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        shot(tmp_path / f"{number:02d}.png", RED)
    read, decode = [], pictures.images.decode
    monkeypatch.setattr(
        pictures.images, "decode", lambda data, **limits: read.append(1) or decode(data, **limits)
    )
    stream = pictures.pictures([tmp_path], every_seconds=1.0, max_pixels=10**6)
    next(stream)
    assert len(read) <= 1 + parallel.N_CORES
    assert len(list(stream)) == 39


def test_a_file_played_as_a_stream_drops_what_comes_too_fast(tmp_path: Path) -> None:
    """But never the newest."""
    stream, before = (
        camera.frames(str(film(tmp_path / "film.avi", [GREY] * 30, rate=30))),
        {*threading.enumerate()},
    )
    first = next(stream)
    (follower,) = {*threading.enumerate()} - before
    follower.join()  # all of the film has come meanwhile
    numbers = [int(picture.name.rpartition("=")[2]) for picture in [first, *stream]]
    assert numbers in ([numbers[0], 29], [29])


def test_a_stream_goes_through_the_model(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = film(tmp_path / "film.avi", [BLUE] * 5, rate=30)
    assert ask(export, source=str(file)) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines and {line["top"][0]["class"] for line in lines} == {"blue"}


def test_a_camera_that_is_put_away_ends_its_thread(tmp_path: Path) -> None:
    stream, before = (
        camera.frames(str(film(tmp_path / "film.avi", [GREY] * 100, rate=10))),
        {*threading.enumerate()},
    )
    next(stream)
    (follower,) = {*threading.enumerate()} - before
    stream.close()  # type: ignore[attr-defined]
    assert not follower.is_alive()


def test_a_camera_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FieldmarkError, match="cannot be opened"):
        next(camera.frames(str(tmp_path / "none.avi")))


def test_no_torch_and_no_mlflow_is_loaded(export: Path, folder: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from pipeline.prediction import command
command.predict([Path({str(folder)!r})], source="", model={str(export)!r}, form="csv", out=Path("x"), top=3, every_seconds=1.0, max_pixels=10**6)
print(sorted({{"torch", "mlflow", "pytorch_lightning", "optuna", "matplotlib"}} & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().endswith("[]")


@pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")
def test_no_version_in_production_is_said_with_what_to_do(
    project: Path, empty_store: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    with pytest.raises(
        FieldmarkError, match="no version of fieldmark has the alias production; promote one"
    ):
        command.named("production")


def test_a_line_of_csv_is_out_before_the_next_picture_is_asked_for(
    export: Path, tmp_path: Path
) -> None:
    out, n_lines = tmp_path / "out.csv", []

    def watched() -> Iterator[Picture]:
        for name in "ab":
            n_lines.append(out.read_text().count("\n"))
            yield Picture(name, np.zeros((8, 8, 3), np.uint8))

    with out.open("w") as stream:
        command.run(model.load(export), watched(), as_csv(stream), top=1, live=True)
    assert n_lines == [1, 2]
