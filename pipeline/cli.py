"""The command `fieldmark`: one sub-command a stage, and what a person asks for."""

import os
import sys
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import FieldmarkError
from pipeline.runs import failures, processes, surroundings

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


_STAGES = {
    "ingest": "Read the source, verify and hash every file, drop exact duplicates.",
    "label-check": "Find doubtful labels, near-duplicates and poor images; make the split.",
    "preprocess": "Turn files of any size into square arrays.",
    "augment": "Validate the augmentation policy, show it, store extra views.",
    "model-search": "Compare the candidates; the best within the latency budget goes on.",
    "tune": "Search the winner's hyperparameters and train the best.",
    "evaluate": "Look once at the test images.",
    "export": "Write ONNX and the model card, check parity, register.",
}
_WITH_OPTIONS = ("ingest", "label-check")  # their commands are written out below
STAGE_PANEL = "Stages (run by `dvc repro`, in this order)"
PRODUCTION_PANEL = "Production"
Why = Annotated[str, typer.Option(help="The reason; it stays on record.")]
TakeOver = Annotated[
    bool,
    typer.Option(
        "--take-over",
        help="Close what another machine left unfinished; only where you know that it died.",
    ),
]


class Format(StrEnum):
    """What `fieldmark predict` writes."""

    json = "json"
    csv = "csv"
    pictures = "pictures"


def _stage(name: str) -> None:
    @app.command(name, help=_STAGES[name], rich_help_panel=STAGE_PANEL)
    def command() -> None:
        _run(name)


def _load(*sections: str, use: dict[str, str] | None = None) -> Any:
    """The configuration; what reads it takes a second to import, for which `--help` would wait."""
    return import_module("pipeline.config").load(*sections, use=use)


def _run(stage: str) -> None:
    processes.stop_with_rebuild()  # before the imports, which take seconds
    processes.put_off_garbage()
    import_module("pipeline.runs.runner").run(stage)


@app.command("ingest", help=_STAGES["ingest"], rich_help_panel=STAGE_PANEL)
def ingest(
    source: Annotated[
        str | None,
        typer.Argument(help="With --check: a file of conf/ingest/ other than the one in use."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would be taken in, left out, and why.")
    ] = False,
    images: Annotated[
        str | None, typer.Option(help="With --check: a place other than `images:` of params.yaml.")
    ] = None,
) -> None:
    if not check:
        if source or images:
            raise FieldmarkError(
                "a source or a place is named only with --check; for the pipeline, in params.yaml"
            )
        _run("ingest")
        return
    cfg = _load("images", "ingest", use={"ingest": source} if source else None)
    place = import_module("pipeline.sources.address").local_or_remote(images or cfg.images)
    print(import_module("pipeline.stages.ingest").check(cfg, images=place))


@app.command("label-check", help=_STAGES["label-check"], rich_help_panel=STAGE_PANEL)
def label_check(
    audit: Annotated[
        bool, typer.Option("--audit", help="Only say how well planted label errors are found.")
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
            help="With --audit: also against the labels that this metadata column holds.",
        ),
    ] = None,
) -> None:
    if audit:
        import_module("pipeline.labels.audit").show(
            _load("seed", "label_check"), fraction or [], verified
        )
    elif fraction or verified:
        raise FieldmarkError(
            "--fraction and --verified go with --audit; for the pipeline, set "
            "label_check.audit in params.yaml"
        )
    else:
        _run("label-check")


for _name in [name for name in _STAGES if name not in _WITH_OPTIONS]:
    _stage(_name)


@app.command("config")
def show_config(
    section: Annotated[
        list[str] | None, typer.Argument(help="Sections; all when none is named.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Print nothing, only check.")] = False,
    explain: Annotated[
        str, typer.Option(metavar="KEY", help="Say what one key means, such as tune.trials.")
    ] = "",
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of params.yaml, for editors.")
    ] = False,
) -> None:
    """Print the configuration that results from params.yaml over conf/, fully checked."""
    from omegaconf import OmegaConf

    if explain or schema:
        from pipeline.config import explain as explaining

        print(explaining.explain(explain) if explain else explaining.schema_text(), end="\n")
        return
    config = import_module("pipeline.config")
    config.check()
    if check:
        config.check_images(surroundings.dvc_encoding())
        import_module("pipeline.repository.state").check()
        import_module("pipeline.sources.obstacles").check(config.inputs())
    else:
        print(OmegaConf.to_yaml(OmegaConf.create(config.load(*(section or [])).plain())), end="")


@app.command("cache")
def show_cache(
    kind: Annotated[str | None, typer.Argument(help="Such as trials; all by default.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete it.")] = False,
) -> None:
    """What is kept of earlier computations; what is deleted is computed again."""
    import_module("pipeline.storage.usage").command(kind, clear=clear)


@app.command()
def lineage() -> None:
    """For each stage's present output, the MLflow run that made it, however old."""
    import_module("pipeline.runs.lineage").show()


@app.command()
def review(
    by: Annotated[
        str,
        typer.Option(
            help="Your name, written beside each decision.", show_default="git's user.name"
        ),
    ] = "",
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Where it listens, on this machine only; 0 picks a free one."
        ),
    ] = 8421,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
) -> None:
    """Settle labels and label images on a local page; `dvc repro` applies what was decided."""
    import_module("pipeline.review.server").serve(by=by, port=port, browser=browser)


@app.command()
def serve(
    folder: Annotated[
        Path | None,
        typer.Option(
            help="An exported folder, with no tracking server.", show_default="the registry"
        ),
    ] = None,
    version: Annotated[
        str,
        typer.Option(
            help="A version of the registry.",
            show_default="the one in production, and its successors",
        ),
    ] = "",
    host: Annotated[
        str, typer.Option(help="Where it listens.", show_default="that of conf/serving/")
    ] = "",
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="0 picks a free one.", show_default="that of conf/serving/"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes; one uses all cores.", show_default="that of conf/serving/"
        ),
    ] = None,
    feedback: Annotated[
        bool | None,
        typer.Option(
            "--feedback/--no-feedback",
            help="Keep images for people to look at.",
            show_default="that of conf/serving/",
        ),
    ] = None,
    new_key: Annotated[
        str, typer.Option(help="Only make an API key of this name, and print it.")
    ] = "",
) -> None:
    """Answer over HTTP what is in an image; a newly promoted version is taken up without a
    restart.
    """
    server = import_module("pipeline.serving.server")
    if new_key:
        print(server.new_key(new_key))
    elif folder and version:
        raise FieldmarkError("name a folder or a version, not both")
    else:
        server.serve(
            folder=folder, version=version, host=host, port=port, workers=workers, keep=feedback
        )


@app.command()
def predict(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Images, folders of them, videos.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="An exported folder, a registered version, an alias, or an address models:/..."
        ),
    ] = "production",
    format: Annotated[
        Format,
        typer.Option(help="json: a line an image; pictures: PNG files with the answer below."),
    ] = Format.json,
    out: Annotated[Path, typer.Option(help="With --format pictures: an empty folder.")] = Path(
        "predictions"
    ),
    top: Annotated[int, typer.Option(min=1, help="How many classes an image.")] = 5,
    camera: Annotated[
        str,
        typer.Option(
            help="A camera's number, a stream's address or a video file, at its own rate. "
            "Ctrl-C ends it."
        ),
    ] = "",
    every_seconds: Annotated[
        float, typer.Option(min=0.0, help="Of a video file, a frame each so many seconds.")
    ] = 1.0,
    max_megapixels: Annotated[
        float, typer.Option(min=0.0, help="A larger image is not read.")
    ] = 100.0,
    max_file_megabytes: Annotated[
        float, typer.Option(min=0.0, help="A larger file, but for a video, is not read.")
    ] = 500.0,
) -> None:
    """What a model says of images, on stdout; exit code 1 where one could not be read."""
    command = import_module("pipeline.prediction.command")
    unread = command.predict(
        files or [],
        source=camera,
        model=model,
        form=format.value,
        out=out,
        top=top,
        every_seconds=every_seconds,
        max_pixels=round(max_megapixels * 1e6),
        max_bytes=round(max_file_megabytes * 1e6),
    )
    raise typer.Exit(1 if unread else 0)


@app.command()
def monitor(
    since: Annotated[
        str,
        typer.Option(
            help="How far to look back: 30m, 24h, 7d.", show_default="hours in conf/monitor/"
        ),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Everything, for a program.")] = False,
) -> None:
    """How the model does in production; the exit code is 1 where there is an alert."""
    if import_module("pipeline.monitor.show").show(since=since, json=json):
        raise typer.Exit(1)


@app.command(rich_help_panel=PRODUCTION_PANEL)
def promote(
    version: Annotated[str, typer.Argument(help="A version's number or alias.")] = "candidate",
    force: Annotated[
        bool, typer.Option("--force", help="Promote it whatever the gates say; needs --why.")
    ] = False,
    why: Why = "",
    take_over: TakeOver = False,
) -> None:
    """Put a version into production, if the gates of conf/promotion/ pass."""
    cfg = _load("blur_faces", "preprocess", "export", "promotion")
    import_module("pipeline.promotion.moves").promote(
        cfg, version, force=force, why=why, take_over=take_over
    )


@app.command(rich_help_panel=PRODUCTION_PANEL)
def rollback(why: Why = "", take_over: TakeOver = False) -> None:
    """Put the version back that was in production before."""
    import_module("pipeline.promotion.moves").rollback(
        _load("export"), why=why, take_over=take_over
    )


@app.command(rich_help_panel=PRODUCTION_PANEL)
def models() -> None:
    """The registered versions: aliases, key figures, commit and data."""
    import_module("pipeline.promotion.tables").models(_load("export"))


@app.command(rich_help_panel=PRODUCTION_PANEL)
def history() -> None:
    """Who moved `production`, when, from which version to which, and why."""
    import_module("pipeline.promotion.tables").history(_load("export"))


@app.command(rich_help_panel=PRODUCTION_PANEL)
def reproduce(
    run: Annotated[str, typer.Argument(help="A run's id, a version's number, or an alias.")],
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the scratch worktree where it is.")
    ] = False,
) -> None:
    """Run an old run again from its commit and data, and compare the figures; exit code 1 where one
    differs.
    """
    if not import_module("pipeline.promotion.reproduce").reproduce(_load("export"), run, keep=keep):
        raise typer.Exit(1)


def main() -> None:
    """Run the command; what the user can put right is said in one line, without a traceback."""
    surroundings.settle()
    _run_the_code_here()
    with failures.in_one_line():
        app(prog_name="fieldmark")  # a copy of the project runs it as a module


def _run_the_code_here() -> None:
    """In a copy of the project, as DVC makes for queued experiments, run that copy's code: its hash
    is what DVC records.
    """
    here = Path("pipeline/cli.py")
    if here.exists() and not here.samefile(__file__):
        path = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
        os.execve(
            sys.executable,
            [sys.executable, "-m", "pipeline.cli", *sys.argv[1:]],
            {**os.environ, "PYTHONPATH": path},
        )


if __name__ == "__main__":
    main()
