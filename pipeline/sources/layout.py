"""How a tree of files is read: class folders, or train/, val/ and test/ above class folders.

Whatever lies below a class folder, at any depth, belongs to that class. A folder that is reached
twice is read once. Names are normalised to NFC, so that every file system gives the same table.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline import FieldmarkError
from pipeline.sources import Skipped, levels
from pipeline.sources.names import hidden
from pipeline.sources.names import printable as printable

T = TypeVar("T")

ABOUT = "README.md"  # says what the folder is for, as that of data/images does
HIDDEN = "hidden file or litter of a file manager"
MAX_DEPTH = 100  # far below the number of nested calls that Python allows
HOW_TO = "put one folder of images for each class there, or change `images:` in params.yaml"


@dataclass(frozen=True)
class Node(Generic[T]):
    """A folder, which has `children`, or a file, whose `content` its source can load.

    It has neither where there is a `reason` why it cannot be used. Folders of the same `place` are
    one folder; a file has no place.
    """

    name: str
    content: T | None = None
    children: Callable[[], list["Node[T]"]] | None = None
    place: Hashable = None
    reason: str = ""


@dataclass(frozen=True)
class Placed(Generic[T]):
    """A file in its class; `split` is "", "train", "val" or "test".

    `label` is "" where it is unlabelled.
    """

    name: str
    content: T
    label: str
    split: str


def read(
    root: Node[T], where: str, unlabelled: str | None, class_level: int | None
) -> Iterator[Placed[T] | Skipped]:
    """Every file below `root`, sorted by name.

    The folder called `unlabelled`, beside the class folders, holds images without a label.
    class_level: 1 where the folders in `root` are the classes, 2 where the folders in those are;
    None decides by names and contents. Raises FieldmarkError, naming `where`, without class
    folders, and where the folders may be no classes.
    """
    if class_level not in (None, 1, 2):
        raise FieldmarkError(f"ingest.source.class_level: 1, 2 or null, not {class_level}")
    folders = _folders(root)
    if not folders:
        raise FieldmarkError(f"{where} holds no class folders; {HOW_TO}")
    tree = _Tree[T](unlabelled, {root.place: "."})
    named = [node for node in folders if node.name != unlabelled]
    splits = class_level == 2 or (class_level is None and _are_splits(named, where))
    if not splits:
        if class_level is None and len(named) == 1:
            _check_not_around_classes(named[0], where)
        yield from tree.classes(root, "", "")
        return
    if class_level is None:
        for node in named:
            with suppress(OSError):  # a folder that cannot be listed; reading it reports that
                within = [inner for inner in _folders(node) if inner.name != unlabelled]
                _check(within, f"{where}/{printable(node.name)}")
    yield from _outside_classes(root, "")
    for node in folders:
        if node.name == unlabelled:
            yield from tree.in_class(node, "", "")
        else:
            yield from tree.classes(node, f"{printable(node.name)}/", levels.split_of(node.name))


def grown(
    files: Iterable[tuple[tuple[str, ...], T | None]], place: tuple[str, ...] = ()
) -> Node[T]:
    """The tree of a flat list of files, each with the parts of its path; None is a folder."""
    flat = list(files)
    return Node(place[-1] if place else "", children=lambda: _branches(flat, place), place=place)


def _branches(
    files: list[tuple[tuple[str, ...], T | None]], place: tuple[str, ...]
) -> list[Node[T]]:
    """The nodes of one folder, built on demand: paths may be deeper than Python can recurse."""
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


def _are_splits(folders: list[Node[T]], where: str) -> bool:
    """Whether the folders are splits: a class may be called `train`, but holds no folders."""
    names = [node.name for node in folders]
    splits = levels.are_splits(names, lambda i: _contents(folders[i]))
    if not splits:
        _check(folders, where)
    return splits


def _check_not_around_classes(only: Node[T], where: str) -> None:
    """An archive that was unpacked often leaves one folder around the class folders."""
    inside = _contents(only)
    if len(inside.folders) > 1 and not inside.pictures:
        raise FieldmarkError(
            f"{where} holds one folder, {printable(only.name)}, and no image lies in it, but "
            f"{len(inside.folders)} folders do. If those are the classes, write "
            f"`images: {where}/{printable(only.name)}` in params.yaml"
        )


def _check(folders: list[Node[T]], where: str) -> None:
    names = [node.name for node in folders]
    doubt = levels.doubt(names, lambda i: _contents(folders[i]))
    if doubt:
        raise FieldmarkError(f"{where}: {doubt}; {levels.HOW_TO}")


def _folders(parent: Node[T]) -> list[Node[T]]:
    return [node for node in _listed(parent) if node.children and not hidden(node.name)]


def _contents(folder: Node[T]) -> levels.Contents:
    try:
        nodes = [node for node in _listed(folder) if not hidden(node.name)]
    except OSError:  # reading the folder reports it
        nodes = []
    return levels.Contents(
        frozenset(node.name for node in nodes if node.children),
        any(node.content is not None and levels.may_be_image(node.name) for node in nodes),
    )


def _outside_classes(parent: Node[T], above: str) -> Iterator[Skipped]:
    for node in _listed(parent):
        if hidden(node.name):
            yield Skipped(above + printable(node.name), HIDDEN)
        elif not node.children and above + node.name != ABOUT:
            yield Skipped(above + _named(node), node.reason or "not inside a class folder")


class _Tree(Generic[T]):
    """One walk, and the name of each folder that it has read."""

    def __init__(self, unlabelled: str | None, names_by_place: dict[Hashable, str]) -> None:
        self.unlabelled = unlabelled
        self.names_by_place = names_by_place

    def classes(self, parent: Node[T], above: str, split: str) -> Iterator[Placed[T] | Skipped]:
        try:
            folders = _folders(parent)
        except OSError as problem:
            yield Skipped(above, f"cannot be listed: {problem.strerror}")
            return
        yield from _outside_classes(parent, above)
        for node in folders:
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
        if folder.place in self.names_by_place:
            first = self.names_by_place[folder.place]
            yield name, Skipped(f"{name}/", f"link to a folder that is read already: {first}")
            return
        self.names_by_place[folder.place] = name
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
            if hidden(node.name):
                yield inner, Skipped(inner, HIDDEN)
            elif node.reason:
                yield inner, Skipped(f"{name}/{_named(node)}", node.reason)
            elif node.children:
                yield from self.below(node, inner)
            else:
                yield inner, node


def _named(node: Node[T]) -> str:
    """The printable name, with a slash behind the name of a folder."""
    return printable(node.name) + "/" * (node.place is not None)


def _listed(folder: Node[T]) -> list[Node[T]]:
    assert folder.children is not None
    return sorted(folder.children(), key=lambda node: (printable(node.name), node.name))
