"""Fieldmark and DVC look at one folder by two walks: where they would differ is told before DVC
starts.
"""

import io
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dvc.fs import localfs
from dvc.ignore import DvcIgnoreFilter
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_data.hashfile.state import State
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli
from pipeline.config import Config, schema
from pipeline.sources import Item, Skipped, folder, obstacles
from pipeline.sources.names import printable
from pipeline.stages import ingest
from pipeline.storage import csvs, table

LATIN = os.fsdecode(b"caf\xe9")  # a name in ISO 8859-1
SOURCE = {"_target_": "pipeline.sources.folder.read", "class_level": 1}


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes in a DVC project, and something elsewhere that links can point to."""
    return a_project(tmp_path, monkeypatch)


def a_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (root / "project" / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(root / "project")
    (root / "elsewhere").mkdir()
    write(root / "elsewhere" / "shoe.png")
    images = root / "project" / "data" / "images"
    for name in ("ant/1.png", "bee/2.png"):
        write(images / name)
    return images


def write(path: Path) -> None:
    """An image that no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(os.fsencode(path)[-64:], "big")
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    path.write_bytes(stream.getvalue())


def a_socket(path: Path) -> None:
    """Bound by a short name, as an address has little room."""
    before = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as ear:
        ear.bind(path.name)
    os.chdir(before)


def a_project_inside(path: Path) -> None:
    write(path / "1.png")
    (path / ".dvc").mkdir()


ODD: dict[str, Callable[[Path], None]] = {
    "a link to a folder": lambda path: path.symlink_to(Path.cwd().parent / "elsewhere"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": lambda path: os.mkfifo(path),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a socket": a_socket,
    "a DVC project": a_project_inside,
}


def digested(images: Path) -> set[str] | None:
    """The files that DVC hashes; None where it stops at the folder."""
    project = str(Path.cwd())
    state = State(root_dir=project, tmp_dir=f"{project}/.dvc/tmp")
    odb = LocalHashFileDB(localfs, f"{project}/.dvc/odb", state=state, tmp_dir=project)
    try:
        view = DvcIgnoreFilter(localfs, project)
        tree = build(odb, str(images), localfs, "md5", dry_run=True, ignore=view)[2]
    except Exception:  # whatever it comes up with
        return None
    finally:
        state.close()
    return {"/".join(key) for key, _, _ in tree}


def refusal(images: Path) -> str:
    with pytest.raises(FieldmarkError) as error:
        obstacles.check([images])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("where", ["", "ant/", "ant/deep/"])
@pytest.mark.parametrize("kind", ODD)
def test_what_dvc_cannot_take_is_named_with_the_remedy(images: Path, kind: str, where: str) -> None:
    (images / where).mkdir(exist_ok=True)
    assert not list(obstacles.obstacles(images))
    ODD[kind](images / where / "odd")
    assert re.search(rf"data/images/{where}odd: .*: .*(delete|replace|move)", refusal(images))


def test_images_may_be_a_link_which_dvc_follows(images: Path) -> None:
    images.rename("photos")
    images.symlink_to("../photos")
    assert not list(obstacles.obstacles(images)) and digested(images) == {"ant/1.png", "bee/2.png"}
    write(images / "bee" / "3.png")
    assert "bee/3.png" in (digested(images) or set())


def test_images_that_are_a_dvc_project_of_their_own_are_named(images: Path) -> None:
    (images / ".dvc").mkdir()
    assert "data/images: a DVC project inside this one" in refusal(images)


def test_a_name_that_is_no_utf8_is_named_in_letters_that_can_be_written(images: Path) -> None:
    write(images / "ant" / f"{LATIN}.png")
    assert digested(images) is None
    assert r"caf\xe9.png: a name that is no UTF-8" in refusal(images)


def test_a_folder_that_cannot_be_listed_is_named(images: Path) -> None:
    at = os.open(images / "ant", os.O_RDONLY)
    for _ in range(20):  # too long a path, which is refused to root as well
        os.mkdir("x" * 250, dir_fd=at)
        at = os.open("x" * 250, os.O_RDONLY, dir_fd=at)
    assert "a folder that may not be listed" in refusal(images)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(images: Path) -> None:
    (images / "ant" / "1.png").chmod(0)
    assert "ant/1.png: may not be read" in refusal(images)


def test_several_are_counted_and_all_listed_by_check(images: Path) -> None:
    for number in range(30):
        (images / "ant" / f"{number:02d}").symlink_to("nowhere")
    assert "ant/00: a link to nothing" in refusal(images) and "(29 more: " in refusal(images)
    lines = obstacles.describe(images)
    assert lines[0] == "`dvc repro` will not start because of 30:" and lines[-1] == "  10 more"
    cfg = Config(ingest=schema.Ingest(source=SOURCE, max_megapixels=1.0))
    assert ingest.check(cfg, images=images).splitlines()[-len(lines) :] == lines


def test_a_link_to_a_folder_that_is_read_in_its_own_place_stands_in_no_ones_way(
    images: Path,
) -> None:
    (images / "ant" / "again").symlink_to("../bee")
    (images / "ant" / "round").symlink_to("../..", target_is_directory=True)
    assert [o.path.name for o in obstacles.obstacles(images)] == ["round"]  # it leads out of it


@pytest.mark.parametrize("kind", ["a link to a folder", "a DVC project"])
def test_what_dvc_does_not_see_of_what_is_left_out_anyway_is_no_matter(
    images: Path, kind: str
) -> None:
    (images / "@eaDir").mkdir()
    ODD[kind](images / "@eaDir" / "odd")
    ODD[kind](images / ".odd")
    assert not list(obstacles.obstacles(images))


def test_what_dvc_stops_at_matters_in_hidden_folders_too(images: Path) -> None:
    (images / ".trash").mkdir()
    (images / ".trash" / "gone.png").symlink_to("nowhere")
    assert digested(images) is None and ".trash/gone.png" in refusal(images)


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        (".dvcignore", "*.tmp.png"),
        (".dvcignore", "/data/images/ant/x.tmp.png"),
        ("data/.dvcignore", "x.*"),
    ],
)
def test_what_dvcignore_names_is_not_read_behind_its_back(
    images: Path, file: str, pattern: str
) -> None:
    write(images / "ant" / "x.tmp.png")
    Path(file).write_text(f"# what DVC leaves out\n__pycache__/\n{pattern}\n")
    assert "ant/x.tmp.png" not in (digested(images) or set())
    assert "ant/x.tmp.png: left out by DVC" in refusal(images)
    Path(file).write_text("__pycache__/\n")
    assert not list(obstacles.obstacles(images))


def test_a_dvcignore_among_the_images_is_named(images: Path) -> None:
    (images / "ant" / ".dvcignore").write_text("*.tmp\n")
    assert digested(images) is None and "ant/.dvcignore: DVC stops" in refusal(images)


def test_a_dvcignore_counts_only_inside_its_project(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".dvcignore").write_text("*.png\n")
    photos = tmp_path / "photos"
    write(photos / "ant" / "1.png")
    assert digested(photos) == {"ant/1.png"} and not list(obstacles.obstacles(photos))


NAMES = ["cat", "dog", "train", "a.png", "b.png", "c.txt", ".hidden", "@eaDir", "Thumbs.db", LATIN]
NAMES += ["#recycle", "__pycache__", ".git", ".dvc", ".dvcignore", "README.md", "a b", "é.png"]
KINDS = ["file", "file", "file", "folder", "link to a file", "link to a folder inside", *ODD]
THINGS = st.lists(
    st.tuples(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), st.sampled_from(KINDS)),
    max_size=10,
)


def place(images: Path, parts: list[str], kind: str) -> None:
    """As far as what is there already allows it."""
    path = images.joinpath(*parts)
    if parts[0] == ".dvc":  # makes all of it a project, which has a test of its own
        return
    if any(os.path.lexists(above) and not above.is_dir() for above in path.parents):
        return
    if os.path.lexists(path) or not path.parent.resolve().is_relative_to(images):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        write(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a file":
        path.symlink_to(Path.cwd().parent / "elsewhere" / "shoe.png")
    elif kind == "link to a folder inside":
        path.symlink_to(images / "ant", target_is_directory=True)
    elif path.name != ".dvcignore":
        ODD[kind](path)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@settings(max_examples=20)  # each writes to disk
@example([([".hidden", "gone"], "a link to nothing"), (["cat", ".dvc"], "folder")])
@example([([".dvcignore", "a.png"], "file"), ([".hidden", ".dvcignore"], "file")])
@example([(["cat", LATIN, "a.png"], "file"), (["@eaDir", "a.png"], "a pipe")])
@given(THINGS)
def test_check_and_ingest_and_dvc_give_one_account_of_a_folder(
    tmp_path_factory: pytest.TempPathFactory, things: list[tuple[list[str], str]]
) -> None:
    """Whatever lies in it: either it is refused for a reason that DVC has, too, or all agree."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("account")
        patch.setenv("FIELDMARK_CACHE", str(root / "cache"))
        images = a_project(root, patch)
        for parts, kind in things:
            place(images, parts, kind)
        refused = [obstacle.path for obstacle in obstacles.obstacles(images)]
        if refused:
            _refusal_has_a_reason(images, refused)
        while refused:  # what the message advises may uncover more
            for path in refused:
                remove(path)
            refused = [obstacle.path for obstacle in obstacles.obstacles(images)]
        _all_agree(images, root / "out")


def _refusal_has_a_reason(images: Path, refused: list[Path]) -> None:
    pipes = [path for path in images.rglob("*") if path.is_fifo() or path.is_char_device()]
    by_dvc = None if pipes else digested(images)  # DVC would wait for ever
    hashed = [images / name for name in by_dvc or ()]
    unseen = [path for path in refused if not any(p == path or path in p.parents for p in hashed)]
    assert by_dvc is None or unseen


def _all_agree(images: Path, out: Path) -> None:
    entries = list(folder.read(images=images, class_level=1))
    taken_in = {entry.name for entry in entries if isinstance(entry, Item)}
    left_out = {entry.name.rstrip("/") for entry in entries if isinstance(entry, Skipped)}
    by_dvc = digested(images)
    assert by_dvc is not None and taken_in <= by_dvc
    for name in by_dvc - taken_in - {"README.md"}:
        above = {name, *map(str, Path(name).parents)}
        assert above & left_out, name
    cfg = Config(ingest=schema.Ingest(source=SOURCE, max_megapixels=1.0))
    assert ingest.check(cfg, images=images).startswith(f"{len(taken_in)} files in ")
    ingest.run(cfg, images=images, feedback=images / "none", out=out)
    quarantined = {name.rstrip("/") for name in csvs.read(out / "quarantine.csv")["name"]}
    packed = set(table.read(out)["name"])
    assert packed | quarantined == taken_in | left_out and not packed & left_out


def test_a_listing_or_an_archive_is_a_file_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").touch()
    assert not list(obstacles.obstacles(tmp_path / "photos.zip"))
    os.mkfifo(tmp_path / "labels.csv")
    assert "labels.csv: a pipe" in refusal(tmp_path / "labels.csv")
    assert not list(obstacles.obstacles("s3://bucket/photos"))


def test_the_check_before_dvc_looks_at_all_that_people_fill(project: Path) -> None:
    for place in ("data/decisions", "data/feedback", "data/images"):
        (project / place / "gone").symlink_to("nowhere")
        with pytest.raises(FieldmarkError, match=f"^{place}/gone: a link to nothing"):
            CliRunner().invoke(cli.app, ["config", "--check"], catch_exceptions=False)
        (project / place / "gone").unlink()


def test_ingest_by_itself_refuses_what_dvc_did_not_see(project: Path) -> None:
    (project / "data" / "images" / "shoes").symlink_to(project.parent)
    with pytest.raises(FieldmarkError, match="shoes: a link to a folder, in which DVC"):
        CliRunner().invoke(cli.app, ["ingest"], catch_exceptions=False)


def test_a_pipe_that_came_after_the_last_repro_is_named_by_the_next(project: Path) -> None:
    """DVC would wait for it for ever, and runs the check though params.yaml is the same."""

    def repro(*stages: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["dvc", "repro", *stages], capture_output=True, text=True, check=False, timeout=300
        )

    assert repro("config").returncode == 0
    os.mkfifo(project / "data" / "images" / "camera.jpg")
    done = repro()
    assert done.returncode != 0 and "Running stage 'ingest'" not in done.stdout
    assert "data/images/camera.jpg: a pipe, socket or device" in done.stdout + done.stderr


def test_names_are_told_as_they_are_printed_elsewhere(images: Path) -> None:
    (images / "ant" / "a\nb").symlink_to("nowhere")
    assert printable("a\nb") in refusal(images)


@pytest.mark.parametrize(
    ("name", "content", "stops"),
    [
        ("dvc.yaml", "stages: {other: {cmd: rm -r data}}", True),
        ("dvc.yaml", "stages: 5", True),
        ("photo.jpg.dvc", "the camera's own", True),
        ("photo.jpg.dvc", "outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  path: p.jpg\n", False),
        ("my-dvc.yaml", "stages: 5", False),
    ],
)
@pytest.mark.parametrize("folder", ["ant", ".hidden"])
def test_what_dvc_takes_for_a_part_of_its_pipeline_is_told(
    project: Path, folder: str, name: str, content: str, stops: bool
) -> None:
    place = project / "data" / "images" / folder
    place.mkdir(exist_ok=True)
    (place / name).write_text(content)
    lines = map(str, obstacles.obstacles(place.parent))
    assert any(f"{name}: a file that DVC takes for a part" in line for line in lines) == stops
