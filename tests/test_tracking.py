"""Where runs and artifacts go."""

from pathlib import Path

import pytest

from pipeline import tracking

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")


def artifact_location() -> str:
    experiment = tracking.connect().get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    return str(experiment.artifact_location)


def test_without_a_server_everything_stays_in_the_project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow sets MLFLOW_TRACKING_URI itself, which once sent the artifacts elsewhere."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    assert artifact_location() == (tmp_path / "mlartifacts").as_uri()
    assert (tmp_path / "mlflow.db").exists()


def test_a_named_store_is_used_and_keeps_its_own_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'theirs.db'}")
    monkeypatch.chdir(tmp_path)
    assert not artifact_location().endswith("mlartifacts")
    assert (tmp_path / "theirs.db").exists()
