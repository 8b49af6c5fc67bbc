"""The history of the alias `production`: a run in MLflow for each move, written before the move and never changed after it.

RUNNING   under way, or left by a process that died; the next move finds out which and closes it
FINISHED  the alias moved
FAILED    it did not: refused by a gate, or something broke

Tags: what (promote or rollback), who, when, why, from, to, model, forced, gates, outcome, process.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities import Metric, Run, RunTag, ViewType

from pipeline import processes
from pipeline.errors import FieldmarkError
from pipeline.promotion.registry import NO_ANSWER, PRODUCTION, Registry, every

NONE = "none"
MOVED, CUT_OFF = "moved", "the process ended before the move"
STALE_S = 3600  # another machine's unfinished record is taken for dead after this time


class Refused(FieldmarkError):
    """A move that the gates did not allow, or that somebody else came before."""


@dataclass(frozen=True)
class Record:
    """One move, asked for or made; versions are None where there was none."""

    run_id: str
    when: float
    status: str
    tags: Mapping[str, str]

    @property
    def before(self) -> str | None:
        return None if self.tags["from"] == NONE else self.tags["from"]

    @property
    def after(self) -> str:
        return self.tags["to"]

    @property
    def moved(self) -> bool:
        return self.status == "FINISHED"


def read(registry: Registry) -> list[Record]:
    """The records of this model, oldest first; those that were deleted in MLflow too, while its database holds them."""
    query = f"tags.model = '{registry.name}'"
    order = ["attributes.start_time ASC"]
    found = every(
        lambda token: registry.client.search_runs([registry.experiment], query, ViewType.ALL, order_by=order, page_token=token)
    )
    return [_of(run) for run in found]


@contextmanager
def opened(
    registry: Registry, what: str, *, before: str | None, after: str, why: str, forced: bool = False
) -> Iterator[Record]:
    """A new record for as long as the move takes; FINISHED when `production` is where it should go, else FAILED.

    Raises Refused where another machine's record is under way: of two that write theirs before they look, one at least
    sees the other.
    """
    now = datetime.now(UTC)
    who = processes.person()
    tags = {
        "what": what, "who": who, "when": now.isoformat(timespec="seconds"), "why": why.strip() or "not said",
        "from": before or NONE, "to": after, "model": registry.name, "forced": str(forced).lower(),
        "process": processes.name(), "mlflow.user": who,
    }  # fmt: skip
    name = f"{what} {before or NONE} to {after}"
    run = registry.client.create_run(registry.experiment, int(now.timestamp() * 1000), tags, name)
    record = _of(run)
    try:
        for other in read(registry):
            if other.status == "RUNNING" and other.run_id != record.run_id:
                raise Refused(f"{other.tags['who']} is moving `production` at this moment; try again when that is done")
        yield record
    except BaseException as error:
        with suppress(*NO_ANSWER):  # then the record stays RUNNING, and the next move closes it
            settle(registry, record, str(error).partition(";")[0] or type(error).__name__)
        raise
    settle(registry, record)


def settle(registry: Registry, record: Record, problem: str = "") -> None:
    """Close a record by what the alias says, whatever the process that wrote it came to."""
    moved = registry.aliases().get(PRODUCTION) == record.after
    outcome = MOVED if moved else problem or "ended before the move"
    registry.client.set_tag(record.run_id, "outcome", outcome[:500])
    registry.client.set_terminated(record.run_id, "FINISHED" if moved else "FAILED")


def settle_dead(registry: Registry, *, alone: bool) -> None:
    """Close what ended processes left; where this one is alone with the store, that is everything unfinished."""
    for record in read(registry):
        dead = alone or processes.ended(record.tags["process"]) or time.time() - record.when > STALE_S
        if record.status == "RUNNING" and dead:
            settle(registry, record, CUT_OFF)


def note_gates(registry: Registry, record: Record, said: str, figures: Mapping[str, float]) -> None:
    """The gates as text, and their figures as metrics so that MLflow's page can compare them."""
    now = int(time.time() * 1000)
    metrics = [Metric(f"gate/{name}", value, now, 0) for name, value in figures.items()]
    registry.client.log_batch(record.run_id, metrics=metrics, tags=[RunTag("gates", said)])


def last(records: list[Record]) -> str | None:
    """The version that was in production last, according to the records."""
    return next((record.after for record in reversed(records) if record.moved), None)


def formers(records: list[Record], current: str | None) -> list[str]:
    """Where rollbacks lead from `current`, nearest first: each takes back the promotion before those taken back already.

    A version that came into production by another way than a recorded move counts from where a record names it.
    """
    stack: list[str] = []
    for record in (record for record in records if record.moved):
        _push(stack, record.before)
        if record.tags["what"] == "rollback" and record.after in stack:
            del stack[len(stack) - stack[::-1].index(record.after) :]
        _push(stack, record.after)
    _push(stack, current)
    return [version for version in dict.fromkeys(reversed(stack)) if version != current]


def _push(stack: list[str], version: str | None) -> None:
    if version is not None and stack[-1:] != [version]:
        stack.append(version)


def _of(run: Run) -> Record:
    return Record(run.info.run_id, run.info.start_time / 1000, run.info.status, run.data.tags)
