"""`fieldmark compare`: two registered versions side by side.

What was turned, which code and data, figures with intervals, and a paired test on the same images.
"""

from collections.abc import Iterator
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline import FieldmarkError
from pipeline.config import Config
from pipeline.promotion import comparison, kept, named
from pipeline.promotion.kept import Kept
from pipeline.promotion.registry import answering, connect

WIDTH = 100


@answering()
def compare(cfg: Config, first: str, second: str, html: Path | None) -> None:
    """Print two versions side by side, and write that as a page. See `named` for what names one.

    Raises FieldmarkError where there is no such version, or the store does not answer.
    """
    registry = connect(cfg.name)
    one, other = named.version(registry, first), named.version(registry, second)
    if one.version == other.version:
        raise FieldmarkError(f"{first} and {second} are both version {one.version}; name two")
    console = Console(width=WIDTH, highlight=False, record=html is not None)
    titles = [_title(given, each) for given, each in ((first, one), (second, other))]
    console.print(side_by_side(kept.of(registry, one), kept.of(registry, other), titles))
    console.print(paired(cfg, one, other), markup=False)
    if html is not None:
        console.save_html(str(html))


def _title(given: str, version: ModelVersion) -> str:
    number = f"version {version.version}"
    return number if given == str(version.version) else f"{number} ({given[:20]})"


def side_by_side(one: Kept, other: Kept, titles: list[str]) -> Table:
    """A row for each figure, and for each setting, commit and data that differ."""
    table = Table("", *titles, box=box.SIMPLE_HEAD)
    for name, value in one.figures.items():
        table.add_row(name, value, other.figures.get(name, "-"))
    table.add_section()
    for name, value in one.origin.items():
        theirs = other.origin.get(name, "unknown")
        table.add_row(name, value, "the same" if value == theirs != "unknown" else theirs)
    table.add_section()
    for row in turned(one.settings, other.settings):
        table.add_row(*row)
    return table


def turned(one: object, other: object, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Name and both values of each setting that differs; what only one side has is one row."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            place = f"{name}.{key}" if name else str(key)
            yield from turned(one.get(key, MISSING), other.get(key, MISSING), place)
    elif one != other:
        yield name, _short(one), _short(other)


class _Missing:
    """A setting that one side does not have."""


MISSING = _Missing()


def _short(value: object) -> str:
    if value is MISSING:
        return "-"
    if isinstance(value, dict):
        return str(value.get("title") or "there")
    return str(value)


def paired(cfg: Config, one: ModelVersion, other: ModelVersion) -> str:
    """On which of today's test images one version is right and the other is not, in a sentence."""
    try:
        pair = comparison.compare(cfg, other, one)
    except FieldmarkError as error:
        return f"not compared on the same images: {error}"
    worse, better = pair.p_worse, comparison.Pair(pair.n, pair.lost, pair.gained).p_worse
    p = min(1.0, 2 * min(worse, better))
    if p < cfg.promotion.alpha:
        verdict = f"version {(one if worse < better else other).version} is better"
    else:
        verdict = "no evidence that one is better"
    return (
        f"of the same {pair.n} test images only version {other.version} is right on {pair.gained}, "
        f"only version {one.version} on {pair.lost}: {verdict} (exact McNemar test, two-sided, "
        f"p {p:.3g})"
    )
