"""Which data and which MLflow run belong to each stage's present output, by hash in dvc.lock."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline import FieldmarkError
from pipeline.runs import provenance, tracking

LOCK = Path("dvc.lock")
CAPTION = (
    "output: its hash in dvc.lock; commit+: with edits that are in no commit; "
    "commit?: unknown whether edited"
)


def outputs() -> dict[str, str]:
    """DVC's hash of each stage's output, by folder; empty before the first rebuild.

    DVC writes it as each stage ends.
    """
    return locked(LOCK.read_text(encoding="utf-8")) if LOCK.exists() else {}


def locked(text: str) -> dict[str, str]:
    """The same, of the text of a dvc.lock."""
    lock: Any = OmegaConf.to_container(OmegaConf.create(text))
    return {
        out["path"]: out["md5"]
        for node in lock.get("stages", {}).values()
        for out in node.get("outs", [])
    }


def show() -> None:
    """Print one row per stage: output hash, run, commit, start.

    Raises FieldmarkError before the first `dvc repro`.
    """
    if not outputs():
        raise FieldmarkError(
            "no dvc.lock here; run `dvc repro` first, in the folder that holds dvc.yaml"
        )
    table = Table(
        "stage",
        "output",
        "run",
        "commit",
        "made",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        caption=CAPTION,
    )
    for path, md5 in outputs().items():
        stage = Path(path).name
        run = tracking.run_that_made(stage, md5)
        if run is None:
            table.add_row(stage, md5[:7], "not in this store", "", "")
        else:
            table.add_row(
                stage,
                md5[:7],
                run.info.run_id,
                provenance.mark(run.data.tags),
                tracking.when(run)[:16],
            )
    Console(highlight=False).print(table)


def origin(tune: Path) -> dict[str, Any]:
    """Of a trained model: the commit, the hash of the data, the versions, the configuration."""
    commit, versions = provenance.code_in_words()
    return {
        "git_commit": commit,
        "data_hash": outputs().get("data/ingest", "unknown"),
        "versions": versions,
        "config_yaml": (tune / "best.yaml").read_text(encoding="utf-8"),
    }
