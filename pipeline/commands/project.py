"""The project as it is: its configuration, its stored results, its outputs, its labels."""

from typing import Annotated

import typer

from pipeline.runs import surroundings

app = typer.Typer()


@app.command("config")
def show_config(
    section: Annotated[
        list[str] | None, typer.Argument(help="Sections; all when none is named.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Print nothing, only check.")] = False,
    explain: Annotated[
        str, typer.Option(metavar="KEY", help="Explain one key, such as tune.trials.")
    ] = "",
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of params.yaml, for editors.")
    ] = False,
) -> None:
    """Print the configuration that results from params.yaml over conf/, fully checked."""
    from pipeline import config

    if explain or schema:
        from pipeline.config import explain as explaining

        print(explaining.explain(explain) if explain else explaining.schema_text())
        return
    config.check()
    if check:
        _check_surroundings()
    else:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(OmegaConf.create(config.load(*(section or [])).plain())), end="")


def _check_surroundings() -> None:
    """Raise FieldmarkError for what would stop the rebuild: names, git, the folders to be read."""
    from pipeline import config
    from pipeline.repository import state
    from pipeline.sources import obstacles

    config.check_images(surroundings.dvc_encoding())
    state.check()
    obstacles.check(config.inputs())


@app.command()
def quick() -> None:
    """Change params.yaml to a quick try: a model sooner, less accurate."""
    from pipeline.repository import quick

    print(quick.turn())


@app.command()
def result() -> None:
    """Print what the last rebuild reached on the test photos, and what comes next."""
    from pathlib import Path

    from pipeline.evaluation import outcome
    from pipeline.repository import state

    print(outcome.reached(outcome.of(Path("data/evaluate"))))
    print(outcome.next_steps(state.to_commit()))


@app.command("cache")
def show_cache(
    kind: Annotated[str | None, typer.Argument(help="Such as trials; all by default.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete them.")] = False,
) -> None:
    """List the stored results of earlier computations; deleted ones are computed again."""
    from pipeline.storage import usage

    usage.command(kind, clear=clear)


@app.command()
def forget(
    photos: Annotated[list[str], typer.Argument(help="Photos: their ids, or their files.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise it is only listed.")] = False,
) -> None:
    """Remove a person's photos from images, outputs, caches and feedback, as far as it can reach."""
    from pipeline.privacy.forget import forget

    print(forget(photos, yes=yes))


@app.command()
def lineage() -> None:
    """Print the MLflow run that made each stage's present output, however old."""
    from pipeline.runs import lineage

    lineage.show()


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
        typer.Option(min=0, max=65535, help="The port, on this machine only; 0 picks a free one."),
    ] = 8421,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
    controls: Annotated[
        int,
        typer.Option(
            min=0,
            max=500,
            help="Mix so many images of known labels among the suspects, half with a wrong label, half "
            "with a wrong suggestion; the page says in the end how many were seen.",
        ),
    ] = 0,
) -> None:
    """Settle labels and label images on a local page; `dvc repro` applies the decisions."""
    from pipeline.review import server

    server.serve(by=by, port=port, browser=browser, controls=controls)
