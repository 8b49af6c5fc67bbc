"""An old run, run again: its commit in a scratch git worktree, its data, every stage anew, and the
figures side by side.

DVC's cache is shared for reading only: nothing is restored from it but the ingested images, and
nothing is added, so a figure that comes out the same was computed again. The runs of the scratch
worktree go into a store of its own.
"""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline import FieldmarkError, config
from pipeline.config import Config
from pipeline.feedback import inbox
from pipeline.promotion.registry import Registry, answering, connect
from pipeline.runs import provenance, tracking

BIN = Path(sys.executable).parent
INGEST = "data/ingest"
# figures of this name are measured in time: they differ from run to run, and are only shown
TIMES = "latency/"
TOLERANCE = 1e-6  # relative; sums in another order differ by less


@dataclass(frozen=True)
class Recorded:
    """A rebuild on record: its commit, the hash of its ingested data, library versions and figures
    by name.
    """

    title: str
    commit: str
    data: str
    libraries: Mapping[str, str]
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Compared:
    """One figure then and now; None where a side lacks it, equal None where it is a time."""

    name: str
    then: float | None
    now: float | None
    equal: bool | None


def reproduce(cfg: Config, wanted: str, *, keep: bool = False) -> bool:
    """Run a run (id, version or alias) again and print each figure then and now; whether all are
    equal.

    Raises FieldmarkError for a run of uncommitted code, of an unknown commit, or whose data are
    nowhere to be had.
    """
    recorded = find(cfg, wanted)
    _say_libraries(recorded)
    with _worktree(recorded.commit, keep) as folder:
        _prepare(folder, recorded)
        _dvc(folder, "repro", "--force", "--no-commit")
        compared = compare(recorded.figures, _figures(folder))
    _show(recorded, compared)
    return all(row.equal is not False for row in compared)


@answering()
def find(cfg: Config, wanted: str) -> Recorded:
    """The record of a run id, version or alias; of a stage's run, its rebuild's. Raises
    FieldmarkError where it cannot be rebuilt.
    """
    registry = connect(cfg.export.registered_name)
    run = _run(registry, wanted)
    while parent := run.data.tags.get("mlflow.parentRunId"):
        run = registry.client.get_run(parent)
    stages = _stages(registry, run)
    for tags in [run.data.tags, *(stage.data.tags for stage in stages.values())]:
        if (
            tags.get("git.dirty") != "false"
            or tags.get("git.commit", "none") != run.data.tags["git.commit"]
        ):
            raise FieldmarkError(
                f"{wanted} ran with uncommitted changes: its code is nowhere on record, so it "
                f"cannot be reproduced"
            )
    whole, order = _whole(stages), list(config.wiring())
    in_order = sorted(whole, key=lambda stage: order.index(stage) if stage in order else -1)
    figures = {
        name: value for stage in in_order for name, value in whole[stage].data.metrics.items()
    }  # as in _figures
    if not figures or "data.hash" not in run.data.tags:
        raise FieldmarkError(
            f"{wanted} has no figures or no data on record; name a rebuild that finished, or a "
            f"version it registered"
        )
    tags = run.data.tags
    return Recorded(
        f"{wanted} ({run.info.run_name})",
        tags["git.commit"],
        tags["data.hash"],
        json.loads(tags["libraries"]),
        figures,
    )


def _run(registry: Registry, wanted: str) -> Run:
    try:
        run: Run = registry.client.get_run(wanted)
        return run
    except MlflowException:
        version = registry.find(wanted)
    try:
        return registry.client.get_run(str(version.run_id))
    except MlflowException as error:
        raise FieldmarkError(
            f"the run that made version {version.version} is not in this store; its server has it"
        ) from error


def _stages(registry: Registry, rebuild: Run) -> dict[str, Run]:
    """The finished stages of a rebuild by name, the later one where one ran twice."""
    query = (
        f"tags.`mlflow.parentRunId` = '{rebuild.info.run_id}' and attributes.status = 'FINISHED'"
    )
    found = registry.client.search_runs(
        [rebuild.info.experiment_id], query, order_by=["attributes.start_time ASC"]
    )
    return {run.data.tags["stage"]: run for run in found if "stage" in run.data.tags}


def _whole(stages: Mapping[str, Run]) -> dict[str, Run]:
    """Beside a rebuild's own stages those that it did not need to run, found by the hash of what
    they made.
    """
    whole, open_ = dict(stages), list(stages.values())
    while open_:
        for key, made in open_.pop().data.tags.items():
            stage = key.removeprefix("in.")
            if (
                key.startswith("in.")
                and stage not in whole
                and (run := tracking.run_that_made(stage, made))
            ):
                whole[stage] = run
                open_.append(run)
    return whole


@contextmanager
def _worktree(commit: str, keep: bool) -> Iterator[Path]:
    """The project's folder in a scratch worktree of this commit, gone afterwards unless it is to be
    kept.
    """
    if not _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"):
        raise FieldmarkError(f"commit {commit} is not in this repository; `git fetch` it first")
    place = config.home() / ".fieldmark" / "reproduce" / commit[:12]
    _git("worktree", "remove", "--force", "--force", str(place))  # what a killed one left
    shutil.rmtree(place, ignore_errors=True)
    _git("worktree", "prune")
    prefix = _git("rev-parse", "--show-prefix")
    if (
        _git("worktree", "add", "--detach", str(place), commit) is None
        or not (place / (prefix or "") / "dvc.yaml").exists()
    ):
        raise FieldmarkError(
            f"git could not make a worktree of {commit} in {place}; `git worktree list` says "
            f"what is in its way"
        )
    try:
        yield place / (prefix or "")
    finally:
        if keep:
            print(f"kept: {place} (`git worktree remove --force` takes it away)")
        else:
            _git("worktree", "remove", "--force", "--force", str(place))


def _prepare(folder: Path, recorded: Recorded) -> None:
    """Ingest the photos of today; where they are no longer those of the run, take its own from
    DVC's cache.
    """
    cache = _dvc(config.home(), "cache", "dir").strip()
    _dvc(
        folder, "cache", "dir", "--local", os.path.relpath(cache, folder)
    )  # DVC writes no letters but ASCII
    _link_images(folder)
    try:
        _dvc(folder, "repro", "--force", "--no-commit", "ingest")
        same = _data_hash(folder) == recorded.data
    except FieldmarkError as error:  # the source may be gone, too
        print(error)
        same = False
    if not same:
        print("the images of today are not those of that run; taking its own from DVC's cache")
        _restore(folder, recorded)
    wiring = OmegaConf.load(folder / "dvc.yaml")
    for stage in {"config", "ingest"} & {
        *wiring.stages
    }:  # `dvc freeze` cannot write a stage that has `${...}`
        OmegaConf.update(wiring, f"stages.{stage}.frozen", True)
    OmegaConf.save(wiring, folder / "dvc.yaml")


def _restore(folder: Path, recorded: Recorded) -> None:
    lock = folder / "dvc.lock"
    text = OmegaConf.load(lock) if lock.exists() else OmegaConf.create({"schema": "2.0"})
    OmegaConf.update(
        text,
        "stages.ingest",
        {
            "cmd": "fieldmark ingest",
            "outs": [{"path": INGEST, "md5": recorded.data, "hash": "md5"}],
        },
    )
    OmegaConf.save(text, lock)
    shutil.rmtree(folder / INGEST, ignore_errors=True)
    try:
        _dvc(folder, "checkout", "--force", INGEST)
    except FieldmarkError as error:
        raise FieldmarkError(
            f"the data of that run ({recorded.data}) are neither those of today nor in DVC's "
            f"cache; `dvc pull` them"
        ) from error


def _link_images(folder: Path) -> None:
    """The photos that git does not hold, one's own and those of feedback, as links to the same
    bytes; copies across file systems.
    """
    own = str(OmegaConf.select(OmegaConf.load(folder / config.PARAMS), "images", default=""))
    for place in (own, str(inbox.ACCEPTED)):
        source = config.home() / place
        if not place or Path(place).is_absolute():
            continue
        if source.is_dir():
            shutil.copytree(source, folder / place, copy_function=_link, dirs_exist_ok=True)
        elif source.is_file():
            _link(str(source), str(folder / place))


def _link(source: str, target: str) -> None:
    if not Path(target).exists():
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)


def _data_hash(folder: Path) -> str:
    locked = OmegaConf.load(folder / "dvc.lock")
    return str(OmegaConf.select(locked, "stages.ingest.outs")[0].md5)


def _figures(folder: Path) -> dict[str, float]:
    """The figures of all stages; those that two share are the later one's."""
    found: dict[str, float] = {}
    for stage in OmegaConf.load(folder / "dvc.yaml").stages:
        file = folder / "data" / str(stage) / "metrics.json"
        found |= json.loads(file.read_text()) if file.exists() else {}
    return found


def compare(then: Mapping[str, float], now: Mapping[str, float]) -> list[Compared]:
    """A row a figure that a stage reports now, by name; what was only logged on the way (losses,
    seconds) is not compared.
    """
    rows = []
    for name, value in sorted(now.items()):
        old = then.get(name)
        equal = old is not None and (
            math.isclose(old, value, rel_tol=TOLERANCE, abs_tol=1e-12)
            or (old != old and value != value)
        )
        rows.append(Compared(name, old, value, None if name.startswith(TIMES) else equal))
    return rows


def _show(recorded: Recorded, compared: list[Compared]) -> None:
    table = Table("figure", "then", "now", "", title=recorded.title, box=box.SIMPLE_HEAD)
    for row in compared:
        verdict = {True: "equal", False: "[red]different[/]", None: "a time"}[row.equal]
        table.add_row(
            row.name, *("-" if v is None else f"{v:.8g}" for v in (row.then, row.now)), verdict
        )
    Console(highlight=False).print(table)
    different = sum(row.equal is False for row in compared)
    print(
        f"{different} of {len(compared)} figures differ"
        if different
        else "every figure is reproduced"
    )


def _say_libraries(recorded: Recorded) -> None:
    here = json.loads(provenance.code_tags()["libraries"])
    changed = [
        f"{name} {old} then, {here.get(name)} now"
        for name, old in recorded.libraries.items()
        if here.get(name) != old
    ]
    if changed:
        print(f"other libraries than then: {'; '.join(changed)}")


def _git(*arguments: str) -> str | None:
    """What git says, None where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _dvc(folder: Path, *arguments: str) -> str:
    """Run DVC there, without this project's store and feature cache. Raises FieldmarkError with its
    last words.
    """
    ours = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("MLFLOW_", "FIELDMARK_CACHE", "DVC_", "PYTHONPATH"))
    }
    environment = {**ours, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        [BIN / "dvc", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise FieldmarkError(f"`dvc {' '.join(arguments)}` failed in {folder}: {' '.join(said)}")
    return done.stdout
