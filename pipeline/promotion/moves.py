"""Promote and rollback: the alias `production`, moved one at a time, each move on record first.

The alias is one row of the store, so there are never two of them, and none is missing between two
versions. Each move has four steps: write a record, check that the alias is still where the gates
saw it, move it, close the record. In a local store, a file lock lets one process at a time do so,
and the next waits. On a server, machines share no lock, and an unfinished record is the claim:
whoever finds another's withdraws.

MLflow moves an alias without checking its old value, so milliseconds remain between the last check
and the move. In them somebody may move the alias by hand, which `fieldmark history` marks. A
machine that slept until another took it for dead notices that after its move, and adds a record of
it.
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
    """Judge a version (number or alias), and put it into production where all gates pass.

    `force` promotes it anyway. `take_over` closes what another machine left unfinished. Raises
    Refused where a gate fails or somebody else moves the alias, FieldmarkError where the store does
    not answer or there is no such version.
    """
    if force and not why.strip():
        raise FieldmarkError("--force needs --why TEXT; it stays on record")
    with _alone_with_store(cfg.name, take_over) as registry:
        chosen, now, history = registry.find(version), registry.production(), records.read(registry)
        before, after = _number(now) or records.last(history), str(chosen.version)
        if _number(now) == after:
            raise FieldmarkError(f"version {after} is in production already")
        with records.opened(
            registry, "promote", before=before, after=after, why=why, past=history, forced=force
        ) as record:
            judged = gates.judge(cfg, chosen, now, before)
            records.note_gates(registry, record, gates.as_text(judged), gates.figures(judged))
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
    """Put back the version that was in production before, or the newest such that still exists.

    `take_over` closes what another machine left unfinished. Raises FieldmarkError where there is
    none, Refused where somebody else moves the alias.
    """
    with _alone_with_store(cfg.name, take_over) as registry:
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
            registry, "rollback", before=before, after=target, why=why, past=history
        ) as record:
            _move(registry, _number(now), record)
    print(
        f"version {target} is in production{f', before it was version {before}' if before else ''}"
    )


def _number(version: ModelVersion | None) -> str | None:
    return None if version is None else str(version.version)


def _move(registry: Registry, expected: str | None, record: Record) -> None:
    """Move the alias, if it still is as expected; then `previous`, where a rollback would lead."""
    if (current := registry.aliases().get(PRODUCTION)) != expected:
        raise Refused(f"`production` moved from {expected} to {current} in the meantime; try again")
    registry.point(PRODUCTION, record.after)
    for alias in registry.aliases():
        if alias.lower() == PRODUCTION != alias:
            print(f"removed the alias {alias}: there is one production, in lower case")
            registry.point(alias, None)
    _point_previous(registry, record)


def _point_previous(registry: Registry, moved: Record | None = None) -> None:
    """Set the alias `previous`. `moved` counts as moved though its record is not closed yet."""
    aliases, there = registry.aliases(), {str(version.version) for version in registry.versions()}
    past = [
        replace(one, status="FINISHED") if moved and one.run_id == moved.run_id else one
        for one in records.read(registry)
    ]
    turns = records.formers(past, aliases.get(PRODUCTION))
    target = next((version for version in turns if version in there), None)
    if aliases.get(PREVIOUS) != target:
        registry.point(PREVIOUS, target)


@contextmanager
def _alone_with_store(name: str, take_over: bool) -> Iterator[Registry]:
    """The registry, after the unfinished records of ended processes are closed."""
    with answering("once it answers, `fieldmark history` says which version is in production"):
        registry = connect(name)
        with _locked(registry) as alone:
            if records.settle_dead(registry, all_dead=alone or take_over):
                _point_previous(registry)
            yield registry


@contextmanager
def _locked(registry: Registry) -> Iterator[bool]:
    """Hold the lock; yields whether it keeps out everybody who uses the store.

    It does beside a local database.
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
