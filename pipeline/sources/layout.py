"""Class folders, or train/, val/ and test/ above class folders: how a tree of files is read,
wherever it is kept.

Whatever lies below a class folder, at any depth, belongs to that class. A folder that is reached
twice is read once. Names are normalised to NFC, so that every file system gives the same table.
"""

import os
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline import FieldmarkError
from pipeline.sources import Skipped

T = TypeVar("T")

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LITTER = {"thumbs.db", "desktop.ini", "__macosx"}
# Those that turn the order of the letters around them: a name would read as another.
TURNING = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
ABOUT = "README.md"  # says what the folder is for, as that of data/images does
HIDDEN = "hidden file or litter of a file manager"
MAX_DEPTH = 100  # far below the number of nested calls that Python allows
HOW_TO = "put one folder of images for each class there, or change `images:` in params.yaml"


@dataclass(frozen=True)
class Node(Generic[T]):
    """A folder, which has `children`, or a file, whose `content` its source knows how to load.

    Neither, where there is a `reason` why it cannot be used. Folders of the same `place` are one.
    """

    name: str
    content: T | None = None
    children: Callable[[], list["Node[T]"]] | None = None
    place: Hashable = None
    reason: str = ""


@dataclass(frozen=True)
class Placed(Generic[T]):
    """A file in its class; `split` is "", "train", "val" or "test", `label` is "" where it is
    unlabelled.
    """

    name: str
    content: T
    label: str
    split: str


def read(root: Node[T], where: str, unlabelled: str | None) -> Iterator[Placed[T] | Skipped]:
    """Every file below `root`, sorted by name; raises FieldmarkError, naming `where`, without class
    folders.

    The folder called `unlabelled`, beside the class folders, holds images without a label.
    """
    folders = [node for node in _listed(root) if node.children and not hidden(node)]
    if not folders:
        raise FieldmarkError(f"{where} holds no class folders; {HOW_TO}")
    tree = _Tree[T](unlabelled, {root.place: "."})
    if _are_splits([node for node in folders if node.name != unlabelled]):
        yield from _outside_classes(root, "")
        for node in folders:
            if node.name == unlabelled:
                yield from tree.in_class(node, "", "")
            else:
                yield from tree.classes(
                    node, f"{printable(node.name)}/", SPLITS[node.name.casefold()]
                )
    else:
        yield from tree.classes(root, "", "")


def grown(
    files: Iterable[tuple[tuple[str, ...], T | None]], place: tuple[str, ...] = ()
) -> Node[T]:
    """The tree of a flat list of files, each with the parts of its path; None stands for a
    folder.
    """
    flat = list(files)
    return Node(place[-1] if place else "", children=lambda: _branches(flat, place), place=place)


def hidden(node: Node[T]) -> bool:
    """What the reading leaves out, saying so: dot files, and the litter of file managers."""
    return node.name.startswith(".") or node.name.casefold() in LITTER


def printable(name: str) -> str:
    """The name for tables and terminals: NFC, with undecodable bytes, and what breaks or turns a
    line, escaped.
    """
    try:
        text = os.fsencode(name).decode("utf-8", "backslashreplace")
    except (
        UnicodeEncodeError
    ):  # half of a surrogate pair, which only an archive or a listing can hold
        text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(_visible(letter) for letter in unicodedata.normalize("NFC", text))


def _visible(letter: str) -> str:
    control = letter in TURNING or unicodedata.category(letter) in ("Cc", "Zl", "Zp")
    return letter.encode("unicode_escape").decode() if control else letter


def _branches(
    files: list[tuple[tuple[str, ...], T | None]], place: tuple[str, ...]
) -> list[Node[T]]:
    """Grown as they are asked for: a path may have more parts than Python allows nested calls."""
    below: dict[str, list[tuple[tuple[str, ...], T | None]]] = {}
    leaves = []
    for (first, *rest), content in files:
        if rest:
            below.setdefault(first, []).append((tuple(rest), content))
        elif content is None:
            below.setdefault(first, [])
        else:
            leaves.append(Node(first, content))
    return [*leaves, *(grown(inner, (*place, folder)) for folder, inner in below.items())]


def _are_splits(folders: list[Node[T]]) -> bool:
    """A class may be called `train`, too: splits have folders below them."""
    named = bool(folders) and all(node.name.casefold() in SPLITS for node in folders)
    return named and any(node.children for folder in folders for node in _listed(folder))


def _outside_classes(parent: Node[T], above: str) -> Iterator[Skipped]:
    for node in _listed(parent):
        if hidden(node):
            yield Skipped(above + printable(node.name), HIDDEN)
        elif not node.children and above + node.name != ABOUT:
            yield Skipped(above + printable(node.name), node.reason or "not inside a class folder")


class _Tree(Generic[T]):
    """One walk: what is unlabelled, and the name of each folder that has been read."""

    def __init__(self, unlabelled: str | None, seen: dict[Hashable, str]) -> None:
        self.unlabelled = unlabelled
        self.seen = seen

    def classes(self, parent: Node[T], above: str, split: str) -> Iterator[Placed[T] | Skipped]:
        yield from _outside_classes(parent, above)
        for node in _listed(parent):
            if node.children and not hidden(node):
                yield from self.in_class(node, above, split)

    def in_class(self, folder: Node[T], above: str, split: str) -> Iterator[Placed[T] | Skipped]:
        label = "" if folder.name == self.unlabelled else printable(folder.name)
        empty = True
        for name, node in self.below(folder, above + printable(folder.name)):
            if isinstance(node, Skipped):
                empty = empty and node.reason == HIDDEN
                yield node
            elif node.content is not None:
                empty = False
                yield Placed(name, node.content, label, split)
        if empty:
            yield Skipped(f"{above}{printable(folder.name)}/", "class folder holds no files")

    def below(self, folder: Node[T], name: str) -> Iterator[tuple[str, Node[T] | Skipped]]:
        if folder.place in self.seen:
            first = self.seen[folder.place]
            yield name, Skipped(f"{name}/", f"link to a folder that is read already: {first}")
            return
        self.seen[folder.place] = name
        if name.count("/") > MAX_DEPTH:
            yield name, Skipped(f"{name}/", f"more than {MAX_DEPTH} folders deep")
            return
        try:
            nodes = _listed(folder)
        except OSError as problem:
            yield name, Skipped(f"{name}/", f"cannot be listed: {problem.strerror}")
            return
        for node in nodes:
            inner = f"{name}/{printable(node.name)}"
            if hidden(node) or node.reason:
                yield inner, Skipped(inner, HIDDEN if hidden(node) else node.reason)
            elif node.children:
                yield from self.below(node, inner)
            else:
                yield inner, node


def _listed(folder: Node[T]) -> list[Node[T]]:
    assert folder.children is not None
    return sorted(folder.children(), key=lambda node: (printable(node.name), node.name))
