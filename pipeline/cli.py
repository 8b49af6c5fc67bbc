"""The command `fieldmark`: one sub-command per stage, and those that people call themselves."""

import os
import sys
from pathlib import Path

import typer

from pipeline.commands import production, project, serving, stages, waiting
from pipeline.runs import failures, processes, surroundings

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
for _module in (stages, project, serving, production):
    app.add_typer(_module.app)


def program() -> None:
    """The process of the command."""
    with processes.without_teardown():
        main()


def main() -> None:
    """Run the command; an error that the user can put right is one line, without a traceback."""
    surroundings.settle()
    _run_the_code_here()
    command = sys.argv[1:]
    if command and not (len(command) == 1 and command[0] in stages.STAGES):
        waiting.say()
    with failures.in_one_line():
        app(prog_name="fieldmark")  # a copy of the project runs it as a module


def _run_the_code_here() -> None:
    """Run the code of the copy of the project that DVC makes for a queued experiment.

    DVC records that code's hash.
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
    program()
