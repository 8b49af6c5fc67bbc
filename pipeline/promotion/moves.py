"""Promote and rollback: the alias `production`, moved one at a time, each move on record before it
is made.

The alias is one row of the store, so there are never two and, between two, never none. Whoever
moves it writes a record first, looks whether the alias is still where the gates found it, moves it,
and closes the record. In a local store a file lock lets one process at a time do so, and the next
waits. On a server, where machines share no lock, an unfinished record is the claim: who finds
another's withdraws. MLflow moves an alias without asking what it was, so milliseconds are left
between the last look and the move: for whoever moves the alias by hand, which `fieldmark history`
marks, and for a machine that slept until another took it for dead, which notices after its move and
adds a record of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
from filelock import FileLock, Timeout
from mlflow.entities.model_registry import ModelVersion

from pipeline import FieldmarkError, config
from pipeline.config import Config
from pipeline.promotion import gates, records
from pipeline.promotion.records import Record, Refused
from pipeline.promotion.registry import (
    CANDIDATE,
    PREVIOUS,
    PRODUCTION,
    Registry,
    answering,
    connect,
)


def promote(
    cfg: Config,
    version: str = CANDIDATE,
    *,
    force: bool = False,
    why: str = "",
    take_over: bool = False,
) -> None:
    """Measure and print the gates of a version (number or alias), and put it into production where
    all pass, or by force.

    `take_over` closes what another machine left unfinished. Raises Refused where a gate fails or
    somebody else moves it, FieldmarkError where the store does not answer or there is no such
    version.
    """
    if force and not why.strip():
        raise FieldmarkError("--force needs --why TEXT; it stays on record")
    with _alone_with_store(cfg.export.registered_name, take_over) as registry:
        wanted, now, history = registry.find(version), registry.production(), records.read(registry)
        before, after = _number(now) or records.last(history), str(wanted.version)
        if _number(now) == after:
            raise FieldmarkError(f"version {after} is in production already")
        with records.opened(
            registry, "promote", before=before, after=after, why=why, known=history, forced=force
        ) as record:
            judged = gates.judge(cfg, wanted, now, before)
            records.note_gates(registry, record, gates.told(judged), gates.figures(judged))
            gates.show(
                judged, f"{registry.name}: version {after}, in production: {before or 'none'}"
            )
            failed = [gate.name for gate in judged if not gate.passed]
            if failed and not force:
                raise Refused(
                    f"refused: {', '.join(failed)}; `--force --why TEXT` promotes version "
                    f"{after} nevertheless"
                )
            _move(registry, _number(now), record)
    print(
        f"version {after} is in production{f', before it was version {before}' if before else ''}"
    )


def rollback(cfg: Config, *, why: str = "", take_over: bool = False) -> None:
    """Put the version back that was in production before, or the newest such one that still exists.

    `take_over` closes what another machine left unfinished. Raises FieldmarkError where there is
    none, Refused where somebody else moves it.
    """
    with _alone_with_store(cfg.export.registered_name, take_over) as registry:
        now, history = registry.production(), records.read(registry)
        before = _number(now) or records.last(history)
        there = {str(version.version) for version in registry.versions()}
        turns = records.formers(history, _number(now))
        target = next((version for version in turns if version in there), None)
        if target is None:
            raise FieldmarkError(
                "no version was in production before that still exists; `fieldmark promote "
                "VERSION` names one"
            )
        for gone in turns[: turns.index(target)]:
            print(f"version {gone} was in production and no longer exists")
        with records.opened(
            registry, "rollback", before=before, after=target, why=why, known=history
        ) as record:
            _move(registry, _number(now), record)
    print(
        f"version {target} is in production{f', before it was version {before}' if before else ''}"
    )


def _number(version: ModelVersion | None) -> str | None:
    return None if version is None else str(version.version)


def _move(registry: Registry, expected: str | None, record: Record) -> None:
    """Set the alias where it still is as expected; then `previous`, which says where a rollback
    would lead.
    """
    if (found := registry.aliases().get(PRODUCTION)) != expected:
        raise Refused(f"`production` moved from {expected} to {found} in the meantime; try again")
    registry.point(PRODUCTION, record.after)
    for alias in registry.aliases():
        if alias.lower() == PRODUCTION != alias:
            print(f"took away the alias {alias}: there is one production, in lower case")
            registry.point(alias, None)
    _point_previous(registry, record)


def _point_previous(registry: Registry, made: Record | None = None) -> None:
    """`made` counts as moved though it is not closed yet: until then nobody else is here."""
    aliases, there = registry.aliases(), {str(version.version) for version in registry.versions()}
    past = [
        replace(one, status="FINISHED") if made and one.run_id == made.run_id else one
        for one in records.read(registry)
    ]
    turns = records.formers(past, aliases.get(PRODUCTION))
    target = next((version for version in turns if version in there), None)
    if aliases.get(PREVIOUS) != target:
        registry.point(PREVIOUS, target)


@contextmanager
def _alone_with_store(name: str, take_over: bool) -> Iterator[Registry]:
    """The registry, with what ended processes left unfinished closed before."""
    with answering("once it answers, `fieldmark history` says which version is in production"):
        registry = connect(name)
        with _locked(registry) as alone:
            if records.settle_dead(registry, all_dead=alone or take_over):
                _point_previous(registry)
            yield registry


@contextmanager
def _locked(registry: Registry) -> Iterator[bool]:
    """Hold the lock; whether it keeps out everybody else who uses the store, as it does beside a
    local database.
    """
    uri = mlflow.get_tracking_uri()
    local = _is_local(uri)
    file = (
        Path(f"{uri.removeprefix('sqlite:///')}.lock")
        if local
        else config.home() / ".fieldmark" / "promotion.lock"
    )
    lock = FileLock(config.made(file.parent) / file.name)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print("another promotion is under way; waiting for it", flush=True)
        lock.acquire(poll_interval=0.2)
    try:
        yield local
    finally:
        lock.release()


def _is_local(uri: str) -> bool:
    return uri.startswith("sqlite:///")
