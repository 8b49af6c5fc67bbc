"""What was computed once is not computed again; any change of an argument is another question."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pipeline.labels import errors, neighbours
from pipeline.labels.errors import Labelling

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(60, 5)).astype(np.float32)
LABELS = np.arange(60, dtype=np.int64) % 2
GROUPS = [str(i) for i in range(60)]
SAID = Labelling(LABELS, GROUPS)
HOW: dict[str, Any] = {"folds": 3, "C": 0.1, "seed": 0}
# Dies of -9 in its second fold.
KILLED = """
import os, signal
from sklearn.linear_model import LogisticRegression
from test_memoised import FEATURES, HOW, SAID
from pipeline.labels import errors
fit, fitted = LogisticRegression.fit, []
def dying(*arguments, **more):
    fitted.append(1)
    return os.kill(os.getpid(), signal.SIGKILL) if len(fitted) == 2 else fit(*arguments, **more)
LogisticRegression.fit = dying
errors.out_of_fold(FEATURES, SAID, **HOW)
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    real = errors._out_of_fold

    def counted(*args: Any, **more: Any) -> np.ndarray:
        calls.append(1)
        return real(*args, **more)

    monkeypatch.setattr(errors, "_out_of_fold", counted)
    return calls


def test_the_second_time_nothing_is_computed_and_the_answer_is_the_same(asked: list[int]) -> None:
    first, second = (errors.out_of_fold(FEATURES, SAID, **HOW) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(asked) == 1


@pytest.mark.parametrize("what", ["features", "labels", "groups", "C", "weights"])
def test_anything_changed_is_computed(what: str, asked: list[int]) -> None:
    errors.out_of_fold(FEATURES, SAID, **HOW)
    changed: dict[str, Any] = {
        "features": {"features": FEATURES + 1},
        "labels": {"labelling": replace(SAID, labels=1 - LABELS)},
        "groups": {"labelling": replace(SAID, groups=["0", *GROUPS[:-1]])},
        "C": {"C": 0.2},
        "weights": {"labelling": replace(SAID, weights=np.full(60, 2.0))},
    }[what]
    errors.out_of_fold(**{"features": FEATURES, "labelling": SAID, **HOW, **changed})
    assert len(asked) == 2


def test_nothing_half_written_is_read(asked: list[int], tmp_path: Path) -> None:
    errors.out_of_fold(FEATURES, SAID, **HOW)
    (kept,) = (tmp_path / "cache" / "folds").iterdir()
    kept.rename(kept.with_name(f".{kept.name}.partial"))
    errors.out_of_fold(FEATURES, SAID, **HOW)
    assert len(asked) == 2


def test_neighbours_are_looked_for_once_and_again_where_anything_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = neighbours.nearest(FEATURES, k=4)
    monkeypatch.setattr(
        neighbours, "_nearest", lambda embeddings, k: np.full((60, k), -1, np.int32)
    )
    np.testing.assert_array_equal(neighbours.nearest(FEATURES, k=4), first)
    assert (neighbours.nearest(FEATURES + 1, k=4) == -1).all()
    assert (neighbours.nearest(FEATURES, k=3) == -1).all()


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    real = LogisticRegression.fit

    def counted(*args: Any, **more: Any) -> Any:
        calls.append(1)
        return real(*args, **more)

    monkeypatch.setattr(LogisticRegression, "fit", counted)
    return calls


def test_after_a_kill_only_the_folds_that_had_not_ended_are_learned(
    fitted: list[int], tmp_path: Path
) -> None:
    undisturbed = errors.out_of_fold(FEATURES, SAID, **HOW)
    shutil.rmtree(tmp_path / "cache")
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    assert (
        subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False).returncode
        == -signal.SIGKILL
    )
    fitted.clear()
    np.testing.assert_array_equal(errors.out_of_fold(FEATURES, SAID, **HOW), undisturbed)
    assert len(fitted) == HOW["folds"] - 1
    assert len([*(tmp_path / "cache" / "folds").iterdir()]) == 1


@pytest.mark.parametrize("left", [0, 100, -8])
def test_a_file_cut_short_is_made_anew(left: int, tmp_path: Path) -> None:
    """A disk was full, or the machine lost power."""
    first = errors.out_of_fold(FEATURES, SAID, **HOW)
    (kept,) = (tmp_path / "cache" / "folds").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:left])
    np.testing.assert_array_equal(errors.out_of_fold(FEATURES, SAID, **HOW), first)
    assert kept.read_bytes() == whole
