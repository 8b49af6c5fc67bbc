"""The alias `production`: what lets it move, what does not, and what stays on record."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import ViewType
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from registered import PASSING, aliases, register

from pipeline import FieldmarkError, config
from pipeline.promotion import moves, records, tables
from pipeline.promotion.records import Record
from pipeline.promotion.registry import Registry, connect, history_of
from pipeline.runs import processes, tracking

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")

TEST = Path("data/preprocess/test")


def client() -> MlflowClient:
    return tracking.connect()


def production() -> str | None:
    return aliases(client()).get("production")


def past() -> list[Record]:
    return records.read(connect("fieldmark"))


def chain(moved: list[Record]) -> list[tuple[str | None, str]]:
    return [(record.before, record.after) for record in moved if record.moved]


def test_a_version_that_passes_every_gate_goes_into_production(
    cfg: config.Config, tmp_path: Path
) -> None:
    register(tmp_path)
    moves.promote(cfg, why="first")
    second = register(tmp_path)
    moves.promote(cfg, why="second")
    assert aliases(client()) == {"candidate": second, "production": "2", "previous": "1"}


FAILING = {
    "test/accuracy": ("0.79", "accuracy"),
    "test/accuracy_low": ("0.4", "accuracy, lower end"),
    "test/ece": ("0.4", "calibration (ECE)"),
    "latency/p50_ms": ("900", "latency, ms"),
    "parity/max_difference": ("0.01", "export parity"),
    "leaks": ("1", "leaking groups"),
    "git.dirty": ("true", "clean commit"),
}


@pytest.mark.parametrize("tag", sorted({*FAILING} - {"latency/p50_ms"}))  # see test_speed
def test_each_gate_refuses_on_its_own(
    tag: str, cfg: config.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value, gate = FAILING[tag]
    register(tmp_path)
    moves.promote(cfg)
    register(tmp_path, **{tag: value})
    with pytest.raises(FieldmarkError) as refused:
        moves.promote(cfg)
    assert str(refused.value).startswith(f"refused: {gate};")
    assert (production(), past()[-1].status, past()[-1].tags["outcome"]) == (
        "1",
        "FAILED",
        f"refused: {gate}",
    )
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


FLOOR, CEILING = "robustness/adversarial_linf1", "stability/flips_shift_2px"
MEASURED = {FLOOR: 0.5, CEILING: 0.02}


def with_limits(cfg: config.Config) -> config.Config:
    """A floor under attacks, and a ceiling of answers that flip under a shift of two pixels."""
    limits = {"floors": {FLOOR: 0.4}, "ceilings": {CEILING: 0.05}}
    sections = {name: getattr(cfg, name) for name in ("name", "blur_faces", "preprocess")}
    return config.Config(**sections, promotion=cfg.promotion.model_copy(update=limits))


@pytest.mark.parametrize(
    ("figures", "gate"),
    [
        ({**MEASURED, FLOOR: 0.3}, FLOOR),
        ({CEILING: 0.02}, FLOOR),
        ({**MEASURED, CEILING: 0.08}, CEILING),
        ({FLOOR: 0.5}, CEILING),
    ],
    ids=["missed", "not measured", "flips too often", "flips not measured"],
)
def test_limits_of_robustness_and_stability_refuse_and_let_the_sound_version_pass(
    figures: dict[str, float], gate: str, cfg: config.Config, tmp_path: Path
) -> None:
    register(tmp_path, metrics=json.dumps(MEASURED))
    moves.promote(with_limits(cfg))
    register(tmp_path, metrics=json.dumps(figures))
    with pytest.raises(FieldmarkError, match=re.escape(gate)):
        moves.promote(with_limits(cfg))
    assert production() == "1"


@pytest.mark.parametrize("tag", FAILING)
@pytest.mark.parametrize("value", [None, "nan", "unknown"])
def test_a_missing_figure_is_a_failed_gate(tag: str, value: str | None, cfg: config.Config) -> None:
    tags = [
        ModelVersionTag(key, figure)
        for key, figure in {**PASSING, tag: value}.items()
        if figure is not None
    ]
    judged = moves.gates.judge(cfg, ModelVersion("fieldmark", "1", 0, tags=tags), None, None)
    assert FAILING[tag][1] in [gate.name for gate in judged if not gate.passed]


def test_a_version_worse_on_the_same_images_is_refused(cfg: config.Config, tmp_path: Path) -> None:
    register(tmp_path)
    moves.promote(cfg)
    register(tmp_path, threshold=200)
    with pytest.raises(FieldmarkError, match="refused: beside production;"):
        moves.promote(cfg)
    register(tmp_path, threshold=140)  # two images lost of forty: no evidence
    moves.promote(cfg)
    assert production() == "3"


def without_images(_: Path) -> str | None:
    (TEST / "table.parquet").unlink()
    return None


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (without_images, "there are no test images .* `dvc repro preprocess` makes them"),
        (lambda folder: register(folder, classes=["dog", "cat", "cow"]), "same classes .cow."),
        (lambda folder: register(folder, classes=["dog", "hen"]), "does not know the classes cat"),
        (
            lambda folder: register(folder, preprocess={"size_px": 7}),
            "version 3 takes other images .*size_px 7 there, 224 here",
        ),
    ],
    ids=["no test images", "another class more", "a class unknown", "other preprocessing"],
)
def test_what_cannot_be_compared_is_refused_and_said(
    change: Callable[[Path], str | None],
    refusal: str,
    cfg: config.Config,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    register(tmp_path)
    moves.promote(cfg)
    register(tmp_path)
    change(tmp_path)
    capsys.readouterr()
    with pytest.raises(FieldmarkError, match="refused: beside production;"):
        moves.promote(cfg)
    assert re.search(refusal, " ".join(capsys.readouterr().out.split()))


def test_force_needs_a_reason_which_stays_on_record(cfg: config.Config, tmp_path: Path) -> None:
    register(tmp_path, leaks="3")
    with pytest.raises(FieldmarkError, match="--why"):
        moves.promote(cfg, force=True)
    moves.promote(cfg, force=True, why="the leak is in copies of one image")
    last = past()[-1]
    assert (production(), last.moved, last.tags["forced"], last.tags["why"]) == (
        "1",
        True,
        "true",
        "the leak is in copies of one image",
    )
    assert "refused: leaking groups: 3 (0 or less)" in last.tags["gates"]


def test_rollback_takes_back_one_promotion_after_the_other(
    cfg: config.Config, tmp_path: Path
) -> None:
    for _ in range(3):
        register(tmp_path)
        moves.promote(cfg)
    moves.rollback(cfg, why="complaints")
    assert (production(), aliases(client())["previous"]) == ("2", "1")
    moves.rollback(cfg)
    assert (production(), aliases(client()).get("previous")) == ("1", None)
    with pytest.raises(FieldmarkError, match="no version was in production before"):
        moves.rollback(cfg)
    assert chain(past()) == [(None, "1"), ("1", "2"), ("2", "3"), ("3", "2"), ("2", "1")]


def test_a_deleted_production_is_rolled_back_to_the_newest_that_exists(
    cfg: config.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        register(tmp_path)
        moves.promote(cfg)
    for gone in ("3", "2"):
        client().delete_model_version("fieldmark", gone)
    moves.rollback(cfg)
    output = capsys.readouterr().out
    assert production() == "1"
    assert (
        "version 3 was in production and no longer exists\nversion 2 was in production and no "
        "longer exists" in output
    )
    assert chain(past())[-1] == ("3", "1")


def test_after_a_deleted_production_the_next_promotion_goes_on_from_it(
    cfg: config.Config, tmp_path: Path
) -> None:
    register(tmp_path)
    moves.promote(cfg)
    client().delete_model_version("fieldmark", "1")
    register(tmp_path)
    moves.promote(cfg)
    assert (production(), chain(past())) == ("2", [(None, "1"), ("1", "2")])


def test_a_version_deleted_while_it_is_judged_leaves_production_alone(
    cfg: config.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(tmp_path)
    moves.promote(cfg)
    register(tmp_path)
    judge = moves.gates.judge

    def deleting(*arguments: Any) -> Any:
        client().delete_model_version("fieldmark", "2")
        return judge(*arguments)

    monkeypatch.setattr(moves.gates, "judge", deleting)
    with pytest.raises(FieldmarkError):
        moves.promote(cfg, force=True, why="in a hurry")
    assert (production(), past()[-1].status) == ("1", "FAILED")


def test_production_moved_by_hand_while_gates_are_measured_is_not_overwritten(
    cfg: config.Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(3):
        register(tmp_path)
    moves.promote(cfg, "1")
    judge = moves.gates.judge

    def by_hand(*arguments: Any) -> Any:
        client().set_registered_model_alias("fieldmark", "production", "2")
        return judge(*arguments)

    monkeypatch.setattr(moves.gates, "judge", by_hand)
    with pytest.raises(FieldmarkError, match="moved from 1 to 2 in the meantime"):
        moves.promote(cfg, "3")
    assert production() == "2"
    capsys.readouterr()
    tables.history(cfg)
    assert re.search("1 +2 +moved +without a", capsys.readouterr().out)


# A store that goes away: from one of a move's writes on, nothing answers. None of them may lose or
# double the alias.
WRITES = ["create_run", "log_batch", "set_registered_model_alias", "set_tag", "set_terminated"]


class Away:
    """Takes the store away before the nth call of a method, and gives it back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gone, self.monkeypatch = False, monkeypatch

    def before(self, method: str) -> None:
        for name in (
            "create_run",
            "log_batch",
            "set_registered_model_alias",
            "delete_registered_model_alias",
            "set_tag",
            "set_terminated",
            "search_runs",
            "get_registered_model",
            "search_model_versions",
            "get_run",
        ):
            self.monkeypatch.setattr(
                MlflowClient,
                name,
                self._guarded(getattr(MlflowClient, name), starts=name == method),
            )

    def _guarded(self, real: Callable[..., Any], starts: bool) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.gone = self.gone or starts
            if self.gone:
                raise MlflowException("the database is not there")
            return real(*arguments, **named)

        return call


@pytest.mark.parametrize("method", WRITES)
def test_a_store_that_goes_away_in_the_middle_leaves_one_production(
    method: str, cfg: config.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        register(tmp_path)
    moves.promote(cfg, "1")
    with pytest.MonkeyPatch.context() as patch:
        Away(patch).before(method)
        with pytest.raises(
            FieldmarkError, match="the store failed .the database is not there.*`fieldmark history`"
        ):
            moves.promote(cfg, "2", why="cut off")
    cut = production()
    assert cut in {"1", "2"}
    moves.promote(cfg, "3")
    assert aliases(client()) == {"candidate": "3", "production": "3", "previous": cut}
    assert "RUNNING" not in {record.status for record in past()}
    assert chain(past()) == [
        (None, "1"),
        *([("1", "2"), ("2", "3")] if cut == "2" else [("1", "3")]),
    ]


def test_a_database_that_fails_is_told_in_one_line_alone(
    cfg: config.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow logs it with a traceback, too: where the disk is full, for example."""
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        store.execute("ALTER TABLE registered_models RENAME COLUMN description TO gone")
    with pytest.raises(FieldmarkError, match="the store failed .*no such column"):
        tables.models(cfg)
    assert capsys.readouterr().err == ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines share no file lock."""
    monkeypatch.setattr(moves, "_is_local", lambda uri: False)


def leave(process: str, to: str) -> str:
    """An unfinished record of a process; the run's id."""
    registry = connect("fieldmark")
    tags = {
        "what": "promote",
        "who": "Ada",
        "why": "elsewhere",
        "when": "2026-01-02T03:04:05+00:00",
        "from": production() or "none",
        "to": to,
        "model": "fieldmark",
        "process": process,
        "forced": "false",
    }
    return str(registry.client.create_run(registry.experiment, tags=tags).info.run_id)


@pytest.mark.usefixtures("server")
def test_on_a_server_somebody_elses_unfinished_record_keeps_others_out(
    cfg: config.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from the same version: when the loser leaves, the alias is where it wanted it, and yet
    it did not move it.
    """
    for _ in range(2):
        register(tmp_path)
    moves.promote(cfg, "1")
    run_id, create = leave("elsewhere/1/2.00", "2"), records._create

    def late(*arguments: Any) -> Record:
        client().set_registered_model_alias("fieldmark", "production", "2")
        return create(*arguments)

    monkeypatch.setattr(records, "_create", late)
    with pytest.raises(
        FieldmarkError,
        match="Ada is moving `production` from elsewhere since 2026-01-02.* --take-over",
    ):
        moves.promote(cfg, "2")
    client().set_terminated(run_id)
    assert chain(past()) == [(None, "1"), ("1", "2")]


@pytest.mark.usefixtures("server")
def test_on_a_server_a_dead_machine_keeps_others_out_until_somebody_says_that_it_is_dead(
    cfg: config.Config, tmp_path: Path
) -> None:
    for _ in range(3):
        register(tmp_path)
        moves.promote(cfg)
    run_id = leave("elsewhere/1/2.00", "1")
    with pytest.raises(FieldmarkError, match="from elsewhere"):
        moves.rollback(cfg)
    moves.rollback(cfg, take_over=True)
    assert chain(past())[-2:] == [("2", "3"), ("3", "2")]
    assert client().get_run(run_id).data.tags["outcome"] == records.CUT_OFF


@pytest.mark.usefixtures("server")
def test_on_a_server_a_move_made_since_the_look_is_not_passed_over(
    cfg: config.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alias is where it was: another machine moved it there and back."""
    for _ in range(3):
        register(tmp_path)
        moves.promote(cfg)
    past_records = past()
    moves.rollback(cfg)
    moves.promote(cfg, "3")
    with (
        pytest.raises(FieldmarkError, match="moved `production` to 2 at this moment"),
        records.opened(
            connect("fieldmark"), "rollback", before="3", after="2", why="late", past=past_records
        ),
    ):
        pytest.fail("it went on")


@pytest.mark.usefixtures("server")
def test_a_machine_whose_clock_is_ahead_does_not_turn_the_history_round(
    cfg: config.Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(3):
        register(tmp_path)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(minutes=30)

    with monkeypatch.context() as patch:
        patch.setattr(records, "datetime", Ahead)
        moves.promote(cfg, "1")
        moves.promote(cfg, "2")
    moves.promote(cfg, "3")
    assert chain(past()) == [(None, "1"), ("1", "2"), ("2", "3")]
    moves.rollback(cfg)
    assert production() == "2"
    capsys.readouterr()
    tables.history(cfg)
    assert capsys.readouterr().out.count(f"{datetime.now():%Y-%m-%d}") >= 2


@pytest.mark.usefixtures("server")
def test_a_machine_that_slept_until_it_was_taken_for_dead_tells_that_it_moved_after_another(
    cfg: config.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It slept between its last look and its move, which MLflow makes whatever the alias was."""
    for _ in range(3):
        register(tmp_path)
    moves.promote(cfg, "1")
    point, other = Registry.point, tmp_path / "other"
    other.mkdir()

    def asleep(registry: Registry, alias: str, version: str | None) -> None:
        monkeypatch.setattr(Registry, "point", point)
        monkeypatch.chdir(other)
        moves.promote(cfg, "3", take_over=True, force=True, why="the other machine is dead")
        registry.point(alias, version)

    monkeypatch.setattr(Registry, "point", asleep)
    moves.promote(cfg, "2")
    assert chain(past()) == [(None, "1"), ("1", "3"), ("3", "2")]
    assert (
        past()[-1].tags["outcome"] == records.OVERTOOK
        and "passed: export parity" in past()[-1].tags["gates"]
    )
    assert aliases(client()) == {"candidate": "3", "production": "2", "previous": "3"}


@pytest.mark.usefixtures("server")
def test_on_a_server_what_an_ended_process_left_keeps_nobody_out(
    cfg: config.Config, tmp_path: Path
) -> None:
    register(tmp_path)
    leave(processes.name().rpartition("/")[0] + "/0.01", "1")
    moves.promote(cfg)
    assert [record.status for record in past()] == ["FAILED", "FINISHED"]


def test_a_second_spelling_of_production_is_taken_away(cfg: config.Config, tmp_path: Path) -> None:
    for _ in range(2):
        register(tmp_path)
    client().set_registered_model_alias("fieldmark", "Production", "1")
    moves.promote(cfg, "2")
    assert aliases(client()) == {"candidate": "2", "production": "2"}


def test_the_history_is_shown_and_stands_as_runs_in_mlflow(
    cfg: config.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(tmp_path, leaks="2")
    with pytest.raises(FieldmarkError):
        moves.promote(cfg)
    register(tmp_path)
    moves.promote(cfg, why="the copies are gone")
    capsys.readouterr()
    tables.history(cfg)
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert output.index("the copies") < output.index("refused")  # newest first
    experiment = client().get_experiment_by_name(history_of("fieldmark"))
    assert experiment is not None
    runs = client().search_runs([experiment.experiment_id])
    assert [(run.info.run_name, run.info.status, run.data.tags["to"]) for run in runs] == [
        ("promote none to 2", "FINISHED", "2"),
        ("promote none to 1", "FAILED", "1"),
    ]
    assert {"who", "when", "what", "why", "from", "to", "gates"} <= runs[0].data.tags.keys()
    assert runs[0].data.metrics["gate/accuracy"] == 0.95


def test_a_history_of_nothing_is_one_line_and_a_move_by_hand_is_no_nothing(
    cfg: config.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(tmp_path)
    capsys.readouterr()
    tables.history(cfg)
    assert (
        capsys.readouterr().out
        == "nothing was promoted yet; `fieldmark promote` promotes a version\n"
    )
    client().set_registered_model_alias("fieldmark", "production", "1")
    tables.history(cfg)
    output = capsys.readouterr().out
    assert "nothing was promoted" not in output and re.search("none +1 +moved +without a", output)


def test_a_record_deleted_in_mlflow_is_still_history(cfg: config.Config, tmp_path: Path) -> None:
    for _ in range(2):
        register(tmp_path)
        moves.promote(cfg)
    client().delete_run(past()[0].run_id)
    registry = connect("fieldmark")
    registry.client.delete_experiment(registry.experiment)
    moves.rollback(cfg)
    assert chain(past()) == [(None, "1"), ("1", "2"), ("2", "1")]
    assert registry.client.search_experiments(ViewType.DELETED_ONLY) == []


def test_models_lists_versions_with_aliases_figures_and_lineage(
    cfg: config.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(tmp_path)
    register(tmp_path, **{"test/accuracy": "0.8765", "git.dirty": "true"})
    moves.promote(cfg, "1")
    capsys.readouterr()
    tables.models(cfg)
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    rows = [line.split() for line in output.splitlines() if line.strip()[:1].isdigit()]
    assert [row[:3] for row in rows] == [
        ["2", "candidate", "0.8765"],
        ["1", "production", "0.9500"],
    ]
    assert ["0123456+" in rows[0], "0123456" in rows[1], "fedcba9" in rows[1]] == [True, True, True]


def test_an_unknown_version_is_named_with_what_there_is(cfg: config.Config, tmp_path: Path) -> None:
    with pytest.raises(
        FieldmarkError, match="no model fieldmark is registered yet; .*--force --single-item export"
    ):
        moves.promote(cfg)
    register(tmp_path)
    with pytest.raises(FieldmarkError, match="no version or alias '7'; there are 1, candidate"):
        moves.promote(cfg, "7")
