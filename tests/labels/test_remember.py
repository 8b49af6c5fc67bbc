"""What was computed once is not computed again; any change of an argument is another question."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.labels import errors, remember

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(60, 5)).astype(np.float32)
LABELS = np.arange(60, dtype=np.int64) % 2
GROUPS = [str(i) for i in range(60)]
HOW: dict[str, Any] = {"folds": 3, "C": 0.1, "seed": 0}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    real = errors.out_of_fold

    def counted(*args: Any, **more: Any) -> np.ndarray:
        calls.append(1)
        return real(*args, **more)

    monkeypatch.setattr(errors, "out_of_fold", counted)
    return calls


def test_the_second_time_nothing_is_computed_and_the_answer_is_the_same(asked: list[int]) -> None:
    first, second = (remember.out_of_fold(FEATURES, LABELS, GROUPS, **HOW) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(asked) == 1


@pytest.mark.parametrize("what", ["features", "labels", "groups", "C", "weights"])
def test_anything_changed_is_computed(what: str, asked: list[int]) -> None:
    remember.out_of_fold(FEATURES, LABELS, GROUPS, **HOW)
    changed: dict[str, Any] = {
        "features": {"features": FEATURES + 1}, "labels": {"labels": 1 - LABELS}, "groups": {"groups": ["0", *GROUPS[:-1]]},
        "C": {"C": 0.2}, "weights": {"weights": np.full(60, 2.0)},
    }[what]  # fmt: skip
    remember.out_of_fold(**{"features": FEATURES, "labels": LABELS, "groups": GROUPS, **HOW, **changed})
    assert len(asked) == 2


def test_nothing_half_written_is_read(asked: list[int], tmp_path: Path) -> None:
    remember.out_of_fold(FEATURES, LABELS, GROUPS, **HOW)
    (kept,) = (tmp_path / "cache" / "folds").iterdir()
    kept.rename(kept.with_name(f".{kept.name}.partial"))
    remember.out_of_fold(FEATURES, LABELS, GROUPS, **HOW)
    assert len(asked) == 2
