"""The gate of latency: what a busy machine measured is measured again."""

from pathlib import Path

import pytest
from exports import tiny_export
from mlflow.entities.model_registry import ModelVersion
from registered import PASSING

from pipeline import config
from pipeline.promotion import speed
from pipeline.promotion.registry import Registry, connect

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")
IDLE, BUSY = speed.Load(0.0), speed.Load(1000.0)


@pytest.fixture
def slow(cfg: config.Config, tmp_path: Path) -> tuple[Registry, ModelVersion]:
    """A version that took 900 ms when export measured it."""
    store = connect("fieldmark")
    store.client.create_registered_model("fieldmark")
    source = tiny_export(tmp_path / "made").as_uri()
    tags = {**PASSING, "latency/p50_ms": "900"}
    store.client.create_model_version("fieldmark", source, tags=tags)
    return store, store.find("1")


def test_what_is_fast_now_passes_and_both_figures_are_told(
    cfg: config.Config, slow: tuple[Registry, ModelVersion]
) -> None:
    judged = speed.gate(cfg.promotion, slow[1], None)
    assert judged.passed and judged.value is not None and judged.value < 250
    assert judged.figure.endswith(" now, 900 on record")


@pytest.mark.parametrize(("load", "passes"), [(IDLE, False), (BUSY, True)])
def test_a_slow_version_is_refused_unless_the_machine_is_busy(
    load: speed.Load,
    passes: bool,
    cfg: config.Config,
    slow: tuple[Registry, ModelVersion],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speed, "load_now", lambda: load)
    none_is_fast_enough = cfg.promotion.model_copy(update={"max_latency_ms": 1e-6})
    judged = speed.gate(none_is_fast_enough, slow[1], None)
    assert judged.passed is passes
    assert ("programs want to run" in judged.note) is passes


@pytest.mark.parametrize(("factor", "passes"), [(1.2, True), (1.3, False)])
def test_on_a_busy_machine_production_in_turns_decides(
    factor: float,
    passes: bool,
    cfg: config.Config,
    slow: tuple[Registry, ModelVersion],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speed, "load_now", lambda: BUSY)
    monkeypatch.setattr(speed, "in_turns", lambda versions: [400.0 * factor, 400.0])
    judged = speed.gate(cfg.promotion, slow[1], slow[1])
    assert judged.passed is passes
    assert "production takes 400 ms in turns with it" in judged.note + judged.advice


def test_a_version_without_files_keeps_the_figure_on_record(
    cfg: config.Config, slow: tuple[Registry, ModelVersion], tmp_path: Path
) -> None:
    (tmp_path / "made" / "model.onnx").unlink()
    judged = speed.gate(cfg.promotion, slow[1], None)
    assert not judged.passed and judged.value == 900
    assert "could not be measured again" in judged.advice
