"""What `fieldmark models` and `fieldmark history` print, in 80 columns, newest first."""

import time
from datetime import datetime

from mlflow.entities.model_registry import ModelVersion
from rich import box
from rich.console import Console
from rich.table import Column, Table

from pipeline.config import Config
from pipeline.promotion import records
from pipeline.promotion.records import Record
from pipeline.promotion.registry import PRODUCTION, Registry, answering, connect
from pipeline.runs import processes, provenance

CAPTION = (
    "accuracy on the test images; ECE: calibration error; ms: median time\nfor one image "
    "on a CPU; commit+: with edits that are in no commit; commit?: unknown"
)


@answering()
def models(cfg: Config) -> None:
    """Print versions, aliases, key figures and lineage.

    Raises FieldmarkError where nothing is registered, or the store does not answer.
    """
    registry = connect(cfg.name)
    aliases = registry.aliases()
    table = Table(
        Column("", justify="right"),
        Column("aliases", min_width=len(PRODUCTION)),
        "accuracy",
        "interval",
        "ECE",
        Column("ms", justify="right"),
        "commit",
        "data",
        "made",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        title=registry.name,
        caption=CAPTION,
    )
    for version in registry.versions():
        named = [alias for alias, number in aliases.items() if number == str(version.version)]
        table.add_row(str(version.version), "\n".join(sorted(named)), *_figures(version))
    Console(highlight=False).print(table)


def _figures(version: ModelVersion) -> list[str]:
    tags = version.tags
    low, high = tags.get("test/accuracy_low", "-"), tags.get("test/accuracy_high", "-")
    created = time.strftime("%Y-%m-%d", time.localtime(version.creation_timestamp / 1000))
    return [
        tags.get("test/accuracy", "-"),
        f"{low[:5]}-{high[:5]}",
        tags.get("test/ece", "-")[:5],
        tags.get("latency/p50_ms", "-")[:5],
        provenance.mark(tags),
        tags.get("data.ingest", "-")[:7],
        created,
    ]


@answering()
def history(cfg: Config) -> None:
    """Print every move of `production`, done or refused, and those without a record.

    Raises FieldmarkError where the store does not answer.
    """
    registry = connect(cfg.name)
    rows = _rows(records.read(registry), registry)
    if not rows:
        print("nothing was promoted yet; `fieldmark promote` promotes a version")
        return
    table = Table(
        "when",
        "who",
        "what",
        "from",
        "to",
        "outcome",
        "why",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for row in reversed(rows):
        table.add_row(*row)
    Console(highlight=False).print(table)


def _rows(past: list[Record], registry: Registry) -> list[list[str]]:
    rows, where, now = [], None, registry.aliases().get(PRODUCTION)
    for record in past:
        moved = record.moved or _arrived(record, now)
        if record.before != where and (moved or record.before is not None):
            rows.append(_unrecorded(where, record.before))
            where = record.before
        rows.append(_row(record, now))
        where = record.after if moved else where
    return rows + ([_unrecorded(where, now)] if now != where else [])


def _row(record: Record, now: str | None) -> list[str]:
    tags = record.tags
    what = tags["what"] + (", forced" if tags["forced"] == "true" else "")
    when = datetime.fromisoformat(tags["when"]).astimezone().strftime("%Y-%m-%d %H:%M")
    return [when, tags["who"], what, tags["from"], tags["to"], _outcome(record, now), tags["why"]]


def _outcome(record: Record, now: str | None) -> str:
    if record.status != "RUNNING":
        return record.tags.get("outcome", record.status)
    if _arrived(record, now):
        return records.MOVED
    return records.CUT_OFF if processes.ended(record.tags["process"]) else "under way"


def _arrived(record: Record, now: str | None) -> bool:
    """Whether an unclosed record belongs to a move that was done."""
    return record.status == "RUNNING" and record.after == now


def _unrecorded(before: str | None, after: str | None) -> list[str]:
    return [
        "",
        "",
        "",
        before or records.NONE,
        after or records.NONE,
        "moved",
        "without a record, in MLflow",
    ]
