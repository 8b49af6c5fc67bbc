"""The history of the alias `production`: a run in MLflow for each move, written before the move and
never changed after it.

RUNNING   under way, or left by a process that died; the next move finds out which and closes it
FINISHED  the alias moved
FAILED    it did not: refused by a gate, or something broke

Tags: what (promote or rollback), who, when, why, from, to, model, forced, gates, outcome, process.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities import Metric, Run, RunTag, ViewType

from pipeline import FieldmarkError
from pipeline.promotion.registry import NO_ANSWER, PRODUCTION, Registry, every
from pipeline.runs import processes

NONE = "none"
MOVED, CUT_OFF = "moved", "the process ended before the move"
OVERTOOK = "moved, after another machine had taken it for dead"
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
    """The records of this model, oldest first; those that were deleted in MLflow too, while its
    database holds them.
    """
    query = f"tags.model = '{registry.name}'"
    order = ["attributes.start_time ASC"]
    found = every(
        lambda token: registry.client.search_runs(
            [registry.experiment], query, ViewType.ALL, order_by=order, page_token=token
        )
    )
    return [_of(run) for run in found]


@contextmanager
def opened(
    registry: Registry,
    what: str,
    *,
    before: str | None,
    after: str,
    why: str,
    known: Sequence[Record],
    forced: bool = False,
) -> Iterator[Record]:
    """A new record for as long as the move takes; FINISHED when `production` is where it should go,
    else FAILED.

    Raises Refused where another record is under way, or one that is not `known` has moved the
    alias: of two that write theirs before they look, one at least sees the other. Raises it too
    where another machine took this one for dead.
    """
    who = processes.person()
    tags = {
        "what": what,
        "who": who,
        "why": why.strip() or "not said",
        "from": before or NONE,
        "to": after,
        "model": registry.name,
        "forced": str(forced).lower(),
        "process": processes.name(),
        "mlflow.user": who,
    }
    record = _create(registry, tags, known)
    try:
        _look_around(registry, record, known)
        yield record
    except Refused as refusal:
        with suppress(*NO_ANSWER):  # then the record stays RUNNING, and the next move closes it
            _close(registry, record, moved=False, outcome=_told(refusal))
        raise
    except BaseException as error:
        with suppress(*NO_ANSWER):
            settle(registry, record, _told(error))
        raise
    if (now := _of(registry.client.get_run(record.run_id))).status == "FAILED":
        _add_overtaken(registry, now)
    else:
        settle(registry, record)


def settle(registry: Registry, record: Record, problem: str = "") -> None:
    """Close a record by what the alias says, whatever the process that wrote it came to."""
    moved = registry.aliases().get(PRODUCTION) == record.after
    _close(
        registry,
        record,
        moved=moved,
        outcome=MOVED if moved else problem or "ended before the move",
    )


def settle_dead(registry: Registry, *, all_dead: bool) -> bool:
    """Close what ended processes left, which may be said of everything unfinished; whether there
    was any.
    """
    now = time.time()
    left = [
        record
        for record in read(registry)
        if record.status == "RUNNING" and (all_dead or _ended(record, now))
    ]
    for record in left:
        settle(registry, record, CUT_OFF)
    return bool(left)


def _ended(record: Record, now: float) -> bool:
    return processes.ended(record.tags["process"]) or now - record.when > STALE_S


def _create(registry: Registry, tags: Mapping[str, str], known: Sequence[Record]) -> Record:
    """A record that comes after the known ones, also where the clock of the machine that wrote
    those is ahead.
    """
    now = datetime.now(UTC)
    start = max([int(now.timestamp() * 1000), *(1 + round(record.when * 1000) for record in known)])
    title = {
        "when": now.isoformat(timespec="seconds"),
        "mlflow.runName": f"{tags['what']} {tags['from']} to {tags['to']}",
    }
    return _of(registry.client.create_run(registry.experiment, start, {**tags, **title}))


def _close(registry: Registry, record: Record, *, moved: bool, outcome: str) -> None:
    registry.client.set_tag(record.run_id, "outcome", outcome[:500])
    registry.client.set_terminated(record.run_id, "FINISHED" if moved else "FAILED")


def _look_around(registry: Registry, record: Record, known: Sequence[Record]) -> None:
    seen = {record.run_id, *(other.run_id for other in known)}
    for other in read(registry):
        if other.status == "RUNNING" and other.run_id != record.run_id:
            host = other.tags["process"].partition("/")[0]
            raise Refused(
                f"{other.tags['who']} is moving `production` from {host} since "
                f"{other.tags['when']}; try again when that is done; "
                "where you know that it died, --take-over closes its record"
            )
        if other.moved and other.run_id not in seen:
            raise Refused(
                f"{other.tags['who']} moved `production` to {other.after} at this moment; look "
                f"again before you try again"
            )


def _add_overtaken(registry: Registry, record: Record) -> None:
    """A second record, after those of whoever took this process for dead and moved the alias before
    it did.
    """
    if (now := registry.aliases().get(PRODUCTION)) != record.after:
        raise Refused(
            f"another machine took this one for dead, and `production` is {now} now; try again"
        )
    known = read(registry)
    again = _create(registry, {**record.tags, "from": last(known) or NONE}, known)
    _close(registry, again, moved=True, outcome=OVERTOOK)
    print(
        f"another machine had taken this one for dead and moved `production` to "
        f"{again.before}; it is {record.after} now"
    )


def _told(error: BaseException) -> str:
    return str(error).partition(";")[0] or type(error).__name__


def note_gates(registry: Registry, record: Record, said: str, figures: Mapping[str, float]) -> None:
    """The gates as text, and their figures as metrics so that MLflow's page can compare them."""
    now = int(time.time() * 1000)
    metrics = [Metric(f"gate/{name}", value, now, 0) for name, value in figures.items()]
    registry.client.log_batch(record.run_id, metrics=metrics, tags=[RunTag("gates", said)])


def last(records: Sequence[Record]) -> str | None:
    """The version that was in production last, according to the records."""
    return next((record.after for record in reversed(records) if record.moved), None)


def formers(records: Sequence[Record], current: str | None) -> list[str]:
    """Where rollbacks lead from `current`, nearest first: each takes back the promotion before
    those taken back already.

    A version that came into production by another way than a recorded move counts from where a
    record names it.
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
