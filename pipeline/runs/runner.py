"""Runs one stage: configuration, seed, MLflow run, a clean output folder, metrics.

A stage knows nothing of this. It gets each `data/...` dependency of dvc.yaml as a keyword argument
spelled like its path, `images` where it reads the folder of photos, and one output folder `out`. If
it has the parameters, it also gets `scratch`, and `run_id`, below which it logs its trials.
"""

import importlib
import inspect
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline import FieldmarkError, config
from pipeline.compute import seeding
from pipeline.repository import state
from pipeline.runs import lineage, processes, provenance, tracking
from pipeline.sources import address, obstacles
from pipeline.storage.code import files_hash

STATE = Path(".fieldmark")
DATA = "data/ingest"  # the output whose hash names the data
PATIENCE_S = 15.0  # the processes of a killed run end within this time


def run(stage: str) -> None:
    """Run one stage of dvc.yaml in the folder that holds it.

    Everything is written below .fieldmark/ and renamed into data/ when it is complete, so a kill
    leaves nothing that looks finished. Raises FieldmarkError for what the user can put right, also
    where git does not say which code this is.
    """
    wiring = config.wiring()[stage]
    config.check()
    state.check()
    whole = config.load()
    cfg = whole.only(*wiring["params"])
    inputs = _inputs(wiring, cfg)
    if "images" in inputs:  # also where the stage runs alone
        obstacles.check([inputs["images"]])
    out = Path(wiring["outs"][0])
    # By its name: this room lies below the stages, and may not import them.
    function = importlib.import_module(f"pipeline.stages.{stage.replace('-', '_')}").run
    tags = {"seed": str(cfg.seed), **provenance.code_tags(), **_hashes(wiring)}
    with _alone(stage), tracking.stage_run(stage, tags, cfg.plain(), whole.plain()) as own:
        start = time.perf_counter()
        seeding.seed_all(cfg.seed)
        partial = _fresh(STATE / "partial" / stage)
        if "run_id" in inspect.signature(function).parameters:
            inputs["run_id"] = own
        if "scratch" in inspect.signature(function).parameters:
            inputs["scratch"] = _resumable(stage, cfg, wiring, tags)
        processes.collect_from_here()
        with _naming(partial):
            metrics = function(cfg, **inputs, out=partial)
        (partial / "metrics.json").write_text(
            json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
        _publish(partial, out)
        seconds = time.perf_counter() - start
        _record(out, metrics, seconds, share_pictures=whole.export.share_pictures)
    shutil.rmtree(STATE / "scratch" / stage, ignore_errors=True)
    figures = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
    print(f"{stage}: {figures} ({seconds:.0f} s)")


def _record(out: Path, metrics: dict[str, float], seconds: float, *, share_pictures: bool) -> None:
    """Log the stage's figures, files and output hash on its run."""
    tracking.log_result(metrics)
    tracking.log_metrics({"stage_seconds": seconds})
    tracking.log_files(out, share_pictures=share_pictures)
    output_hash = _dvc_hash(out)
    # The device once more: a stage may have imported torch late.
    tracking.tag({"out.hash": output_hash, "device": provenance.device()})
    if str(out) == DATA:
        tracking.tag_data(output_hash)


def _inputs(wiring: dict[str, Any], cfg: config.Config) -> dict[str, Path | str]:
    named: dict[str, Path | str] = {
        dep.removeprefix("data/"): Path(dep) for dep in wiring["deps"] if dep.startswith("data/")
    }
    if "images" in wiring["params"]:
        named = {name: path for name, path in named.items() if path != Path(cfg.images)}
        named["images"] = address.local_or_remote(cfg.images)
    missing = [str(path) for path in named.values() if isinstance(path, Path) and not path.exists()]
    if missing:
        raise FieldmarkError(
            f"{', '.join(missing)} is missing; `dvc repro` makes what a stage needs, in order"
        )
    return {
        Path(name).with_suffix("").as_posix().replace("/", "_").replace("-", "_"): p
        for name, p in named.items()
    }


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    config.made(folder)
    return folder


def _resumable(
    stage: str, cfg: config.Config, wiring: dict[str, Any], tags: dict[str, str]
) -> Path:
    """A folder that survives a kill.

    It is emptied when configuration, code, libraries or inputs have changed.
    """
    folder, key = STATE / "scratch" / stage, STATE / "scratch" / stage / "belongs-to.json"
    same = {"config": cfg.plain(), "code": _code_hash(wiring), "libraries": tags["libraries"]}
    mark = json.dumps(
        {**same, **{k: v for k, v in tags.items() if k.startswith("in.")}},
        sort_keys=True,
        default=str,
    )
    if not key.exists() or key.read_text(encoding="utf-8") != mark:
        _fresh(folder)
        key.write_text(mark, encoding="utf-8")
    return folder


def _code_hash(wiring: dict[str, Any]) -> str:
    """The hash of the files that dvc.yaml names as the stage's code.

    The commit would not tell one uncommitted edit from the next.
    """
    code = [Path(dep) for dep in wiring["deps"] if dep.startswith("pipeline/")]
    files = sorted(
        file
        for dep in code
        for file in (dep.rglob("*.*") if dep.is_dir() else [dep])
        if file.suffix != ".pyc"
    )
    return files_hash(file for file in files if file.is_file())


def _publish(partial: Path, out: Path) -> None:
    """Two renames, so that a kill leaves the old output, the new one or none, but never half."""
    out.parent.mkdir(parents=True, exist_ok=True)
    old = _fresh(STATE / "replaced" / out.name) / "old"
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old.parent, ignore_errors=True)


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """A full disk does not say for which file; then the error names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(folder)
        raise


@contextmanager
def _alone(stage: str) -> Iterator[None]:
    """Hold the stage's lock."""
    config.made(STATE)
    try:
        held = FileLock(STATE / f"{stage}.lock").acquire(timeout=PATIENCE_S)
    except Timeout as error:
        raise FieldmarkError(
            f"another process is running {stage} in this folder; wait for it or stop it"
        ) from error
    with held:
        yield


def _hashes(wiring: dict[str, Any]) -> dict[str, str]:
    """DVC's hashes of the stages' outputs that this one reads."""
    hashes = lineage.outputs()
    used = {
        path: md5
        for path, md5 in hashes.items()
        if any(d == path or d.startswith(path + "/") for d in wiring["deps"])
    }
    first = {"data.hash": hashes[DATA]} if DATA in hashes and used else {}
    return {**first, **{f"in.{Path(path).name}": md5 for path, md5 in used.items()}}


def _dvc_hash(folder: Path) -> str:
    """The hash that dvc.lock will hold for this output."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_objects.fs.local import localfs

    odb = LocalHashFileDB(  # type: ignore[no-untyped-call]
        localfs, str((STATE / "odb").resolve()), tmp_dir=str(STATE.resolve())
    )
    return str(build(odb, str(folder.resolve()), localfs, "md5", dry_run=True)[2].hash_info.value)
