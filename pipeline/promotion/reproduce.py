"""Run an old run again: its commit, its data, every stage anew, and the figures side by side.

The commit is checked out into a scratch git worktree. DVC's cache is shared for reading only:
nothing is restored from it except the ingested images, and nothing is added, so an equal figure was
computed again. The runs of the worktree go into a store of their own.
"""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline import FieldmarkError, config
from pipeline.config import Config
from pipeline.feedback import inbox
from pipeline.promotion.recorded import Recorded, find
from pipeline.repository import git, worktree
from pipeline.runs import provenance

BIN = Path(sys.executable).parent
INGEST = "data/ingest"
# figures with this prefix are times: they differ from run to run, and are only printed
TIMES = "latency/"
TOLERANCE = 1e-6  # relative; sums in another order differ by less


@dataclass(frozen=True)
class Compared:
    """One figure then and now; None where a side lacks it; equal is None where it is a time."""

    name: str
    then: float | None
    now: float | None
    equal: bool | None


def reproduce(cfg: Config, name: str, *, keep: bool = False) -> bool:
    """Run a run (id, version or alias) again and compare each figure; whether all are equal.

    Raises FieldmarkError for a run of uncommitted code, of an unknown commit, or whose data are
    nowhere to be found.
    """
    recorded = find(cfg, name)
    _print_libraries(recorded)
    above = _levels_above(recorded.commit)
    with worktree.checked_out(recorded.commit, above=above, keep=keep) as folder:
        _prepare(folder, recorded)
        _dvc(folder, "repro", "--force", "--no-commit")
        compared = compare(recorded.figures, _figures(folder))
    _show(recorded, compared)
    return all(row.equal is not False for row in compared)


def _prepare(folder: Path, recorded: Recorded) -> None:
    """Ingest the photos of today; where they differ from the run's, restore its own from DVC."""
    cache = _dvc(config.home(), "cache", "dir").strip()
    # A relative path, since DVC writes ASCII alone.
    _dvc(folder, "cache", "dir", "--local", os.path.relpath(cache, folder))
    _link_images(folder)
    try:
        _dvc(folder, "repro", "--force", "--no-commit", "ingest")
        same = _data_hash(folder) == recorded.data
    except FieldmarkError as error:  # the source may be gone
        print(error)
        same = False
    if not same:
        print("the images of today are not those of that run; restoring its own from DVC's cache")
        _restore(folder, recorded)
    wiring = OmegaConf.load(folder / "dvc.yaml")
    # Not by `dvc freeze`, which cannot write a stage with `${...}`.
    for stage in {"config", "ingest"} & {*wiring.stages}:
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


def _levels_above(commit: str) -> int:
    """How many levels above the project the photos of that commit lie; 0 where not above it."""
    text = git.answer("show", f"{commit}:./{config.PARAMS}") or "{}"
    images = str(OmegaConf.select(OmegaConf.create(text), "images", default=""))
    return 0 if Path(images).is_absolute() else Path(os.path.normpath(images)).parts.count("..")


def _link_images(folder: Path) -> None:
    """Link the photos that git does not hold: one's own and those of feedback.

    Across file systems they are copied.
    """
    own = str(OmegaConf.select(OmegaConf.load(folder / config.PARAMS), "images", default=""))
    for place in (own, str(inbox.ACCEPTED)):
        source, target = config.home() / place, Path(os.path.normpath(folder / place))
        if not place or "://" in place or Path(place).is_absolute():
            continue
        if source.is_dir():
            shutil.copytree(
                source, target, copy_function=_link, ignore=_no_scratch, dirs_exist_ok=True
            )
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(str(source), str(target))


def _no_scratch(folder: str, names: list[str]) -> list[str]:
    """Leave the scratch copy itself out of the photos in a folder above the project."""
    return [name for name in names if Path(folder, name).resolve() == worktree.scratch_root()]


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
    """The figures of all stages; where two share a name, the later stage's."""
    figures: dict[str, float] = {}
    for stage in OmegaConf.load(folder / "dvc.yaml").stages:
        file = folder / "data" / str(stage) / "metrics.json"
        figures |= json.loads(file.read_bytes()) if file.exists() else {}
    return figures


def compare(then: Mapping[str, float], now: Mapping[str, float]) -> list[Compared]:
    """One row per figure that a stage reports now, by name.

    What was only logged on the way (losses, seconds) is not compared.
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


def _print_libraries(recorded: Recorded) -> None:
    here = provenance.libraries()
    changed = [
        f"{name} {old} then, {here.get(name)} now"
        for name, old in recorded.libraries.items()
        if here.get(name) != old
    ]
    if changed:
        print(f"other libraries than then: {'; '.join(changed)}")


def _dvc(folder: Path, *arguments: str) -> str:
    """Run DVC there, without this project's store and feature cache.

    Raises FieldmarkError with the last lines that it printed.
    """
    inherited = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("MLFLOW_", "FIELDMARK_CACHE", "DVC_", "PYTHONPATH"))
    }
    environment = {**inherited, "PATH": f"{BIN}:{os.environ['PATH']}"}
    process = subprocess.run(
        [BIN / "dvc", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if process.returncode:
        last_lines = (process.stderr.strip() or process.stdout.strip()).splitlines()[-3:]
        raise FieldmarkError(
            f"`dvc {' '.join(arguments)}` failed in {folder}: {' '.join(last_lines)}"
        )
    return process.stdout
