"""One file that is too large: left out by its size, wherever it comes from, and never in memory."""

import io
import os
import tarfile
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli
from pipeline.config import Config, schema
from pipeline.prediction import pictures
from pipeline.sources import Item, archive, bounded, feedback, torchvision, video
from pipeline.stages import ingest

FILM = 3_000_000_000  # bytes, of which none is on disk
LISTING = {
    "_target_": "pipeline.sources.listing.read",
    "file": "labels.csv",
    "path_column": "path",
    "label_column": "label",
    "group_column": "group",
    "split_column": "split",
    "weight_column": "weight",
    "probability_prefix": "p_",
}


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000


def film(path: Path, n_bytes: int = FILM) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(n_bytes)
    return path


def photos(root: Path) -> Path:
    for seed, name in enumerate(["ant/good.png", "bee/good.png"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


def as_folder(root: Path) -> tuple[Path, dict[str, object]]:
    film(root / "ant" / "film.jpg")
    return root, {"_target_": "pipeline.sources.folder.read"}


def as_listing(root: Path) -> tuple[Path, dict[str, object]]:
    film(root / "ant" / "film.jpg")
    names = [f"{name},{name[:3]}\n" for name in ("ant/film.jpg", "ant/good.png", "bee/good.png")]
    (root / "labels.csv").write_text("path,label\n" + "".join(names))
    return root, {**LISTING}


def as_feedback(root: Path) -> tuple[Path, dict[str, object]]:
    film(root.parent / "feedback" / "film.png")
    return root, {"_target_": "pipeline.sources.folder.read"}


def as_plain_set(root: Path) -> tuple[Path, dict[str, object]]:
    film(root / "ant" / "film.jpg")
    import_module("torchvision.datasets")  # a minute while memory is traced
    name = {"name": "ImageFolder", "root": str(root), "download": False}
    return root, {"_target_": "pipeline.sources.torchvision.read", **name}


@pytest.mark.parametrize("maker", [as_folder, as_listing, as_feedback, as_plain_set])
def test_a_film_among_the_photos_is_left_out_unread(
    tmp_path: Path, maker: Callable[[Path], tuple[Path, dict[str, object]]]
) -> None:
    images, source = maker(photos(tmp_path / "in"))
    settings = schema.Ingest(source=source, max_megapixels=1.0)
    with little_memory():
        figures = ingest.run(
            Config(ingest=settings),
            images=images,
            feedback=tmp_path / "feedback",
            out=tmp_path / "out",
        )
    assert figures["n_images"] == 2
    (row,) = pd.read_csv(tmp_path / "out" / "quarantine.csv").itertuples()
    assert "3000 MB exceed the limit of 500 for one file (max_file_megabytes)" in row.reason


@pytest.mark.usefixtures("project")
def test_check_says_of_a_film_what_ingest_does(tmp_path: Path) -> None:
    film(photos(tmp_path / "in") / "ant" / "film.jpg")
    result = CliRunner().invoke(
        cli.app, ["ingest", "--check", "folder", "--images", str(tmp_path / "in")]
    )
    assert "3000 MB exceed the limit of 500 for one file (max_file_megabytes)" in result.stdout


def test_the_limit_is_that_of_the_configuration_also_for_what_is_known(tmp_path: Path) -> None:
    """What an earlier ingest has noted of a file must not outlive the limit it was read under."""
    root = photos(tmp_path / "in")
    noise = np.random.default_rng(9).integers(0, 256, (99, 99, 3), np.uint8)
    Image.fromarray(noise).save(root / "ant" / "large.png")
    os.utime(root / "ant" / "large.png", (1e9, 1e9))

    def run(limit: float) -> float:
        source = {"_target_": "pipeline.sources.folder.read"}
        settings = schema.Ingest(source=source, max_megapixels=1.0, max_file_megabytes=limit)
        cfg = Config(ingest=settings)
        return ingest.run(cfg, images=root, feedback=tmp_path / "none", out=tmp_path / "out")[
            "n_images"
        ]

    assert [run(1.0), run(0.01), run(1.0)] == [3, 2, 3]


def packed(kind: str) -> bytes:
    stream = io.BytesIO()
    names = {"a/1.png": bytes(10), "b/2.png": bytes(2_000_000)}
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, data in names.items():
                zipped.writestr(name, data)
    else:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for name, data in names.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(("member", "file"), [(1.0, 10**9), (999.0, 10**6)])
def test_a_member_of_an_archive_is_held_to_the_lower_of_both_limits(
    tmp_path: Path, kind: str, member: float, file: int
) -> None:
    (tmp_path / "in").write_bytes(packed(kind))
    entries = archive.read(
        images=tmp_path / "in", max_member_megabytes=member, max_ratio=1e9, max_bytes=file
    )
    assert [entry.name for entry in entries if isinstance(entry, Item)] == ["a/1.png"]


def test_predict_names_a_film_that_is_called_a_photo(tmp_path: Path) -> None:
    film(tmp_path / "film.jpg")
    with little_memory():
        (picture,) = pictures.pictures([tmp_path], every_seconds=1.0, max_pixels=10**6)
    assert picture.pixels is None and "3000 MB exceed the limit of 500" in picture.error


def test_predict_reads_a_pipe_that_is_named_up_to_the_limit(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    def fill() -> None:
        try:
            with (tmp_path / "pipe").open("wb") as pipe:
                pipe.write(bytes(5_000_000))
        except BrokenPipeError:
            pass  # its reader has seen enough

    writer = threading.Thread(target=fill)
    writer.start()
    (picture,) = pictures.pictures(
        [tmp_path / "pipe"], every_seconds=1.0, max_pixels=10**6, max_bytes=10**6
    )
    writer.join(30)
    assert "exceed the limit of 1 for one file" in picture.error


def test_a_video_is_no_file_that_is_read_whole(tmp_path: Path) -> None:
    film(tmp_path / "ant" / "film.mp4")
    with little_memory():
        (entry,) = video.read(
            images=tmp_path, every_seconds=1.0, scene_change=None, min_difference=0.0
        )
    assert "not a video" in entry.reason  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["x.zip", "labels.csv"])
def test_a_pipe_in_the_place_of_an_archive_or_listing_is_not_waited_for(
    tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(FieldmarkError, match="not a file but a folder, pipe"):
        list(
            archive.read(images=tmp_path / name, max_member_megabytes=1.0, max_ratio=1.0)
            if name == "x.zip"
            else ingest.build(LISTING, "ingest", images=tmp_path)
        )


def test_a_photo_of_feedback_and_of_a_set_is_read_as_it_was(tmp_path: Path) -> None:
    root = photos(tmp_path / "in")
    (item,) = feedback.read(root / "ant")
    assert isinstance(item, Item) and item.load() == (root / "ant" / "good.png").read_bytes()
    first, _ = torchvision.read(name="ImageFolder", root=str(root), download=False)
    assert isinstance(first, Item)
    pixels = np.asarray(Image.open(io.BytesIO(first.load())))
    assert (pixels == np.asarray(Image.open(root / "ant" / "good.png"))).all()


@given(content=st.binary(max_size=300), limit=st.integers(0, 300), expected=st.integers(0, 300))
def test_a_stream_is_read_whole_or_not_at_all(content: bytes, limit: int, expected: int) -> None:
    """Whatever size it was thought to have: files grow while they are read."""
    with TemporaryFile() as stream:
        stream.write(content)
        stream.seek(0)
        if len(content) <= limit:
            assert bounded.read_stream(stream, limit, min(expected, limit)) == content
        else:
            with pytest.raises(bounded.TooLarge):
                bounded.read_stream(stream, limit, min(expected, limit))
