import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import FieldmarkError
from pipeline.sources import Item, Skipped, folder
from pipeline.sources.layout import HIDDEN


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def placed(root: Path) -> list[tuple[str, str, str]]:
    return [
        (e.name, e.label, e.given_split) for e in folder.read(images=root) if isinstance(e, Item)
    ]


def skipped(root: Path) -> dict[str, str]:
    return {e.name: e.reason for e in folder.read(images=root) if isinstance(e, Skipped)}


def test_a_class_folder_gives_its_name_to_all_below_it(tmp_path: Path) -> None:
    make(tmp_path, "dog/1.jpg", "cat/b/deep/2.jpg", "cat/a.jpg")
    assert placed(tmp_path) == [
        ("cat/a.jpg", "cat", ""),
        ("cat/b/deep/2.jpg", "cat", ""),
        ("dog/1.jpg", "dog", ""),
    ]


def test_an_item_loads_its_own_bytes(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg", "dog/2.jpg")
    loaded = [e.load() for e in folder.read(images=tmp_path) if isinstance(e, Item)]
    assert loaded == [b"cat/1.jpg", b"dog/2.jpg"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("val", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("test", "test"),
        ("Test", "test"),
    ],
)
def test_a_folder_named_like_a_split_is_one(tmp_path: Path, name: str, split: str) -> None:
    make(tmp_path, f"{name}/cat/1.jpg", ".DS_Store")
    assert placed(tmp_path) == [(f"{name}/cat/1.jpg", "cat", split)]


def test_a_split_name_beside_other_folders_is_a_class(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/1.jpg", "tram/2.jpg")
    assert placed(tmp_path) == [("train/cat/1.jpg", "train", ""), ("tram/2.jpg", "tram", "")]


@pytest.mark.parametrize("above", ["", "train/"])
def test_the_folder_of_unlabelled_images_is_no_class(tmp_path: Path, above: str) -> None:
    make(tmp_path, f"{above}cat/1.jpg", f"{above}dog/2.jpg", "_unlabelled/deep/3.jpg")
    entries = folder.read(images=tmp_path, unlabelled="_unlabelled")
    split = above.rstrip("/")
    assert [(e.name, e.label, e.given_split) for e in entries if isinstance(e, Item)] == sorted(
        [
            ("_unlabelled/deep/3.jpg", "", ""),
            (f"{above}cat/1.jpg", "cat", split),
            (f"{above}dog/2.jpg", "dog", split),
        ]
    )


def test_unlabelled_images_may_lie_inside_a_split(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/1.jpg", "train/new/2.jpg", "test/cat/3.jpg")
    entries = folder.read(images=tmp_path, unlabelled="new")
    assert [(e.label, e.given_split) for e in entries if isinstance(e, Item)] == [
        ("cat", "test"),
        ("cat", "train"),
        ("", "train"),
    ]


def test_loose_files_are_named(tmp_path: Path) -> None:
    make(tmp_path, "readme.txt", "train/cat/1.jpg", "train/loose.jpg")
    assert skipped(tmp_path) == dict.fromkeys(
        ["readme.txt", "train/loose.jpg"], "not inside a class folder"
    )


def test_the_readme_beside_the_class_folders_is_no_image_that_was_left_out(tmp_path: Path) -> None:
    make(tmp_path, "README.md", "cat/README.md", "dog/1.jpg")
    assert skipped(tmp_path) == {} and ("cat/README.md", "cat", "") in placed(tmp_path)


def test_hidden_files_and_litter_are_named(tmp_path: Path) -> None:
    litter = [
        ".git/config",
        ".hidden.jpg",
        "__MACOSX/x",
        "cat/.DS_Store",
        "cat/Thumbs.db",
        "cat/desktop.ini",
    ]
    make(tmp_path, "cat/1.jpg", *litter)
    assert [*skipped(tmp_path)] == [".git", ".hidden.jpg", "__MACOSX", *litter[3:]]
    assert placed(tmp_path) == [("cat/1.jpg", "cat", "")]


@pytest.mark.parametrize("content", [[], ["cats/.DS_Store"]], ids=["nothing", "litter"])
def test_an_empty_class_folder_is_named(tmp_path: Path, content: list[str]) -> None:
    (tmp_path / "cats").mkdir()
    make(tmp_path, *content)
    assert skipped(tmp_path)["cats/"] == "class folder holds no files"


def test_a_link_to_a_file_is_followed_and_one_to_a_folder_is_named(tmp_path: Path) -> None:
    """DVC follows the one, and would notice no change behind the other."""
    make(tmp_path / "elsewhere", "dogs/1.jpg", "2.jpg")
    make(tmp_path / "images", "cat/3.jpg", "cat/.store/4.jpg")
    (tmp_path / "images" / "dog").symlink_to(tmp_path / "elsewhere" / "dogs")
    (tmp_path / "images" / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "dogs")
    (tmp_path / "images" / "cat" / "kept").symlink_to(".store")
    (tmp_path / "images" / "cat" / "2.jpg").symlink_to(tmp_path / "elsewhere" / "2.jpg")
    assert [name for name, _, _ in placed(tmp_path / "images")] == ["cat/2.jpg", "cat/3.jpg"]
    assert skipped(tmp_path / "images") == {
        "cat/.store": HIDDEN,
        **dict.fromkeys(["cat/kept/", "cat/more/", "dog/"], folder.LINKED),
    }


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "cat/1.jpg")
    (tmp_path / "images").symlink_to("elsewhere")
    assert [name for name, _, _ in placed(tmp_path / "images")] == ["cat/1.jpg"]


@pytest.mark.parametrize("target", ["..", ".", "../dog"])
def test_a_circle_of_links_is_walked_once(tmp_path: Path, target: str) -> None:
    make(tmp_path, "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "cat" / "link").symlink_to(target)
    (tmp_path / "dog" / "back").symlink_to("../cat")
    (tmp_path / "cow").symlink_to("dog")
    names = [Path(name).name for name, _, _ in placed(tmp_path)]
    assert sorted(names) == ["1.jpg", "2.jpg"]
    assert all("read already" in reason for reason in skipped(tmp_path).values())
    assert [*skipped(tmp_path)] == ["cow/", "cat/link/", "dog/back/"]


def test_a_link_to_nothing_or_to_itself_is_named(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg")
    (tmp_path / "cat" / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "cat" / "self.jpg").symlink_to("self.jpg")
    assert skipped(tmp_path) == {
        "cat/gone.jpg": "link to nothing",
        "cat/self.jpg": "link to nothing",
    }


LITTER = [
    "@eaDir/cat/SYNOPHOTO_THUMB_M.jpg",
    "@Recycle/1.jpg",
    "#recycle/1.jpg",
    "$RECYCLE.BIN/S-1-5-21/$R1.jpg",
    "RECYCLER/Dc1.jpg",
    "FOUND.012/FILE0000.jpg",
    "System Volume Information/1.jpg",
    "lost+found/1.jpg",
    "LOST.DIR/1.jpg",
    ".thumbnails/1.jpg",
    ".Trash-1000/files/1.jpg",
    ".Trashes/501/1.jpg",
    ".Spotlight-V100/1.jpg",
    ".fseventsd/1.jpg",
    "__MACOSX/cat/._1.jpg",
    "__pycache__/1.jpg",
]


@pytest.mark.parametrize("within", ["", "cat/", "cat/deep/", "train/", "train/cat/"])
def test_what_storage_devices_keep_for_themselves_is_left_out_and_named(
    tmp_path: Path, within: str
) -> None:
    make(tmp_path, "train/cat/1.jpg" if "train" in within else "cat/1.jpg")
    make(tmp_path, *(within + name for name in LITTER))
    assert {label for _, label, _ in placed(tmp_path)} == {"cat"} and len(placed(tmp_path)) == 1
    names = {within + name.partition("/")[0] for name in LITTER}
    assert skipped(tmp_path) == dict.fromkeys(names, HIDDEN)


@pytest.mark.parametrize("name", ["recycled", "trash", "thumbs", "desktop", "found", "#1", "@home"])
def test_a_class_that_is_called_nearly_like_litter_is_one(tmp_path: Path, name: str) -> None:
    assert placed(make(tmp_path, f"{name}/1.jpg")) == [(f"{name}/1.jpg", name, "")]


def beyond_every_path(folder: Path) -> None:
    """So deep below that it cannot be listed by its path, also for root, who may read all else."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=at)
        below = os.open("x" * 250, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg")
    beyond_every_path(tmp_path / "cat")
    (reason,) = skipped(tmp_path).values()
    assert reason.startswith("cannot be listed: ") and len(placed(tmp_path)) == 1


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg")
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    assert "pipe" in skipped(tmp_path)["cat/pipe.jpg"]


@settings(max_examples=20)  # each writes to disk
@given(
    st.lists(
        st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=12),
        min_size=1,
        max_size=6,
    )
)
def test_names_in_any_script_and_any_bytes_are_printable(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    root = tmp_path_factory.mktemp("names")
    raw = {b"x" + name.encode("utf-8", "surrogatepass")[:200] for name in names} | {b"\xff\xfe.jpg"}
    (root / "猫").mkdir()
    for name in raw:
        Path(os.fsdecode(os.fsencode(root / "猫") + b"/" + name)).touch()
    entries = list(folder.read(images=root))
    assert len(entries) == len(raw)
    assert all(entry.name.encode("utf-8").startswith("猫/".encode()) for entry in entries)
    assert not any(
        control in entry.name for entry in entries for control in "\n\r\t\x1b\u2028\u202e"
    )
    assert "猫/\\xff\\xfe.jpg" in [entry.name for entry in entries]


def test_a_name_that_would_read_as_another_is_told_as_it_is(tmp_path: Path) -> None:
    make(tmp_path, "cat/\u202egpj.exe", "cat/گربه\u200cها.jpg")
    assert [name for name, _, _ in placed(tmp_path)] == [
        "cat/\\u202egpj.exe",
        "cat/گربه\u200cها.jpg",
    ]


def test_a_decomposed_name_is_the_same_class_as_a_composed_one(tmp_path: Path) -> None:
    make(tmp_path, "caf\u00e9/1.jpg", "cafe\u0301/2.jpg")
    assert {label for _, label, _ in placed(tmp_path)} == {"caf\u00e9"}


@settings(max_examples=20)  # each writes to disk
@given(st.permutations(["b/2.jpg", "b/1.jpg", "a/é.jpg", "a/z/9.jpg", "a/Z.jpg", "B/x.jpg"]))
def test_the_order_does_not_depend_on_the_order_of_creation(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    root = make(tmp_path_factory.mktemp("order"), *names)
    assert [name for name, _, _ in placed(root)] == [
        "B/x.jpg",
        "a/Z.jpg",
        "a/z/9.jpg",
        "a/é.jpg",
        "b/1.jpg",
        "b/2.jpg",
    ]


@pytest.mark.parametrize(
    "content", [[], ["loose.jpg"], [".git/config"]], ids=["empty", "loose files", "hidden"]
)
def test_no_class_folders_says_what_to_do(tmp_path: Path, content: list[str]) -> None:
    make(tmp_path, *content)
    with pytest.raises(FieldmarkError, match="holds no class folders; .*`images:` in params.yaml"):
        list(folder.read(images=tmp_path))


def test_a_folder_around_the_class_folders_is_named(tmp_path: Path) -> None:
    """As an archive leaves it that was unpacked."""
    make(tmp_path, "README.md", "birds/owl/1.jpg", "birds/wren/2.jpg")
    with pytest.raises(FieldmarkError, match=f"`images: {tmp_path}/birds` in params.yaml"):
        placed(tmp_path)
    make(tmp_path, "birds/3.jpg")
    assert {label for _, label, _ in placed(tmp_path)} == {"birds"}


def test_an_archive_in_place_of_a_folder_says_what_reads_it(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").touch()
    with pytest.raises(FieldmarkError, match="photos.zip is a file; .*use: archive"):
        list(folder.read(images=tmp_path / "photos.zip"))


def test_a_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FieldmarkError, match="is not a folder; .*`images:` in params.yaml"):
        list(folder.read(images=tmp_path / "nowhere"))
