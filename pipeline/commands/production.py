"""Which version is in production, and which were."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

PANEL = "Production"
Why = Annotated[str, typer.Option(help="The reason; it stays on record.")]
TakeOver = Annotated[
    bool,
    typer.Option(
        "--take-over",
        help="Close what another machine left unfinished; only where you know that it died.",
    ),
]


@app.command(rich_help_panel=PANEL)
def promote(
    version: Annotated[str, typer.Argument(help="A version's number or alias.")] = "candidate",
    force: Annotated[
        bool, typer.Option("--force", help="Promote it whatever the gates say; needs --why.")
    ] = False,
    why: Why = "",
    take_over: TakeOver = False,
) -> None:
    """Put a version into production, if the gates of conf/promotion/ pass."""
    from pipeline.config import load
    from pipeline.promotion import moves

    cfg = load("name", "blur_faces", "preprocess", "promotion")
    moves.promote(cfg, version, force=force, why=why, take_over=take_over)


@app.command(rich_help_panel=PANEL)
def rollback(why: Why = "", take_over: TakeOver = False) -> None:
    """Put the version back that was in production before."""
    from pipeline.config import load
    from pipeline.promotion import moves

    moves.rollback(load("name"), why=why, take_over=take_over)


@app.command(rich_help_panel=PANEL)
def models() -> None:
    """List the registered versions: aliases, key figures, commit and data."""
    from pipeline.config import load
    from pipeline.promotion import tables

    tables.models(load("name"))


@app.command(rich_help_panel=PANEL)
def compare(
    first: Annotated[
        str,
        typer.Argument(
            help="A version's number or alias, a run's id, a git revision, or a dvc experiment."
        ),
    ] = "production",
    second: Annotated[str, typer.Argument(help="Another one.")] = "candidate",
    html: Annotated[
        Path | None,
        typer.Option(help="A file to write it to, as a page, with the pictures that flipped."),
    ] = None,
) -> None:
    """Two versions side by side: settings, data, figures, and a test on the same images."""
    from pipeline.config import load
    from pipeline.promotion import beside

    cfg = load("name", "blur_faces", "preprocess", "promotion")
    beside.compare(cfg, first, second, html)


@app.command(rich_help_panel=PANEL)
def history() -> None:
    """List who moved `production`, when, from which version to which, and why."""
    from pipeline.config import load
    from pipeline.promotion import tables

    tables.history(load("name"))


@app.command(rich_help_panel=PANEL)
def reproduce(
    run: Annotated[str, typer.Argument(help="A run's id, a version's number, or an alias.")],
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the scratch worktree where it is.")
    ] = False,
) -> None:
    """Run an old run again and compare the figures; exit code 1 where one differs."""
    from pipeline.config import load
    from pipeline.promotion.reproduce import reproduce

    if not reproduce(load("name"), run, keep=keep):
        raise typer.Exit(1)
