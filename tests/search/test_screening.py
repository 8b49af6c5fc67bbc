import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from toys import HOG, TIMM, UNCHANGED, candidate, samples

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate
from pipeline.runs import tracking
from pipeline.search import screening
from pipeline.search.trial import Budget, Data

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")


def board(**columns: list[float]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    filled = {
        "accuracy": [0.5] * n,
        "f1_macro": [0.5] * n,
        "log_loss": [1.0] * n,
        "ms": [10.0] * n,
        **columns,
    }
    named = {
        "latency/p50_ms": filled.pop("ms"),
        **{f"val/{key}": value for key, value in filled.items()},
    }
    return pd.DataFrame({"candidate": list("abcdef"[:n]), **named})


def order(rows: pd.DataFrame, metric: str = "accuracy", budget_ms: float = 100.0) -> str:
    return "".join(screening.rank(rows, metric, budget_ms)["candidate"])


def test_the_best_within_the_budget_wins() -> None:
    rows = board(accuracy=[0.99, 0.7, 0.8, 0.95], ms=[120, 5, 90, 101])
    ranked = screening.rank(rows, "accuracy", 100.0)
    assert "".join(ranked["candidate"]) == "cbad"
    assert ranked["within_budget"].tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("metric", "best_first"), [("accuracy", "cab"), ("f1_macro", "bca"), ("log_loss", "abc")]
)
def test_each_metric_is_read_in_its_direction(metric: str, best_first: str) -> None:
    rows = board(accuracy=[0.5, 0.4, 0.6], f1_macro=[0.1, 0.3, 0.2], log_loss=[0.3, 0.5, 0.7])
    assert order(rows, metric) == best_first


def test_of_equal_ones_the_fastest_wins() -> None:
    assert order(board(accuracy=[0.9, 0.9, 0.9], ms=[30, 10, 20])) == "bca"


def test_a_candidate_at_the_budget_is_within_it() -> None:
    assert order(board(ms=[100.0, 100.1]), budget_ms=100.0) == "ab"


def test_nobody_within_the_budget_says_what_to_do() -> None:
    with pytest.raises(
        FieldmarkError, match=r"latency_budget_ms = 5: the fastest takes 7\.2 ms; raise the budget"
    ):
        screening.rank(board(ms=[7.2, 30]), "accuracy", 5.0)


def test_a_better_candidate_that_is_too_slow_is_told() -> None:
    """A busy machine once put a network of 0.6 behind features of 0.32, and nothing said why."""
    rows = board(
        accuracy=[0.6, 0.3, 0.32, 0.2], log_loss=[0.9, 1.4, 1.5, 1.6], ms=[253, 24, 22, 300]
    ).assign(name=["A", "B", "C", "D"])
    (told,) = screening.better_but_slow(screening.rank(rows, "accuracy", 250.0), "accuracy", 250.0)
    assert told.startswith(
        "A was better, val/accuracy 0.6 against 0.32, and was left out: 253 ms for an image"
    )
    (told,) = screening.better_but_slow(screening.rank(rows, "log_loss", 250.0), "log_loss", 250.0)
    assert told.startswith("A was better, val/log_loss 0.9 against 1.4")
    assert (
        screening.better_but_slow(screening.rank(rows, "accuracy", 400.0), "accuracy", 400.0) == []
    )


MISSING = candidate({**TIMM, "weights": "nowhere.pth"}, frozen=True)
SVM = candidate(HOG, frozen=True, head={"kind": "svm", "C": 0.1})


@pytest.fixture
def run_id(tmp_path: Path, empty_store: Path) -> str:
    """A stage's run in a store of one's own."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    client = tracking.connect()
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    made = client.create_run(experiment.experiment_id, run_name="model-search", tags={"seed": "0"})
    return str(made.info.run_id)


def screened(run_id: str, **candidates: Candidate) -> pd.DataFrame:
    data = Data(samples([0, 1] * 4), samples([0, 1]), "none", UNCHANGED)
    return screening.screen(candidates, data, Budget(1.0, 1), seed=0, run_id=run_id)


def test_a_candidate_whose_weights_cannot_be_had_is_left_out_and_the_board_says_why(
    run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ranked = screening.rank(screened(run_id, missing=MISSING, hog=SVM), "log_loss", 1e6)
    assert ranked["candidate"].tolist() == ["hog", "missing"]
    assert ranked["within_budget"].tolist() == [True, False]
    assert ranked["left_out"][0] == ""
    assert "'nowhere.pth' is neither a file nor an installed package" in ranked["left_out"][1]
    assert "left out: extractor.weights: 'nowhere.pth'" in capsys.readouterr().out
    (sentence,) = screening.left_out(ranked)
    assert sentence.startswith("test_resnet, frozen was left out: extractor.weights: 'nowhere.pth'")
    assert screening.better_but_slow(ranked, "log_loss", 1e6) == []


def test_a_candidate_that_diverges_is_left_out_too(run_id: str) -> None:
    wild = candidate(HOG, frozen=True, lr=1e30, head={"kind": "mlp", "hidden": 8})
    ranked = screening.rank(screened(run_id, wild=wild, hog=SVM), "accuracy", 1e6)
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
