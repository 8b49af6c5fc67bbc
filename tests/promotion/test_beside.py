"""Two versions side by side."""

import json
from pathlib import Path

import pytest
from registered import register

from pipeline import FieldmarkError, config
from pipeline.promotion import beside

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")


def test_two_versions_are_shown_with_what_differs_and_a_test_on_the_same_images(
    cfg: config.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = {"title": "lite0"}
    register(tmp_path, winner=json.dumps({**same, "fit": {"lr": 0.001}}))
    register(
        tmp_path,
        threshold=200,
        winner=json.dumps({**same, "fit": {"lr": 0.002}}),
        **{"test/accuracy": "0.9000", "data.ingest": "other"},
    )
    page = tmp_path / "page.html"
    beside.compare(cfg, "1", "candidate", page)
    output = capsys.readouterr().out
    words = " ".join(output.split())
    assert "accuracy 0.95 (0.930 to 0.970) 0.9 (0.930 to 0.970)" in words
    assert "fit.lr 0.001 0.002" in words and "title" not in words
    assert "images fedcba9 other" in words
    assert "only version 2 is right on 0, only version 1 on 11: version 1 is better" in words
    assert max(map(len, output.splitlines())) <= beside.WIDTH
    assert "fit.lr" in page.read_text(encoding="utf-8")


def test_versions_that_cannot_be_tested_on_the_same_images_are_still_shown(
    cfg: config.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(tmp_path)
    register(tmp_path, classes=["dog", "hen"])
    beside.compare(cfg, "1", "2", None)
    output = capsys.readouterr().out
    assert "accuracy" in output
    assert "not compared on the same images: version 2 does not know the classes cat" in " ".join(
        output.split()
    )


def test_a_version_beside_itself_is_refused(cfg: config.Config, tmp_path: Path) -> None:
    register(tmp_path)
    with pytest.raises(FieldmarkError, match="are both version 1"):
        beside.compare(cfg, "1", "candidate", None)
