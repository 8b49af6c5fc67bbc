"""Which data and which MLflow run stand behind each stage's present output, by DVC's hashes in dvc.lock."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Column, Table

from pipeline import tracking
from pipeline.errors import FieldmarkError

LOCK = Path("dvc.lock")


def outputs() -> dict[str, str]:
    """Folder of each stage's output -> DVC's hash of it; DVC writes it as each stage ends. Empty before the first."""
    locked: Any = OmegaConf.to_container(OmegaConf.load(LOCK)) if LOCK.exists() else {}
    return {out["path"]: out["md5"] for node in locked.get("stages", {}).values() for out in node.get("outs", [])}


def show() -> None:
    """Print one row a stage: output hash, run, commit, start. Raises FieldmarkError before any `dvc repro`."""
    if not outputs():
        raise FieldmarkError("no dvc.lock here; run `dvc repro` first")
    table = Table("stage", "output", Column("run", no_wrap=True), "commit", "dirty", "made")  # to be copied from here
    for path, md5 in outputs().items():
        stage = Path(path).name
        run = tracking.run_that_made(stage, md5)
        if run is None:
            table.add_row(stage, md5[:12], "not in this store", "", "", "")
        else:
            tags = run.data.tags
            table.add_row(stage, md5[:12], run.info.run_id, tags["git.commit"][:10], tags["git.dirty"], tracking.when(run))
    Console().print(table)
