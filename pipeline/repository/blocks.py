"""A YAML mapping as text in blocks: a key of its top level, its lines, and the comments above."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError, safe_dump, safe_load

COMMENT = re.compile(r"\s+#.*$")


@dataclass(frozen=True)
class Block:
    """`above`: comments and blank lines above the key; `lines`: the key's own lines."""

    above: str
    lines: str


def read(text: str) -> dict[str, Any]:
    """The values, as a configuration reads them.

    Raises YAMLError or OmegaConfBaseException, and ValueError where they are no mapping.
    """
    values = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    if not isinstance(values, dict):
        raise ValueError("a mapping was expected")
    return {str(key): value for key, value in values.items()}


def same(one: Any, other: Any) -> bool:
    """Equal, and of one type: 0, 0.0 and false are three values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or (one != one and other != other))


def merge(base: str, mine: str, theirs: str, values: Mapping[str, Any]) -> str | None:
    """The text of the merged values, in the order of theirs; None where it has no blocks.

    Each key's lines are those of a side that holds its value, or are written anew.
    """
    try:
        old, own, new = (split(text) for text in (base, mine, theirs))
        keys = _order(list(own), list(new), values)
        written = [_write(key, values[key], old, own, new) for key in keys]
    except (YAMLError, OmegaConfBaseException, ValueError):
        return None
    ends = (blocks.get("", EMPTY).above for blocks in (old, own, new))
    return "".join(written) + _pick(*ends)


EMPTY = Block("", "")


def split(text: str) -> dict[str, Block]:
    """Blocks by key, in order; what stands below the last one is above the key "".

    Raises ValueError for a line that belongs to no key, and YAMLError.
    """
    blocks: dict[str, Block] = {}
    key, above = "", ""
    for line in text.splitlines(keepends=True):
        line = line if line.endswith("\n") else line + "\n"
        if not line.strip() or line.startswith(("#", "---", "%")):
            above += line
        elif line[0] in " \t-}]":  # belongs to the key above, with the comments between
            if not key:
                raise ValueError(f"no key stands above {line!r}")
            blocks[key] = Block(blocks[key].above, blocks[key].lines + above + line)
            above = ""
        else:
            key = _key(line)
            blocks[key], above = Block(above, line), ""
    return {**blocks, "": Block(above, "")}


def _key(line: str) -> str:
    head, colon, _ = line.partition(":")
    key = safe_load(head) if colon else None
    if not isinstance(key, str):
        raise ValueError(f"no key stands in {line!r}")
    return key


def _order(own: list[str], new: list[str], values: Mapping[str, Any]) -> list[str]:
    """The keys in their order; a key that only I have stands behind the one that it follows."""
    keys = [key for key in new if key in values]
    for i, key in enumerate(own):
        if key in values and key not in keys:
            before = next((k for k in reversed(own[:i]) if k in keys), None)
            keys.insert(keys.index(before) + 1 if before else 0, key)
    return keys


def _write(
    key: str,
    value: Any,
    old: Mapping[str, Block],
    own: Mapping[str, Block],
    new: Mapping[str, Block],
) -> str:
    before, mine, theirs = (blocks.get(key, EMPTY) for blocks in (old, own, new))
    sides = [theirs, mine] if mine.lines == before.lines else [mine, theirs]
    holding = [side.lines for side in sides if side.lines and same(read(side.lines), {key: value})]
    lines = holding[0] if holding else _anew(key, value, theirs.lines or mine.lines)
    return _pick(before.above, mine.above, theirs.above) + lines


def _anew(key: str, value: Any, like: str) -> str:
    """The key in one line, with the comment at the end of the lines that it replaces."""
    text = safe_dump(
        {key: value}, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False
    )
    comment = COMMENT.search(like.splitlines()[0])
    return text.strip()[1:-1] + (comment.group() if comment else "") + "\n"


def _pick(base: str, mine: str, theirs: str) -> str:
    """Comments: mine where I changed them, otherwise theirs."""
    return theirs if mine == base else mine
