"""The checklist answers what is on record, and leaves to people what only they know."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.facts import ClassFacts, Facts
from pipeline.evaluation.figures import Figure
from pipeline.evaluation.places import Promises
from pipeline.evaluation.rules import Sentence
from pipeline.report import reforms
from pipeline.report.contents import LabelCheck, Leaderboard, Report, Sufficiency, Tuning

NONE = pd.DataFrame()


def figure(value: float) -> Figure:
    return Figure(value=value, n=200, method="m", meaning="m", low=value - 0.05, high=value + 0.05)


@pytest.fixture
def report() -> Report:
    one = ClassFacts(
        name="cat",
        n=120,
        n_right=90,
        n_answers=90,
        recall=0.75,
        low=0.7,
        high=0.8,
        confused_with="",
    )
    facts = Facts.model_construct(
        classes=[one], doubted=7, leaked=3, promises=Promises(target_risk=0.05, column="camera")
    )
    evidence = Evidence.model_construct(
        model="tiny_net",
        n_test=200,
        level=0.95,
        figures={
            "accuracy": figure(0.9),
            "largest_class": figure(0.6),
            "place/accuracy": figure(0.4),
        },
        facts=facts,
        verdict=[Sentence(kind="beware", words="It misses cats.")],
        caveats=["One source."],
        git_commit="abc123",
        data_hash="def456",
        versions={"torch": "9.9"},
    )
    rows = pd.DataFrame({"name": ["tiny_net", "hog"]})
    findings = pd.DataFrame({"finding": ["near-duplicate pairs"], "n": [5], "note": [""]})
    others = ("per_class", "confusion", "reliability", "risk_coverage", "ranking", "roc")
    others += ("precision_recall", "places", "slices", "robustness", "robustness_classes", "sets")
    others += ("breaking_points", "calibration", "stability", "context")
    return Report(
        evidence=evidence,
        latency_ms=1.0,
        **dict.fromkeys(others, NONE),
        mistakes=[],
        looked=[],
        label_check=LabelCheck(
            findings=findings,
            audit=NONE,
            n_decided=4,
            n_changed=2,
            suspects=[],
            pairs=[],
            outliers=[],
        ),
        leaderboard=Leaderboard(rows=rows, metric="val/accuracy", budget_ms=9.0, choice=[]),
        sufficiency=Sufficiency(
            measured=NONE, forecast=NONE, metric="m", sentences=[], expected_wrong=7.0, n_labels=800
        ),
        tuning=Tuning(
            rows=pd.DataFrame({"number": range(6)}),
            metric="val/log_loss",
            direction="minimize",
            importance=NONE,
            remarks=["Tuning helped."],
        ),
        history=None,
        quarantine=pd.DataFrame({"name": ["a", "b"], "reason": ["0 bytes", "0 bytes"]}),
    )


def test_all_thirty_two_items_stand_in_their_eight_parts(report: Report) -> None:
    items = reforms.items(report)
    counts = pd.Series([item.number[0] for item in items]).value_counts().sort_index()
    assert counts.to_dict() == dict(zip("12345678", [3, 5, 7, 3, 6, 3, 3, 2], strict=True))


def test_what_only_a_person_knows_stays_open_and_is_named(report: Report, tmp_path: Path) -> None:
    still_open = [item.number for item in reforms.items(report) if not item.answer]
    assert still_open == ["1a", "1b", "1c", "3a", "3b", "3c", "3g", "6c"]
    reforms.write(report, tmp_path)
    text = (tmp_path / reforms.FILE).read_text()
    assert "Open, for a person to answer: 1a, 1b, 1c, 3a, 3b, 3c, 3g, 6c." in text
    assert text.count("only a person knows") == len(still_open)


@pytest.mark.parametrize(
    ("number", "facts"),
    {
        "2a": ["def456"],
        "2b": ["abc123"],
        "2c": ["torch 9.9"],
        "3d": ["4 images", "changed 2 labels", "7 labels are in doubt"],
        "3e": ["800 labelled images", "cat: 120"],
        "4a": ["0 bytes: 2"],
        "5d": ["2 candidates", "val/accuracy"],
        "5e": ["6 trials", "Tuning helped."],
        "5f": ["60.0\u202f%"],
        "6b": ["5 pairs", "3 test images"],
        "7b": ["90.0\u202f%", "85.0\u202f%"],
        "8a": ["camera", "40.0\u202f%"],
        "8b": ["It misses cats.", "One source."],
    }.items(),
)
def test_an_item_is_answered_from_the_records(
    report: Report, number: str, facts: list[str]
) -> None:
    answer = {item.number: item.answer for item in reforms.items(report)}[number]
    assert [fact for fact in facts if fact not in answer] == []
