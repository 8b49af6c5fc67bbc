"""Two versions side by side."""

import json
import subprocess
from pathlib import Path

import pytest
from registered import register

from pipeline import FieldmarkError, config
from pipeline.promotion import beside, kept, named
from pipeline.promotion.registry import connect
from pipeline.runs import tracking

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
    written = page.read_text(encoding="utf-8")
    assert "fit.lr" in written and 'name="viewport"' in written  # to be read on a phone, too
    assert written.rstrip().endswith("</html>") and "{" + "code}" not in written


def test_a_run_a_revision_and_an_experiment_name_the_version_that_they_made(
    cfg: config.Config, tmp_path: Path
) -> None:
    register(tmp_path)
    store = connect("fieldmark")
    with tracking.stage_run("export", {}, {}, {"tune": {"trials": 3}}) as run:
        source = store.find("1").source
        made = {"data.evaluate": "abc.dir"}
        store.client.create_model_version("fieldmark", source, run_id=run, tags=made)
    rebuild = store.client.get_run(run).data.tags["mlflow.parentRunId"]
    Path("dvc.lock").write_text(
        "stages: {evaluate: {outs: [{path: data/evaluate, md5: abc.dir}]}}\n", encoding="utf-8"
    )
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@b")
    for step in (["init", "-q"], ["add", "dvc.lock"], ["commit", "-qm", "kept"]):
        subprocess.run([*git, *step], check=True)
    subprocess.run([*git, "update-ref", "refs/exps/ab/cdef/warm-lamb", "HEAD"], check=True)
    for name in (rebuild, run, "HEAD", "warm-lamb", "2"):
        assert str(named.version(store, name).version) == "2"
    assert kept.of(store, store.find("2")).settings["tune"] == {"trials": 3}
    with pytest.raises(FieldmarkError, match="no version or alias 'HEAD~1'.*git revision"):
        named.version(store, "HEAD~1")


def test_a_candidate_that_one_side_lacks_is_one_row() -> None:
    one = {"candidates": {"a": {"title": "A", "head": {"C": 1}}}, "seed": 0}
    other = {"candidates": {"a": {"title": "A", "head": {"C": 2}}, "b": {"title": "B", "x": 1}}}
    assert list(beside.turned(one, {**other, "seed": 0})) == [
        ("candidates.a.head.C", "1", "2"),
        ("candidates.b", "-", "B"),
    ]


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
