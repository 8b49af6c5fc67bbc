"""What a rebuild says at its end."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli
from pipeline.evaluation import evidence, outcome
from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.figures import Figure


def judged() -> Evidence:
    method = {"n": 656, "method": "m", "meaning": "x"}
    figures = {
        "accuracy": Figure(value=0.8948, low=0.8721, high=0.9178, **method),
        "largest_class": Figure(value=0.6921, **method),
    }
    return Evidence.model_construct(figures=figures, n_test=656)


def test_it_says_what_was_reached_beside_always_guessing() -> None:
    assert outcome.reached(judged()) == (
        "89.5% right (87.2 to 91.8) on 656 test photos; always guessing the largest class: 69.2%"
    )


@pytest.mark.usefixtures("project")
def test_the_command_prints_it_and_how_to_keep_it_where_git_reports_an_edit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evidence, "read", lambda _: judged())
    Path("data/evaluate").mkdir()
    Path("data/evaluate", evidence.FILE).touch()
    clean = CliRunner().invoke(cli.app, ["result"]).stdout
    assert "89.5% right" in clean and "Keep it" not in clean
    assert "fieldmark review, promote, serve" in clean
    with Path("params.yaml").open("a") as params:
        params.write("# tried\n")
    assert "Keep it: git commit -am" in CliRunner().invoke(cli.app, ["result"]).stdout


@pytest.mark.usefixtures("project")
def test_before_the_first_rebuild_it_says_what_to_do() -> None:
    with pytest.raises(FieldmarkError, match="make repro"):
        CliRunner().invoke(cli.app, ["result"], catch_exceptions=False)
