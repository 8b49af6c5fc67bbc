"""How many suspects are expected to be wrong, and how many are: labels of this project, some of which
are exchanged, with few and with many photos a class.

    dvc repro label-check
    pytest -s -n0 -m benchmark tests/benchmarks/test_expected_wrong.py
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console
from rich.table import Table

from pipeline.labels import audit, errors, suspects
from pipeline.labels.errors import Features, Labelling
from pipeline.storage import store, table

CHECKED = Path("data/label-check")
DEFAULTS = Path(__file__).parents[2] / "conf" / "label_check" / "default.yaml"
PER_CLASS = (10, 25, 100, 300)
DRAWS = 3
FRACTIONS = (0.05, 0.1, 0.2)


def drawn(whole: Labelling, per_class: int, seed: int) -> np.ndarray:
    """Rows, so many of each class."""
    random = np.random.default_rng([seed, per_class])
    classes = [np.flatnonzero(whole.labels == k) for k in range(whole.labels.max() + 1)]
    return np.sort(np.concatenate([random.permutation(rows)[:per_class] for rows in classes]))


def figures(features: Features, some: Labelling, seed: int) -> pd.DataFrame:
    """The audit's, and a first row of the labels as they are, where 0 are planted."""
    settings = yaml.safe_load(DEFAULTS.read_text())["errors"]
    how = {"folds": settings["folds"], "C": settings["C"], "seed": seed}
    probs = errors.out_of_fold(features, some, **how)
    plain = suspects.named(some, probs, max_fraction=settings["max_fraction"])
    chances = plain.loc[plain["suspect"], "chance_wrong"]
    first = {
        "kind": "none",
        "fraction": 0.0,
        "n_suspect": len(chances),
        "expected_precision": chances.mean() if len(chances) else 0.0,
        "precision": 0.0,
    }
    planted = audit.audit(
        features, some, fractions=FRACTIONS, max_fraction=settings["max_fraction"], **how
    )
    return pd.concat([pd.DataFrame([first]), planted])


@pytest.mark.benchmark
def test_as_many_suspects_are_wrong_as_are_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (CHECKED / "embedding.npy").exists():
        pytest.skip("run `dvc repro label-check` first")
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path))
    rows, embedding = table.read(CHECKED), store.read_array(CHECKED / "embedding.npy")
    labelled = np.flatnonzero(rows["label"] != "")
    _, whole = errors.labelling(rows.iloc[labelled])
    printed = Table("a class", "exchanged for", "share", "named", "expected", "wrong")
    for per_class in PER_CLASS:
        draws = []
        for seed in range(DRAWS):
            which = drawn(whole, per_class, seed)
            some = Labelling(whole.labels[which], [whole.groups[i] for i in which])
            draws.append(figures(embedding[labelled[which]], some, seed))
        every = pd.concat(draws)
        counts = every.assign(
            expected=every["n_suspect"] * every["expected_precision"],
            wrong=every["n_suspect"] * every["precision"],
        )
        means = counts.groupby(["kind", "fraction"], sort=False)[
            ["n_suspect", "expected", "wrong"]
        ].mean()
        for (kind, fraction), row in means.iterrows():
            cells = (f"{row[name]:.0f}" for name in ("n_suspect", "expected", "wrong"))
            printed.add_row(str(per_class), kind, f"{fraction:.0%}", *cells)
        clean = means.loc[("none", 0.0)]
        assert clean["expected"] <= max(5, 0.05 * len(which))
    Console().print(printed)
