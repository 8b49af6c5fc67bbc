"""What messages about the configuration say: the nearest valid names, and where a value stands."""

import difflib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pipeline import FieldmarkError
from pipeline.config import schema


def within(node: Any, place: list[str]) -> bool:
    """Whether a mapping has a value at this place; a list, which no other file adds to, has all
    that lies in it.
    """
    for part in place:
        if isinstance(node, list):
            return True
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return bool(place)


def fields_at(model: type[schema.Section], place: list[str]) -> list[str]:
    """The keys that a section takes at a place inside it."""
    for part in place:
        inner = section_in(model, part)
        if inner is None:
            return sorted(schema.Range.model_fields) if model is schema.CandidateFile else []
        model = inner
    return sorted(model.model_fields)


def section_in(model: type[schema.Section], key: str) -> type[schema.Section] | None:
    """The section that stands below a key, also where it may be null; None where none does."""
    kind = model.model_fields[key].annotation if key in model.model_fields else None
    for one in (kind, *get_args(kind)):
        if inspect.isclass(one) and issubclass(one, schema.Section):
            return one
    return None


def check_names(node: Mapping[str, Any], known: list[str], file: Path) -> None:
    """Raise FieldmarkError for a key that is not known, with the nearest names."""
    for key in node:
        if key not in known:
            raise FieldmarkError(f"{file}: {key}: unknown key; {nearest(key, known)}")


def nearest(word: str, known: list[str]) -> str:
    """The names that a wrong one may have meant; all names where none is near."""
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"valid names: {', '.join(known)}"
