"""What more photos would bring, in words and figures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from searches import settings
from toys import HOG, UNCHANGED, candidate, draw, samples

from pipeline.config.schema import Candidate
from pipeline.search import nulls, sufficiency
from pipeline.search.trial import Data
from pipeline.storage import csvs

CURVE = {"draws": 2, "fractions": [0.25, 0.5, 1.0], "more": [0.25, 1.0], "n_resamples": 50}
SVM = candidate(HOG, frozen=True, head={"kind": "svm", "C": 0.1}).model_copy(update={"name": "svm"})
NETWORK = candidate().model_copy(update={"name": "network"})
CLASSES = ["even", "odd"]


def data() -> Data:
    val = samples([0, 1] * 8, images=draw([0, 1] * 8, seed=1))
    return Data(samples([0, 1] * 12), val, "none", UNCHANGED)


def ranked(*candidates: Candidate) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "candidate": [each.name for each in candidates],
            "name": [each.title for each in candidates],
            "rung": 1,
            "latency/p50_ms": np.arange(len(candidates), 0, -1.0),
        }
    )


def written(out: Path, *candidates: Candidate, draws: int = 2) -> dict[str, float]:
    how = settings(sufficiency={**CURVE, "draws": draws})
    named = {each.name: each for each in candidates}
    return sufficiency.write(named, ranked(*candidates), data(), CLASSES, how, 0, out)


def test_curves_forecasts_and_sentences_are_written(tmp_path: Path) -> None:
    figures = written(tmp_path, SVM)
    curve = csvs.read(tmp_path / "learning_curve.csv", keep_default_na=False)
    overall = curve[curve["class"] == ""]
    assert overall[["n", "draw"]].to_numpy().tolist() == [[6, 0], [6, 1], [12, 0], [24, 0]]
    assert set(curve["class"]) == {"", *CLASSES}
    forecast = csvs.read(tmp_path / "forecast.csv", keep_default_na=False)
    assert sorted(set(forecast["n"])) == [6, 12, 24, 30, 48]
    assert (forecast["low"] <= forecast["value"]).all()
    assert (forecast["value"] <= forecast["high"]).all()
    assert {"sufficiency/accuracy_2x", "sufficiency/accuracy_2x_low"} <= figures.keys()
    sentences = json.loads((tmp_path / "sufficiency.json").read_bytes())["sentences"]
    assert "with 25 % more photos about" in sentences[0]
    assert sentences[1].startswith("Photograph `")
    assert sentences[-1].startswith("For comparison, always the largest class reaches")


def test_a_network_that_learns_slowly_leaves_the_curve_to_another(tmp_path: Path) -> None:
    written(tmp_path, NETWORK, SVM)
    assert set(csvs.read(tmp_path / "learning_curve.csv")["candidate"]) == {"svm"}
    sentences = json.loads((tmp_path / "sufficiency.json").read_bytes())["sentences"]
    assert any("SmallCNN learns too slowly" in sentence for sentence in sentences)


@pytest.mark.parametrize(("candidates", "draws"), [((SVM,), 0), ((NETWORK,), 2)])
def test_without_a_curve_there_is_nothing_to_show(
    tmp_path: Path, candidates: tuple[Candidate, ...], draws: int
) -> None:
    assert written(tmp_path, *candidates, draws=draws) == {}
    assert csvs.read(tmp_path / "learning_curve.csv").empty
    assert json.loads((tmp_path / "sufficiency.json").read_bytes())["sentences"] == []


def test_the_class_that_still_gains_is_the_one_to_photograph() -> None:
    """One class is known at once, the other better and better."""
    sizes = np.array([6.0, 12, 24])
    known = [np.full((2, 51), 0.9) for _ in sizes]
    gaining = [np.full((2, 51), value) for value in (0.2, 0.4, 0.6)]
    curve = sufficiency._Curve(SVM, sizes, {"": known, "even": known, "odd": gaining})
    assert sufficiency._photograph(curve, settings(), 0).startswith("Photograph `odd` first: ")
    curve = sufficiency._Curve(SVM, sizes, {"": known, "even": known, "odd": known})
    assert "is not certain" in sufficiency._photograph(curve, settings(), 0)


def test_null_models_are_what_they_say() -> None:
    labels = [0, 0, 0, 1]
    images = draw(labels)
    part = Data(
        samples(labels, images=images),
        samples([0, 1, 1], images=images[[0, 3, 3]]),
        "none",
        UNCHANGED,
    )
    figures = nulls.accuracies([part])
    assert figures == {"null/largest_class": pytest.approx(1 / 3), "null/nearest_thumbnail": 1.0}
