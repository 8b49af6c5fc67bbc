"""A three-way merge of YAML by keys, and git's merge driver that does it.

A value that one turned stays, what upstream added or changed is taken, what upstream removed goes
away. git calls `python -m pipeline.repository.merging BASE OURS THEIRS PATH` for the files that
.gitattributes names, and takes the content of OURS afterwards. A dvc.lock stays one's own: it
records what was built here, and by its hashes `dvc repro` knows what is out of date. Whatever is
not YAML is left to git's merge by lines.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError, safe_dump

from pipeline.repository import blocks
from pipeline.repository.blocks import read, same

ABSENT = object()
LOCK = "dvc.lock"
UNREADABLE = (YAMLError, OmegaConfBaseException, ValueError)  # or not a mapping, or no UTF-8


def merge_values(base: Any, mine: Any, theirs: Any, name: str = "") -> tuple[Any, list[str]]:
    """The merged value and, one line each, the decisions against one side.

    A section whose keys I turned keeps its `use`, too: they were chosen for that file.
    """
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return _merge_mappings(base if isinstance(base, dict) else {}, mine, theirs, name)
    if theirs is ABSENT:
        if base is ABSENT:
            return mine, []
        gone = f"{name}: gone upstream, so left out"
        return ABSENT, [] if mine is ABSENT else [
            gone + ("" if same(mine, base) else f"; was {mine}")
        ]
    if same(mine, base) or same(mine, theirs) or (mine is ABSENT and not same(base, theirs)):
        return theirs, []
    if same(base, theirs):
        return mine, []
    return mine, [f"{name}: {mine} stays; upstream now has {theirs}"]


def _merge_mappings(
    base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any], name: str
) -> tuple[dict[str, Any], list[str]]:
    merged, notes = {}, []
    turned = "use" in mine and "use" in base and not same(mine, base)
    for key in [*theirs, *(key for key in mine if key not in theirs)]:
        before = ABSENT if turned and key == "use" else base.get(key, ABSENT)
        place = f"{name}.{key}" if name else str(key)
        value, more = merge_values(before, mine.get(key, ABSENT), theirs.get(key, ABSENT), place)
        notes += more
        if value is not ABSENT:
            merged[key] = value
    return merged, notes


def merge_texts(base: str, mine: str, theirs: str, by_lines: str | None) -> tuple[str, list[str]]:
    """The merged text, comments included, and the notes.

    `by_lines` is git's merge by lines, None where it conflicts; it is used where it holds the
    merged values. Raises YAMLError or OmegaConfBaseException where a text is not YAML, ValueError
    where it is no mapping.
    """
    values, notes = _merge_mappings(read(base), read(mine), read(theirs), "")
    written = (by_lines, blocks.merge(base, mine, theirs, values))
    for text in written:
        if text is not None and _holds(text, values):
            return text, notes
    return safe_dump(values, sort_keys=False, allow_unicode=True), [*notes, "comments are lost"]


def _holds(text: str, values: Mapping[str, Any]) -> bool:
    try:
        return same(read(text), values)
    except UNREADABLE:
        return False


def _by_lines(mine: Path, base: Path, theirs: Path) -> tuple[bytes, int]:
    """git's merge, and the number of its conflicts, which is above 127 where it failed."""
    command = ["git", "merge-file", "--stdout", str(mine), str(base), str(theirs)]
    process = subprocess.run(command, capture_output=True, check=False)
    return process.stdout, process.returncode


def _mine_is_theirs() -> bool:
    """Whether git calls my side "theirs".

    `git rebase` and `git stash pop` do, since they apply it on top of what is there. Only in a
    merge does git name heads in its environment.
    """
    return not any(name.startswith("GITHEAD_") for name in os.environ)


def drive(base: Path, ours: Path, theirs: Path, name: str) -> int:
    """Write the merged text to `ours`; returns the exit code for git, not 0 for a conflict."""
    mine, other = (theirs, ours) if _mine_is_theirs() else (ours, theirs)
    if Path(name).name == LOCK:
        ours.write_bytes(mine.read_bytes())
        return 0
    merged, conflicts = _by_lines(mine, base, other)
    try:
        old, own, new = (file.read_bytes().decode() for file in (base, mine, other))
        text, notes = merge_texts(old, own, new, None if conflicts else merged.decode())
    except UNREADABLE:
        if conflicts < 128:
            ours.write_bytes(merged)
        return min(conflicts, 1)
    ours.write_bytes(text.encode())
    for note in notes:
        print(f"fieldmark: {name}: {note}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    base_file, ours_file, theirs_file, path = sys.argv[1:]
    sys.exit(drive(Path(base_file), Path(ours_file), Path(theirs_file), path))
