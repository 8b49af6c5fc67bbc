"""What DVC cannot see or hash of a folder that the pipeline reads, reported before DVC starts.

DVC (3.67) hashes such a folder by its own walk. It follows links to files but not to folders, skips
folders that may not be listed and whatever .dvcignore names, stops at what it cannot read or encode
as UTF-8, and waits for ever at a pipe.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline import FieldmarkError
from pipeline.sources import walk
from pipeline.sources.names import printable
from pipeline.sources.walk import Entry, Kind

IGNORE = ".dvcignore"
SHIPPED = frozenset(["__pycache__/"])  # patterns that need no DVC to be understood
SHOWN = 20  # in a list for people

# The folders and files of a folder -> those that DVC looks at.
View = Callable[[str, list[str], list[str]], tuple[list[str], list[str]]]


class Obstacle(NamedTuple):
    """A place, what is wrong there, and what to do."""

    path: Path
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{printable(str(self.path))}: {self.reason}: {self.remedy}"


ODD = (
    "a pipe, socket or device, at which DVC would stop or wait for ever",
    "delete it or move it elsewhere",
)
DEAD = (
    "a link to nothing, at which DVC would stop",
    "delete it, or bring back what it points to",
)
LINK = (
    "a link to a folder, in which DVC would notice no change",
    "replace it by a copy of the folder, or name the real place by `images:` in params.yaml",
)
NO_UTF8 = ("a name that is no UTF-8, at which DVC would stop", "rename it")
UNREADABLE = (
    "may not be read, so that DVC would stop",
    "make it readable (chmod u+r) or move it elsewhere",
)
UNLISTED = (
    "a folder that may not be listed, so that DVC would leave its images out",
    "make it readable (chmod u+rx) or move it elsewhere",
)
NESTED = (
    "a DVC project inside this one, into which DVC does not look",
    "move its folder `.dvc` elsewhere, or all of it, and name that place by `images:`",
)
IGNORED = (
    f"left out by DVC, because a {IGNORE} names it, but not by Fieldmark",
    f"move it elsewhere, or change {IGNORE}",
)
PIPELINE = (
    "a file that DVC takes for a part of this project's pipeline",
    "rename it or move it elsewhere",
)
MISPLACED = (
    "DVC stops at this name inside a folder that it hashes",
    f"move its lines to the {IGNORE} of the project",
)


def check(places: Iterable[Path | str]) -> None:
    """Raise FieldmarkError, in one line, where DVC could not hash one of the places."""
    every_one = [obstacle for place in places for obstacle in obstacles(place)]
    if every_one:
        others = len(every_one) - 1
        more = f" ({others} more: `fieldmark ingest --check` lists them)" if others else ""
        raise FieldmarkError(f"{every_one[0]}{more}")


def describe(place: Path | str) -> list[str]:
    """The obstacles for people, one line each; [] where there are none."""
    lines = [f"  {obstacle}" for obstacle in obstacles(place)]
    if not lines:
        return []
    rest = [f"  {len(lines) - SHOWN} more"] * (len(lines) > SHOWN)
    return [f"`dvc repro` will not start because of {len(lines)}:", *lines[:SHOWN], *rest]


def obstacles(place: Path | str) -> Iterator[Obstacle]:
    """In the order of the names; none for a place that is missing, or behind an address."""
    path = Path(place)
    if "://" in str(place):
        return
    kind = walk.kind(path)
    if kind is Kind.FOLDER:
        view = _view(path)
        if _is_nested(path):
            yield Obstacle(path, *NESTED)
        else:
            yield from _below(path, os.path.realpath(path), view, is_read=True)
    elif kind is not Kind.DEAD:
        yield from _of_leaf(Entry(path, kind, hidden=False))


def _below(folder: Path, top: str, view: View, *, is_read: bool) -> Iterator[Obstacle]:
    """is_read: whether Fieldmark reads the folder, as it does with all but hidden ones."""
    try:
        entries = walk.entries(folder)
    except OSError:
        if is_read:
            yield Obstacle(folder, *UNLISTED)
        return
    folders = [e.path.name for e in entries if e.kind in (Kind.FOLDER, Kind.LINK)]
    files = [e.path.name for e in entries if e.kind not in (Kind.FOLDER, Kind.LINK)]
    in_view = {name for names in view(os.path.abspath(folder), folders, files) for name in names}
    for entry in entries:
        is_read_too = is_read and not entry.hidden
        if entry.path.name == IGNORE:
            yield Obstacle(entry.path, *MISPLACED)
        elif entry.path.name not in in_view:
            if is_read_too:
                reason = NESTED if _is_nested(entry.path) else IGNORED
                yield Obstacle(entry.path, *reason)
        elif entry.kind is Kind.FOLDER:
            yield from _no_utf8(entry.path)
            yield from _below(entry.path, top, view, is_read=is_read_too)
        elif entry.kind is Kind.LINK:
            if is_read_too and not walk.read_already(entry.path, top):
                yield Obstacle(entry.path, *LINK)
        elif _is_pipeline(entry):
            yield Obstacle(entry.path, *PIPELINE)
        else:
            yield from _of_leaf(entry)


def _of_leaf(entry: Entry) -> Iterator[Obstacle]:
    path = entry.path
    if entry.kind is Kind.DEAD:
        yield Obstacle(path, *DEAD)
    elif entry.kind is Kind.ODD:
        yield Obstacle(path, *ODD)
    elif not os.access(path, os.R_OK):
        yield Obstacle(path, *UNREADABLE)
    else:
        yield from _no_utf8(path)


def _no_utf8(path: Path) -> Iterator[Obstacle]:
    try:
        path.name.encode("utf-8")
    except UnicodeEncodeError:
        yield Obstacle(path, *NO_UTF8)


def _project() -> Path | None:
    """The folder of the DVC project; .dvcignore counts only inside it."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)


def _is_nested(path: Path) -> bool:
    project, place = _project(), Path(os.path.abspath(path))
    inside = project is not None and place != project and place.is_relative_to(project)
    return inside and os.path.lexists(path / ".dvc")


def _is_pipeline(entry: Entry) -> bool:
    """Whether DVC would take a file for a part of its pipeline.

    That is a dvc.yaml, whose stages it would run, or a .dvc file that `dvc add` did not write, at
    which it would stop.
    """
    path = entry.path
    if entry.kind is not Kind.FILE or not path.name.endswith(("dvc.yaml", ".dvc")):
        return False
    project = _project()
    if project is None or not Path(os.path.abspath(path)).is_relative_to(project):
        return False
    if path.suffix == ".dvc":
        return not re.search(rb"^outs:", path.read_bytes(), re.MULTILINE)
    return path.name == "dvc.yaml"


def _view(place: Path) -> View:
    project, absolute = _project(), Path(os.path.abspath(place))
    if project is None or not absolute.is_relative_to(project):
        return lambda _, folders, files: (folders, files)
    patterns = frozenset(
        line.strip()
        for folder in absolute.parents
        if folder.is_relative_to(project) and (folder / IGNORE).is_file()
        for line in (folder / IGNORE).read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip() and not line.startswith("#")
    )
    if patterns <= SHIPPED:
        return partial(_usual_view, {pattern.rstrip("/") for pattern in patterns})
    from dvc.fs import localfs  # takes a second, so only where it is needed
    from dvc.ignore import DvcIgnoreFilter

    chosen: View = DvcIgnoreFilter(localfs, str(project))
    return chosen


def _usual_view(
    ignored: set[str], folder: str, folders: list[str], files: list[str]
) -> tuple[list[str], list[str]]:
    """All but what DVC ignores in every project, and the folders ignored in this one."""
    left_out = {".git", ".hg", ".dvc", *ignored}
    visible = [
        name
        for name in folders
        if name not in left_out and not os.path.lexists(f"{folder}/{name}/.dvc")
    ]
    return visible, [name for name in files if name != ".git"]
