"""A quick try: params.yaml is turned, in the open, and turned back by git."""

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli, config
from pipeline.repository import quick

pytestmark = pytest.mark.usefixtures("project")


def comments() -> list[str]:
    text = Path("params.yaml").read_text(encoding="utf-8")
    return [line.partition("#")[2] for line in text.splitlines() if line.startswith("#")]


def test_the_whole_configuration_is_valid_after_it_and_does_less() -> None:
    full, before = config.load(), comments()
    output = CliRunner().invoke(cli.app, ["quick"]).stdout
    small = config.load()
    assert (small.tune.trials, list(small.candidates)) == (1, ["lite0"])
    assert small.candidates["lite0"].head.kind == "logistic"  # no network is trained
    assert small.preprocess.size_px == small.label_check.size_px < full.preprocess.size_px
    assert small.label_check.audit.fractions == []
    assert comments() == before
    assert "git checkout params.yaml" in output


def test_what_a_person_turned_stays_where_the_preset_does_not_name_it() -> None:
    params = Path("params.yaml")
    text = params.read_text(encoding="utf-8").replace(
        "augment: {use: no_up}", "augment: {use: photo}"
    )
    text = text.replace("tune: {use: default}", "tune: {use: default, metric: accuracy}")
    params.write_text(text.replace("seed: 0", "seed: 7"), encoding="utf-8")
    commit()
    quick.turn()
    cfg = config.load()
    assert (cfg.seed, cfg.tune.metric, cfg.tune.trials) == (7, "accuracy", 1)
    assert "use: photo" in params.read_text(encoding="utf-8")


def commit() -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "-qam", "turned"], check=True)


def test_edits_that_git_could_not_bring_back_are_not_overwritten() -> None:
    params = Path("params.yaml")
    edited = params.read_text(encoding="utf-8").replace("seed: 0", "seed: 7")
    params.write_text(edited, encoding="utf-8")
    with pytest.raises(FieldmarkError, match="edits that are in no commit"):
        quick.turn()
    assert params.read_text(encoding="utf-8") == edited


def test_twice_is_once() -> None:
    quick.turn()
    once = Path("params.yaml").read_text(encoding="utf-8")
    quick.turn()
    assert Path("params.yaml").read_text(encoding="utf-8") == once
