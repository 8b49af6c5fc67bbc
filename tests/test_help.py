"""What `fieldmark COMMAND --help` says."""

import pytest
from typer.testing import CliRunner

from pipeline.cli import app

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
