"""Runs one stage: configuration, seed, MLflow run, a clean output folder, metrics.

A stage reads nothing of this: it gets each `data/...` dependency of dvc.yaml as a keyword argument spelled like its
path, `images` where the folder of photos is among them, one output folder `out`, and `scratch` if it asks for it.
"""

import importlib
import inspect
import json
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from filelock import FileLock, Timeout

from pipeline import config, lineage, tracking
from pipeline.errors import FieldmarkError
from pipeline.sources import address

STATE = Path(".fieldmark")


def run(stage: str) -> None:
    """Run one stage of dvc.yaml in the folder that holds it.

    Everything is written below .fieldmark/ and renamed into data/ when it is whole, so a kill leaves nothing that
    looks finished. Raises FieldmarkError for what the user can put right.
    """
    wiring = config.wiring()[stage]
    config.check()
    cfg = config.load(*wiring["params"])
    inputs = _inputs(wiring, cfg)
    out = Path(wiring["outs"][0])
    function = importlib.import_module(f"pipeline.stages.{stage.replace('-', '_')}").run
    tags = {"seed": str(cfg.seed), **tracking.code_tags(), **_hashes(wiring)}
    with _alone(stage), tracking.stage_run(stage, tags, cfg.plain()):
        start = time.perf_counter()
        _seed(cfg.seed)
        partial = _fresh(STATE / "partial" / stage)
        if "scratch" in inspect.signature(function).parameters:
            inputs["scratch"] = _resumable(stage, cfg, tags)
        metrics = function(cfg, **inputs, out=partial)
        (partial / "metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
        _publish(partial, out)
        seconds = time.perf_counter() - start
        tracking.log_metrics({**metrics, "stage_seconds": seconds})
        tracking.log_files(out)
        tracking.tag({"out.hash": _dvc_hash(out)})
    shutil.rmtree(STATE / "scratch" / stage, ignore_errors=True)
    shown = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
    print(f"{stage}: {shown} ({seconds:.0f} s)")


def _inputs(wiring: dict[str, Any], cfg: config.Config) -> dict[str, Path | str]:
    named: dict[str, Path | str] = {dep.removeprefix("data/"): Path(dep) for dep in wiring["deps"] if dep.startswith("data/")}
    if "images" in wiring["params"]:
        named = {name: path for name, path in named.items() if str(path) != cfg.images}
        named["images"] = address.local_or_remote(cfg.images)
    missing = [str(path) for path in named.values() if isinstance(path, Path) and not path.exists()]
    if missing:
        raise FieldmarkError(f"{', '.join(missing)} is missing; `dvc repro` makes what a stage needs, in order")
    return {Path(name).with_suffix("").as_posix().replace("/", "_").replace("-", "_"): p for name, p in named.items()}


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _resumable(stage: str, cfg: config.Config, tags: dict[str, str]) -> Path:
    """A folder that survives a kill, and is emptied when configuration, code or inputs are no longer the same."""
    folder, key = STATE / "scratch" / stage, STATE / "scratch" / stage / "belongs-to.json"
    same = {"config": cfg.plain(), **{k: v for k, v in tags.items() if k.startswith(("in.", "git."))}}
    mark = json.dumps(same, sort_keys=True, default=str)
    if not key.exists() or key.read_text() != mark:
        _fresh(folder)
        key.write_text(mark)
    return folder


def _publish(partial: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, out)


@contextmanager
def _alone(stage: str) -> Iterator[None]:
    """Hold the stage's lock, and stop when the `dvc` that started this process is gone.

    An orphan would go on writing beside the stage that the next `dvc repro` starts.
    """
    STATE.mkdir(exist_ok=True)
    parent = psutil.Process().parent()
    if parent is not None and os.environ.get("DVC_STAGE"):
        threading.Thread(target=_stop_with, args=(parent,), daemon=True).start()
    try:
        with FileLock(STATE / f"{stage}.lock", timeout=15):
            yield
    except Timeout as error:
        raise FieldmarkError(f"another process is running {stage} in this folder; wait for it or stop it") from error


def _stop_with(parent: psutil.Process) -> None:
    while parent.is_running() and os.getppid() == parent.pid:
        time.sleep(0.5)
    os._exit(1)


def _hashes(wiring: dict[str, Any]) -> dict[str, str]:
    """DVC's hashes of the stages' outputs that this one reads."""
    made = lineage.outputs()
    used = {path: md5 for path, md5 in made.items() if any(d == path or d.startswith(path + "/") for d in wiring["deps"])}
    first = {"data.hash": made["data/ingest"]} if "data/ingest" in made and used else {}
    return {**first, **{f"in.{Path(path).name}": md5 for path, md5 in used.items()}}


def _dvc_hash(folder: Path) -> str:
    """The hash that dvc.lock will hold for this output."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_objects.fs.local import localfs

    odb = LocalHashFileDB(  # type: ignore[no-untyped-call]
        localfs, str((STATE / "odb").resolve()), tmp_dir=str(STATE.resolve()))
    return str(build(odb, str(folder.resolve()), localfs, "md5", dry_run=True)[2].hash_info.value)
