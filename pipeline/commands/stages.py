"""One command per stage; `dvc repro` runs them in order."""

from typing import Annotated

import typer

from pipeline import FieldmarkError
from pipeline.runs import processes

app = typer.Typer()

STAGES = {
    "ingest": "Read the source, verify and hash every file, drop exact duplicates.",
    "label-check": "Find doubtful labels, near-duplicates and poor images; make the split.",
    "preprocess": "Turn files of any size into square arrays.",
    "augment": "Validate the augmentation policy, show it, store extra views.",
    "model-search": "Compare the candidates; the best within the latency budget goes on.",
    "tune": "Search the winner's hyperparameters and train the best.",
    "evaluate": "Look once at the test images.",
    "export": "Write ONNX and the model card, check parity, register.",
}
WITH_OPTIONS = ("ingest", "label-check")  # their commands are written out below
PANEL = "Stages (run by `dvc repro`, in this order)"


def run(stage: str) -> None:
    """Run one stage; the process ends when the `dvc` that started it does."""
    processes.stop_with_rebuild()  # before the imports, which take seconds
    processes.put_off_garbage()
    from pipeline.runs import runner

    runner.run(stage)


@app.command("ingest", help=STAGES["ingest"], rich_help_panel=PANEL)
def ingest(
    source: Annotated[
        str | None,
        typer.Argument(help="With --check: a file of conf/ingest/ other than the one in use."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only list what would be taken, left out, and why.")
    ] = False,
    images: Annotated[
        str | None, typer.Option(help="With --check: a place other than `images:` of params.yaml.")
    ] = None,
) -> None:
    if check:
        print(_preview(source, images))
    elif source or images:
        raise FieldmarkError(
            "a source or a place is named only with --check; for the pipeline, set it in "
            "params.yaml"
        )
    else:
        run("ingest")


def _preview(source: str | None, images: str | None) -> str:
    from pipeline.config import load
    from pipeline.sources import address
    from pipeline.stages.ingest import check

    cfg = load("images", "ingest", use={"ingest": source} if source else None)
    account = check(cfg, images=address.local_or_remote(images or cfg.images))
    return "\n".join([account, *_lines_that_use_it(source, images)])


def _lines_that_use_it(source: str | None, images: str | None) -> list[str]:
    """The lines of params.yaml that would use the source and the place that were looked at; none for
    what is in use.
    """
    import json

    from pipeline.config import PARAMS, in_use, read_yaml

    if in_use(read_yaml(PARAMS), "ingest") == source:
        source = None
    if not (source or images):
        return []
    lines = [f"images: {json.dumps(images, ensure_ascii=False)}"] if images else []
    if source:
        own = source not in ("elpv", "digits")
        lines += [f"ingest: {{use: {source}}}"] + ["augment: {use: photo}"] * own
    return [f"these lines of {PARAMS} would use it:", *(f"  {line}" for line in lines)]


@app.command("label-check", help=STAGES["label-check"], rich_help_panel=PANEL)
def label_check(
    audit: Annotated[
        bool, typer.Option("--audit", help="Only measure how well planted label errors are found.")
    ] = False,
    fraction: Annotated[
        list[float] | None,
        typer.Option(
            help="With --audit: share of the labels to flip.",
            show_default="label_check.audit.fractions",
        ),
    ] = None,
    verified: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="With --audit: also measure against the labels in this metadata column.",
        ),
    ] = None,
) -> None:
    if audit:
        from pipeline.config import load
        from pipeline.labels.audit import show

        show(load("seed", "label_check"), fraction or [], verified)
    elif fraction or verified:
        raise FieldmarkError(
            "--fraction and --verified go with --audit; for the pipeline, set "
            "label_check.audit in params.yaml"
        )
    else:
        run("label-check")


def _add(name: str) -> None:
    @app.command(name, help=STAGES[name], rich_help_panel=PANEL)
    def command() -> None:
        run(name)


for _name in STAGES:
    if _name not in WITH_OPTIONS:
        _add(_name)
