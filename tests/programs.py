"""Programs that tests start in a copied project, each with the environment of a rebuild."""

import os
import subprocess
import sys
from pathlib import Path

Done = subprocess.CompletedProcess[str]


def rebuild_environment(folder: Path, cache: Path) -> dict[str, str]:
    """The environment of `dvc repro` in a copied project: its own run store, this environment's
    commands, bytecode beside the code.
    """
    ours = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("MLFLOW", "FIELDMARK", "DVC", "PYTHONDONTWRITE"))
    }
    # A killed rebuild must compute again, not find another test's features; for forty photos no
    # process that loads them pays.
    own = {"FIELDMARK_CACHE": str(cache), "FIELDMARK_WORKERS": "0"}
    return {**ours, "PATH": f"{Path(sys.executable).parent}:{ours['PATH']}", **own}


def run(folder: Path, cache: Path, *command: str, **variables: str) -> Done:
    """The command in the folder, to its end, whatever that is.

    variables: of its environment, over those of a rebuild.
    """
    environment = {**rebuild_environment(folder, cache), **variables}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def succeed(folder: Path, cache: Path, *command: str, **variables: str) -> Done:
    """The same; where the command fails, the test does, with the end of what was printed."""
    done = run(folder, cache, *command, **variables)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done
