import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from searches import settings
from toys import HOG, TIMM, UNCHANGED, candidate, samples

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate, ModelSearch
from pipeline.runs import tracking
from pipeline.search import ensemble, leaderboard, screening
from pipeline.search.screening import Screened
from pipeline.search.trial import Data

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")

MISSING = candidate({**TIMM, "weights": "nowhere.pth"}, frozen=True)
SVM = candidate(HOG, frozen=True, head={"kind": "svm", "C": 0.1})


@pytest.fixture
def run_id(tmp_path: Path, empty_store: Path) -> str:
    """A stage's run in a store of one's own."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    client = tracking.connect()
    experiment = client.get_experiment_by_name("fieldmark")
    assert experiment is not None
    made = client.create_run(experiment.experiment_id, run_name="model-search", tags={"seed": "0"})
    return str(made.info.run_id)


def search(run_id: str, how: ModelSearch, **candidates: Candidate) -> Screened:
    data = Data(samples([0, 1] * 4), samples([0, 1]), "none", UNCHANGED)
    named = {name: each.model_copy(update={"name": name}) for name, each in candidates.items()}
    return screening.screen(named, data, how, seed=0, run_id=run_id)


def screened(run_id: str, **candidates: Candidate) -> pd.DataFrame:
    return search(run_id, settings(), **candidates).board


def test_a_candidate_whose_weights_cannot_be_had_is_left_out_and_the_board_says_why(
    run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ranked = leaderboard.rank(
        screened(run_id, missing=MISSING, hog=SVM), settings(metric="log_loss")
    )
    assert ranked["candidate"].tolist() == ["hog", "missing"]
    assert ranked["within_budget"].tolist() == [True, False]
    assert ranked["left_out"][0] == ""
    assert "'nowhere.pth' is neither a file nor an installed package" in ranked["left_out"][1]
    assert "left out: extractor.weights: 'nowhere.pth'" in capsys.readouterr().out
    (sentence,) = leaderboard.left_out(ranked)
    assert sentence.startswith("test_resnet, frozen was left out: extractor.weights: 'nowhere.pth'")


def test_a_candidate_that_diverges_is_left_out_too(run_id: str) -> None:
    wild = candidate(HOG, frozen=True, lr=1e30, head={"kind": "mlp", "hidden": 8})
    ranked = leaderboard.rank(screened(run_id, wild=wild, hog=SVM), settings())
    assert ranked["candidate"].tolist() == ["hog", "wild"]
    assert ranked["left_out"][1].startswith("the training diverged in epoch")


def test_a_candidate_that_is_added_is_trained_alone_and_nothing_is_trained_twice(
    run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only who is trained is followed by figures of its own; the others stand in the log, too."""
    mlp = candidate(HOG, frozen=True, head={"kind": "mlp", "hidden": 8})

    def log(**candidates: Candidate) -> dict[str, bool]:
        screened(run_id, **candidates)
        parts = capsys.readouterr().out.split("candidate ")[1:]
        return {part.partition(":")[0]: "remembered" in part for part in parts}

    assert log(hog=SVM) == {"hog": False}
    assert log(hog=SVM, mlp=mlp) == {"hog": True, "mlp": False}
    assert log(hog=SVM, mlp=mlp) == {"hog": True, "mlp": True}


def test_a_remembered_board_is_the_same_board(run_id: str) -> None:
    """Its measured costs, too, so that no later stage runs again."""
    pd.testing.assert_frame_equal(screened(run_id, hog=SVM), screened(run_id, hog=SVM))


def test_where_every_candidate_is_left_out_the_reason_is_the_error(run_id: str) -> None:
    with pytest.raises(FieldmarkError, match="'nowhere.pth' is neither a file"):
        screened(run_id, missing=MISSING)


def test_each_trial_is_a_run_below_the_stages_with_its_tags_curve_and_figures(run_id: str) -> None:
    """By the id of the stage's run: no run needs to be active, as it is in one process alone."""
    mlp = candidate(HOG, frozen=True, head={"kind": "mlp", "hidden": 8})
    board = screened(run_id, hog=SVM, mlp=mlp)
    assert mlflow.active_run() is None
    client = tracking.connect()
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = {run.info.run_name: run for run in client.search_runs(experiments)}
    own = {name: run.data for name, run in found.items() if name != "model-search"}
    assert [run.info.status for name, run in found.items() if name in own] == ["FINISHED"] * 2
    assert {data.tags["mlflow.parentRunId"] for data in own.values()} == {run_id}
    assert {data.tags["seed"] for data in own.values()} == {"0"}
    for row in board.to_dict("records"):
        data = own[row["name"]]
        assert data.metrics["val/log_loss"] == pytest.approx(row["val/log_loss"])
        assert data.params["head.kind"] in ("svm", "mlp")
    curve = client.get_metric_history(found[mlp.title].info.run_id, "train/loss")
    assert [point.step for point in curve] == [0, 1, 2]


TWO_RUNGS = [{"train_fraction": 0.5, "one_view": True}, {"train_fraction": 1.0, "candidates": 2}]
MLP = candidate(HOG, frozen=True, head={"kind": "mlp", "hidden": 8})
UNLEARNED = candidate(HOG, frozen=True, lr=1e-9, head={"kind": "mlp", "hidden": 8})


def tried(log: str) -> list[tuple[str, bool]]:
    """Each candidate of each rung in order, and whether it was trained."""
    parts = log.split("candidate ")[1:]
    return [(part.partition(":")[0], "remembered" not in part) for part in parts]


def test_the_best_of_a_rung_go_on_and_the_board_says_why_the_others_do_not(run_id: str) -> None:
    how = settings(rungs=TWO_RUNGS, metric="log_loss")
    found = search(run_id, how, hog=SVM, mlp=MLP, unlearned=UNLEARNED)
    ranked = leaderboard.rank(found.board, how).set_index("candidate")
    assert ranked["rung"].to_dict() == {"hog": 2, "mlp": 2, "unlearned": 1}
    assert ranked.index[-1] == "unlearned"
    assert ranked["stopped"]["unlearned"] == "place 3 on rung 1, of which 2 went on"
    assert not ranked["latency/p50_ms"].isna().any()
    assert [sorted(each) for each in found.judged] == [["hog", "mlp", "unlearned"], ["hog", "mlp"]]


def test_one_more_candidate_is_trained_alone_on_every_rung_also_where_it_puts_another_out(
    run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    how = settings(rungs=TWO_RUNGS, metric="log_loss")
    search(run_id, how, hog=SVM, unlearned=UNLEARNED)
    first = tried(capsys.readouterr().out)
    assert [name for name, _ in first] == ["hog", "unlearned", "hog", "unlearned"]
    search(run_id, how, hog=SVM, unlearned=UNLEARNED, mlp=MLP)
    again = tried(capsys.readouterr().out)
    assert {name for name, anew in again if anew} == {"mlp"}
    assert sorted(name for name, _ in again[3:]) == ["hog", "mlp"]


def test_when_the_time_is_up_no_further_candidate_is_tried_and_a_sentence_says_so(
    run_id: str,
) -> None:
    how = settings(rungs=TWO_RUNGS, budget_minutes=1e-9)
    found = search(run_id, how, hog=SVM, mlp=MLP)
    ranked, notes = leaderboard.ordered(found, how, 0)
    assert ranked["candidate"][0] == "hog"
    reasons = dict(zip(ranked["candidate"], ranked["stopped"] + ranked["left_out"], strict=True))
    assert reasons["hog"].startswith("not tried on rung 2: model_search.budget_minutes = 1e-09")
    assert reasons["mlp"].startswith("not tried on rung 1: ")
    assert notes["choice"][-1].startswith(
        "model_search.budget_minutes = 1e-09 cut the search short"
    )


def test_who_exceeds_a_limit_goes_on_to_no_further_rung(run_id: str) -> None:
    sizes = search(run_id, settings(), hog=SVM, mlp=MLP).board.set_index("candidate")["size_mb"]
    how = settings(rungs=TWO_RUNGS, size_budget_mb=float(sizes["hog"] + sizes["mlp"]) / 2)
    board = search(run_id, how, hog=SVM, mlp=MLP).board.set_index("candidate")
    small = str(sizes.idxmin())
    assert board["rung"].to_dict() == {small: 2, ({"hog", "mlp"} - {small}).pop(): 1}
    assert "model_search.size_budget_mb" in board["stopped"][str(sizes.idxmax())]


def test_few_validation_images_are_joined_by_cross_validation(run_id: str) -> None:
    few = {"below": 200, "folds": 2, "repeats": 2}
    found = search(run_id, settings(cross_validation=few), hog=SVM)
    assert len(found.judged[0]["hog"].labels) == 20  # each of 10 images twice
    (sentence,) = leaderboard.ordered(found, settings(), 0)[1]["choice"]
    assert "candidates were judged by cross-validation: 10 training and validation" in sentence


def joined(
    run_id: str, how: ModelSearch, **candidates: Candidate
) -> tuple[Screened, dict[str, Candidate]]:
    found = search(run_id, how, **candidates)
    return ensemble.joined(found, candidates, how, seed=0, run_id=run_id)


def test_an_ensemble_is_one_more_row_with_the_costs_of_its_members(run_id: str) -> None:
    found, candidates = joined(run_id, settings(ensemble=3, metric="log_loss"), hog=SVM, mlp=MLP)
    rows = found.board.set_index("candidate")
    alone = rows.loc[["hog", "mlp"]]
    assert rows["size_mb"]["ensemble"] == alone["size_mb"].sum()
    assert rows["latency/p50_ms"]["ensemble"] == alone["latency/p50_ms"].sum()
    means = (found.judged[0]["hog"].probs + found.judged[0]["mlp"].probs) / 2
    np.testing.assert_allclose(found.judged[0]["ensemble"].probs, means)
    assert len(candidates["ensemble"].members) == 2
    assert (
        leaderboard.ordered(found, settings(metric="log_loss"), 0)[0]["candidate"][0] in rows.index
    )


def test_without_the_setting_or_over_a_limit_there_is_no_ensemble(run_id: str) -> None:
    without, _ = joined(run_id, settings(), hog=SVM, mlp=MLP)
    assert "ensemble" not in without.board["candidate"].tolist()
    limit = float(without.board["size_mb"].max())  # of each, which both together exceed
    over, _ = joined(run_id, settings(ensemble=2, size_budget_mb=limit), hog=SVM, mlp=MLP)
    assert "ensemble" not in over.board["candidate"].tolist()


def test_another_candidate_of_the_ensembles_name_is_an_error(run_id: str) -> None:
    with pytest.raises(FieldmarkError, match="rename it"):
        joined(run_id, settings(ensemble=2), hog=SVM, ensemble=MLP)
