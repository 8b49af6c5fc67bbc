import io
import random
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import FieldmarkError
from pipeline.config import Config, schema
from pipeline.sources import Item, Skipped, archive, folder
from pipeline.stages import ingest

LIMITS = {"max_member_megabytes": 1.0, "max_ratio": 100.0}
FILES = {
    name: np.random.default_rng(i).bytes(600)
    for i, name in enumerate(["a/1.png", "a/deep/2.png", "b/3.png"])
}


def read(file: Path) -> list[Item | Skipped]:
    return list(archive.read(images=file, **LIMITS))


def pack(file: Path, files: dict[str, bytes]) -> Path:
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as packed:
            for name, data in files.items():
                packed.writestr(name, data)
    else:
        with tarfile.open(file, f"w:{file.suffix[1:] if file.suffix != '.tar' else ''}") as tar:  # type: ignore[call-overload]
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return file


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz"])
@pytest.mark.parametrize("above", ["", "./", "photos/", "one/two/"])
def test_an_archive_gives_what_its_folder_would(tmp_path: Path, name: str, above: str) -> None:
    file = pack(tmp_path / name, {above + member: data for member, data in FILES.items()})
    items = [
        (entry.name, entry.label, entry.load()) for entry in read(file) if isinstance(entry, Item)
    ]
    for member, data in FILES.items():
        (tmp_path / "out" / member).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / member).write_bytes(data)
    plain = [e for e in folder.read(images=tmp_path / "out") if isinstance(e, Item)]
    assert items == [(item.name, item.label, item.load()) for item in plain]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_zip_is_read_however_it_is_packed_and_whatever_stands_before_it(
    tmp_path: Path, method: int
) -> None:
    file = tmp_path / "x.zip"
    file.write_bytes(b"#!/bin/sh\n")
    with zipfile.ZipFile(file, "a", method) as packed:
        for name, data in {**FILES, "b/empty.png": b"", "b/long.png": bytes(300_000)}.items():
            packed.writestr(name, data)
    assert {e.name: e.load() for e in read(file) if isinstance(e, Item)} == {
        **FILES,
        "b/empty.png": b"",
        "b/long.png": bytes(300_000),
    }


def test_a_zip_packed_in_a_way_that_cannot_be_bounded_says_what_to_do(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_LZMA) as packed:
        packed.writestr("a/1.png", bytes(300))
    (item,) = read(tmp_path / "x.zip")
    assert isinstance(item, Item)
    with pytest.raises(OSError, match="compress it anew"):
        item.load()


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_the_order_in_an_archive_changes_nothing(tmp_path: Path, name: str) -> None:
    shuffled = random.Random(0).sample([*FILES.items()], len(FILES))
    assert [e.name for e in read(pack(tmp_path / name, dict(shuffled)))] == [*FILES]


def test_splits_litter_and_loose_files_are_as_in_a_folder(tmp_path: Path) -> None:
    file = pack(
        tmp_path / "x.zip", {"train/a/1": b"1", "val/a/2": b"2", "note.txt": b"", "__MACOSX/x": b""}
    )
    entries = read(file)
    assert [(e.name, e.given_split) for e in entries if isinstance(e, Item)] == [
        ("train/a/1", "train"),
        ("val/a/2", "val"),
    ]
    assert [e.name for e in entries if isinstance(e, Skipped)] == ["__MACOSX", "note.txt"]


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    entries = read(pack(tmp_path / "x.zip", {"a/1": b"1", "b/": b""}))
    assert Skipped("b/", "class folder holds no files") in entries


def test_a_truncated_archive_is_named_without_its_folder(tmp_path: Path) -> None:
    file = pack(tmp_path / "x.zip", FILES)
    file.write_bytes(file.read_bytes()[:-60])
    entries = read(file)
    assert entries[0] == Skipped(
        "x.zip", "truncated or damaged archive: only files before the damage are read"
    )
    assert [entry.load() for entry in entries[1:] if isinstance(entry, Item)] == [*FILES.values()]


def test_a_class_folder_alone_is_not_looked_through(tmp_path: Path) -> None:
    entries = read(pack(tmp_path / "x.zip", {"cat/1": b"1", "cat/2": b"2"}))
    assert [(e.name, e.label) for e in entries if isinstance(e, Item)] == [
        ("cat/1", "cat"),
        ("cat/2", "cat"),
    ]


def test_images_load_after_the_source_has_ended_and_the_file_is_closed_then(tmp_path: Path) -> None:
    items = [entry for entry in read(pack(tmp_path / "x.zip", FILES)) if isinstance(entry, Item)]
    assert [item.load() for item in reversed(items)] == [*FILES.values()][::-1]


def test_nothing_is_written(tmp_path: Path) -> None:
    images = {}
    for seed, name in enumerate(["a/1.png", "b/2.png"]):
        stream = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (9, 9, 3), np.uint8)).save(
            stream, "PNG"
        )
        images[name] = stream.getvalue()
    file = pack(tmp_path / "x.tar.gz", images)
    source = {"_target_": "pipeline.sources.archive.read", **LIMITS}
    settings = schema.Ingest(source=source, max_megapixels=1.0)
    ingest.run(
        Config(ingest=settings), images=file, feedback=tmp_path / "none", out=tmp_path / "out"
    )
    assert {path.name for path in tmp_path.rglob("*.png")} == set()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "neither a zip nor a tar"),
        (b"text", "neither a zip nor a tar"),
        (b"PK\x03\x04", "holds no class folders"),
    ],
)
def test_what_is_no_archive_says_so(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(FieldmarkError, match=message):
        read(tmp_path / "x.zip")


def test_a_missing_archive_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        FieldmarkError, match="cannot be opened: No such file.*`images:` in params.yaml"
    ):
        read(tmp_path / "x.zip")
