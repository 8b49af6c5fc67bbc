"""The history of the alias `production`: one run in MLflow per move, never changed after it.

RUNNING   under way, or left by a process that died; the next move finds out and closes it
FINISHED  the alias moved
FAILED    it did not: a gate refused it, or something broke

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
    """A move that a gate did not allow, or that came after somebody else's."""


@dataclass(frozen=True)
class Record:
    """One move, attempted or done; versions are None where there was none."""

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
    """The records of this model, oldest first.

    Those that were deleted in MLflow are included, as long as its database holds them.
    """
    query = f"tags.model = '{registry.name}'"
    order = ["attributes.start_time ASC"]
    runs = every(
        lambda token: registry.client.search_runs(
            [registry.experiment], query, ViewType.ALL, order_by=order, page_token=token
        )
    )
    return [_of(run) for run in runs]


@contextmanager
def opened(
    registry: Registry,
    what: str,
    *,
    before: str | None,
    after: str,
    why: str,
    past: Sequence[Record],
    forced: bool = False,
) -> Iterator[Record]:
    """A new record for as long as the move takes.

    It ends as FINISHED where `production` is where it should go, else as FAILED. Raises Refused
    where another record is under way, or where one that is not in `past` has moved the alias: of
    two processes that write their records before they look, at least one sees the other. Raises it
    too where another machine took this one for dead.
    """
    tags = {
        "what": what,
        "why": why.strip() or "not said",
        "from": before or NONE,
        "to": after,
        "forced": str(forced).lower(),
    }
    record = _create(registry, tags, past)
    try:
        _look_around(registry, record, past)
        yield record
    except Refused as refusal:
        with suppress(*NO_ANSWER):  # then the record stays RUNNING, and the next move closes it
            _close(registry, record, moved=False, outcome=_summary(refusal))
        raise
    except BaseException as error:
        with suppress(*NO_ANSWER):
            settle(registry, record, _summary(error))
        raise
    if (now := _of(registry.client.get_run(record.run_id))).status == "FAILED":
        _add_overtaken(registry, now)
    else:
        settle(registry, record)


def settle(registry: Registry, record: Record, problem: str = "") -> None:
    """Close a record by what the alias says, whatever happened to the process that wrote it."""
    moved = registry.aliases().get(PRODUCTION) == record.after
    _close(
        registry,
        record,
        moved=moved,
        outcome=MOVED if moved else problem or "ended before the move",
    )


def settle_dead(registry: Registry, *, all_dead: bool) -> bool:
    """Close the records that ended processes left RUNNING; returns whether there were any.

    all_dead: every unfinished record belongs to an ended process.
    """
    now = time.time()
    dead = [
        record
        for record in read(registry)
        if record.status == "RUNNING" and (all_dead or _ended(record, now))
    ]
    for record in dead:
        settle(registry, record, CUT_OFF)
    return bool(dead)


def _ended(record: Record, now: float) -> bool:
    return processes.ended(record.tags["process"]) or now - record.when > STALE_S


def _create(registry: Registry, tags: Mapping[str, str], past: Sequence[Record]) -> Record:
    """A record later than all past ones, even where another machine's clock is ahead."""
    now = datetime.now(UTC)
    start = max([int(now.timestamp() * 1000), *(1 + round(record.when * 1000) for record in past)])
    who = processes.person()
    by_whom = {
        "who": who,
        "when": now.isoformat(timespec="seconds"),
        "model": registry.name,
        "process": processes.name(),
        "mlflow.user": who,
        "mlflow.runName": f"{tags['what']} {tags['from']} to {tags['to']}",
    }
    return _of(registry.client.create_run(registry.experiment, start, {**tags, **by_whom}))


def _close(registry: Registry, record: Record, *, moved: bool, outcome: str) -> None:
    registry.client.set_tag(record.run_id, "outcome", outcome[:500])
    registry.client.set_terminated(record.run_id, "FINISHED" if moved else "FAILED")


def _look_around(registry: Registry, record: Record, past: Sequence[Record]) -> None:
    expected = {record.run_id, *(other.run_id for other in past)}
    for other in read(registry):
        if other.status == "RUNNING" and other.run_id != record.run_id:
            host = other.tags["process"].partition("/")[0]
            raise Refused(
                f"{other.tags['who']} is moving `production` from {host} since "
                f"{other.tags['when']}; try again when that is done; "
                "where you know that it died, --take-over closes its record"
            )
        if other.moved and other.run_id not in expected:
            raise Refused(
                f"{other.tags['who']} moved `production` to {other.after} at this moment; look "
                f"again before you try again"
            )


def _add_overtaken(registry: Registry, record: Record) -> None:
    """A second record, after those of the machine that took this process for dead."""
    if (now := registry.aliases().get(PRODUCTION)) != record.after:
        raise Refused(
            f"another machine took this one for dead, and `production` is {now} now; try again"
        )
    past = read(registry)
    again = _create(registry, {**record.tags, "from": last(past) or NONE}, past)
    _close(registry, again, moved=True, outcome=OVERTOOK)
    print(
        f"another machine had taken this one for dead and moved `production` to "
        f"{again.before}; it is {record.after} now"
    )


def _summary(error: BaseException) -> str:
    return str(error).partition(";")[0] or type(error).__name__


def note_gates(registry: Registry, record: Record, text: str, figures: Mapping[str, float]) -> None:
    """Record the gates as text, and their figures as metrics, which MLflow can compare."""
    now = int(time.time() * 1000)
    metrics = [Metric(f"gate/{name}", value, now, 0) for name, value in figures.items()]
    registry.client.log_batch(record.run_id, metrics=metrics, tags=[RunTag("gates", text)])


def last(records: Sequence[Record]) -> str | None:
    """The version that was in production last, according to the records."""
    return next((record.after for record in reversed(records) if record.moved), None)


def formers(records: Sequence[Record], current: str | None) -> list[str]:
    """Where rollbacks lead from `current`, nearest first.

    Each rollback takes back the last promotion that is not taken back yet. A version that came into
    production without a record counts from where a record names it.
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
