"""What a person at the terminal reads: `fieldmark COMMAND --help`, and a word while it loads."""

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.commands import waiting

STANDS_IN = {
    "serve": "that of conf/serving/",
    "monitor": "hours in conf/monitor/",
    "review": "git's user.name",
    "label-check": "label_check.audit.fractions",
}


@pytest.mark.parametrize("command", STANDS_IN)
def test_help_says_where_a_default_stands_that_is_no_constant(command: str) -> None:
    text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert STANDS_IN[command] in text


def at_a_terminal(folder: Path, *command: str) -> str:
    """What `python -m pipeline.cli` writes to a terminal in the folder."""
    terminal, other_side = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=other_side,
        stderr=other_side,
    ):
        os.close(other_side)
        parts = []
        with suppress(OSError):  # Linux says so once the other side is closed
            while part := os.read(terminal, 65536):
                parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()


def test_a_command_says_at_once_that_it_loads_and_its_answer_takes_that_place(
    tmp_path: Path,
) -> None:
    for command, answer in (("models", "params.yaml is missing"), ("cache", "of at most")):
        written = at_a_terminal(tmp_path, command)
        assert written.startswith(waiting.WORD + waiting.ERASED)
        assert answer in written
        assert written.count(waiting.WORD) == written.count(waiting.ERASED) == 1
    assert waiting.WORD not in at_a_terminal(tmp_path, "ingest")  # run by dvc, which says so
