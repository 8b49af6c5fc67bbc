"""`fieldmark compare`: two registered versions side by side.

What was turned, which code and data, figures with intervals, a paired test on the same images, the
images that flipped, and what changed in the data.
"""

from collections.abc import Iterator
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline import FieldmarkError
from pipeline.config import Config
from pipeline.promotion import comparison, flips, kept, limits, named
from pipeline.promotion.kept import Kept
from pipeline.promotion.registry import answering, connect
from pipeline.storage import table

WIDTH = 100
LABELLED = Path("data/label-check")


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fieldmark compare</title>
<style>{stylesheet} body {{ color: {foreground}; background: {background}; margin: 16px; }} pre {{ overflow-x: auto; }}</style>
</head>
<body><pre><code style="font-family: ui-monospace, Menlo, Consolas, monospace">{code}</code></pre></body>
</html>
"""


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
    both = _answers(cfg, one, other)
    console.print(both if isinstance(both, str) else paired(cfg, one, other, both), markup=False)
    pictures = ""
    if not isinstance(both, str):
        numbers = {"one": str(one.version), "other": str(other.version)}
        flipped = flips.flips(both.rows, both.old, both.new)
        for line in [*flips.in_words(flipped, len(both.rows), numbers), *since(one, both)]:
            console.print(line, markup=False)
        pictures = flips.page(flipped, both.images, numbers)
    if html is not None:
        page = console.export_html(code_format=PAGE).replace("</body>", f"{pictures}</body>")
        html.write_text(page, encoding="utf-8", errors="replace")


def since(one: ModelVersion, both: comparison.Answers) -> list[str]:
    """What changed in the data since version `one`, and what of the difference that explains."""
    before, now = flips.labelled(one.tags), LABELLED
    if before is None or not (now / table.FILE).exists():
        return [
            f"the images that version {one.version} was made from are not in DVC's cache here, so what "
            f"changed in the data is not known; `dvc fetch` in its commit brings them"
        ]
    lines = flips.changes(before, table.read(now, ["id", "label", "split"]))
    recorded = limits.number(one.tags, "test/accuracy")
    if recorded is None:
        return lines
    labels = both.rows["label"].to_numpy(dtype=object)
    old, new = (float((answer == labels).mean()) for answer in (both.old, both.new))
    return [*lines, *flips.explained(recorded, old, new, flips.learned_from(before, both.rows))]


def _answers(cfg: Config, one: ModelVersion, other: ModelVersion) -> comparison.Answers | str:
    """What both say of the test images, or why they cannot be compared."""
    try:
        return comparison.answers(cfg, other, one)
    except FieldmarkError as error:
        return f"not compared on the same images: {error}"


def _title(given: str, version: ModelVersion) -> str:
    number = f"version {version.version}"
    return number if given == str(version.version) else f"{number} ({given[:20]})"


def side_by_side(one: Kept, other: Kept, titles: list[str]) -> Table:
    """A row for each figure, and for each setting, commit and data that differ."""
    sides = Table("", *titles, box=box.SIMPLE_HEAD)
    for name, value in one.figures.items():
        sides.add_row(name, value, other.figures.get(name, "-"))
    sides.add_section()
    for name, value in one.origin.items():
        theirs = other.origin.get(name, "unknown")
        sides.add_row(name, value, "the same" if value == theirs != "unknown" else theirs)
    sides.add_section()
    for row in turned(one.settings, other.settings):
        sides.add_row(*row)
    return sides


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


def paired(cfg: Config, one: ModelVersion, other: ModelVersion, both: comparison.Answers) -> str:
    """On which of today's test images one version is right and the other is not, in a sentence."""
    pair = both.pair
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
