"""The figures are what the records say, whatever they are, and alerts come when limits are passed,
not before.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic import CLASSES, MONITOR, rows

from pipeline.evaluation.proportions import wilson
from pipeline.monitor import accuracy, alerts, summary
from pipeline.monitor.page import line, render, round_up
from pipeline.monitor.summary import Summary
from pipeline.monitor.watch import Look

NO_WINDOW = pd.DataFrame(columns=["version", "size", "last_seq", "start", "end", "level", "p"])
COLUMNS = ["time", "version", "status", "n", "latency_ms", "predicted", "confidence", "label"]


def summed(
    seen: pd.DataFrame, tested: pd.DataFrame = NO_WINDOW, **references: pd.DataFrame
) -> Summary:
    named = {name.removeprefix("v"): frame for name, frame in references.items()}
    return summary.summarise(
        seen, named, tested, since=0.0, until=86_400.0, slow_ms=MONITOR.max_p95_ms
    )


def served(n: int, **columns: Any) -> pd.DataFrame:
    plain = {
        "time": np.linspace(1, 86_000, n),
        "version": "1",
        "status": 200,
        "n": 1,
        "latency_ms": 20.0,
        "predicted": "cat",
        "confidence": 0.9,
        "label": None,
    }
    return pd.DataFrame({**plain, **columns}, index=range(n))[COLUMNS]


def kinds(seen: Summary) -> list[str]:
    return [alert.kind for alert in alerts.find(seen, MONITOR)]


record = st.fixed_dictionaries(
    {
        "time": st.floats(0, 86_400),
        "version": st.sampled_from(["1", "2", "<b>&"]),
        "status": st.sampled_from([200, 400, 503]),
        "n": st.just(1),
        "latency_ms": st.none() | st.floats(0, 1e6),
        "predicted": st.none() | st.sampled_from(CLASSES),
        "confidence": st.none() | st.floats(0, 1),
        "label": st.none() | st.sampled_from(CLASSES),
    }
)


@settings(max_examples=20)
@given(st.lists(record, max_size=30), st.booleans())
def test_every_record_is_counted_once_everywhere_and_can_be_shown(
    items: list[dict[str, Any]], known: bool
) -> None:
    seen = pd.DataFrame(items, columns=COLUMNS)
    found = summed(seen, **({"v1": rows(30, 0)} if known else {}))
    assert sum(version.n for version in found.versions) == len(items)
    for version in found.versions:
        assert version.n == version.answered + version.refused + version.failed
        assert version.n == sum(part.n for part in version.over_time)
        assert version.failed == sum(part.failed for part in version.over_time)
        assert 0 <= version.accuracy.right <= version.accuracy.labelled <= version.answered
        assert math.isclose(sum(row.share for row in version.classes), 1) or not sum(
            row.n for row in version.classes
        )
        assert (
            version.latency_ms.get("p50", 0)
            <= version.latency_ms.get("p95", 0)
            <= version.latency_ms.get("p99", 0)
        )
    page = render(
        Look(summary=found, alerts=alerts.find(found, MONITOR)), every_s=60.0, project="fieldmark"
    )
    assert "<b>&" not in page
    assert Summary.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("ms", "told"),
    [(2.345, "2.35 ms"), (47.0, "47 ms"), (1238.2, "1 238 ms"), (12_345.6, "12.3 s")],
)
def test_latency_is_told_in_few_figures(ms: float, told: str) -> None:
    found = summed(served(3, latency_ms=ms))
    page = render(Look(summary=found, alerts=[]), every_s=60.0, project="fieldmark").replace(
        "\u202f", " "
    )
    assert f"<dd>{told}</dd>" in page


def test_a_value_alone_is_a_dash_as_wide_as_a_bar_and_a_gap_stays_one() -> None:
    assert line([None, 0.5, None, 1.0, 0.0], 0, 1) == "M107.5 48.0L180.5 48.0M336.0 0.0L432.0 96.0"


def test_the_version_that_answered_last_comes_first() -> None:
    seen = pd.concat([served(5, version="9"), served(5, version="10", time=86_399.0)])
    assert [version.version for version in summed(seen).versions] == ["10", "9"]


def test_plain_traffic_raises_no_alert_and_bad_traffic_the_right_one() -> None:
    reference = {"v1": rows(300, 0)}
    assert kinds(summed(served(500, confidence=0.84), **reference)) == []
    assert kinds(summed(served(500, status=[503] * 20 + [200] * 480), **reference)) == ["errors"]
    assert kinds(summed(served(500, latency_ms=[2000.0] * 60 + [9.0] * 440), **reference)) == [
        "latency"
    ]
    [wrong] = alerts.find(
        summed(served(500, label=["dog"] * 200 + [None] * 300), **reference), MONITOR
    )
    expected = (reference["v1"]["label"] != reference["v1"]["predicted"]).mean()
    assert (wrong.kind, wrong.message) == (
        "accuracy",
        f"200 of 500 predictions were reported wrong; {expected:.1%} were expected",
    )


def test_a_flood_of_refusals_does_not_hide_a_failing_server() -> None:
    seen = summed(
        served(501, status=[503] * 20 + [200] * 480 + [401]).assign(n=[1] * 500 + [10**6])
    )
    assert kinds(seen) == ["errors"]
    assert (seen.versions[0].refused, seen.versions[0].statuses) == (10**6, {401: 10**6, 503: 20})
    assert summary.by_status({503: 20, 401: 10**6}) == "401: 1000000, 503: 20"


def test_one_failure_or_one_slow_answer_among_few_is_no_alert() -> None:
    assert kinds(summed(served(5, status=[503] + [200] * 4))) == []
    assert kinds(summed(served(5, latency_ms=[9000.0] + [9.0] * 4))) == []


def test_people_who_report_only_what_is_wrong_raise_no_alert_while_that_is_rare() -> None:
    seen = summed(served(500, label=["dog"] * 12 + [None] * 488), v1=rows(300, 0))
    assert seen.versions[0].accuracy.right == 0
    assert kinds(seen) == []


def test_lost_records_are_an_alert() -> None:
    nothing = pd.DataFrame([], columns=COLUMNS)
    found = summary.summarise(nothing, {}, NO_WINDOW, since=0.0, until=1.0, slow_ms=1.0, lost=3)
    assert [(alert.kind, alert.version) for alert in alerts.find(found, MONITOR)] == [
        ("records", "")
    ]


def windows(*smallest: float) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "version": "1",
                "size": 50,
                "last_seq": i,
                "start": i,
                "end": i + 1,
                "level": 0.001,
                "p": {"brightness": p, "sketch": 0.5},
            }
            for i, p in enumerate(smallest)
        ]
    )


def test_a_drift_alert_says_what_where_and_whether_it_goes_on() -> None:
    assert kinds(summed(served(50), windows(0.5, 0.002))) == []
    [now] = alerts.find(summed(served(50), windows(0.5, 0.0005)), MONITOR)
    assert (
        now.message
        == "unlike the validation images: brightness of the images (1 of 2 windows of 50 images)"
    )
    [before] = alerts.find(summed(served(50), windows(0.0005, 0.0005, 0.5)), MONITOR)
    assert before.message.endswith("the latest are like them again)")


def test_accuracy_to_expect_is_that_of_the_reference_where_nothing_changed_and_lower_where_confidence_fell() -> (
    None
):
    reference = rows(2000, 0)
    true = float((reference["predicted"] == reference["label"]).mean())
    _, same = accuracy.expected(reference, rows(2000, 1)["confidence"])
    mean, lower = accuracy.expected(reference, rows(2000, 1)["confidence"] * 0.8)
    assert same / 2000 == pytest.approx(true, abs=0.03)
    assert lower / 2000 < true - 0.1 and mean < true - 0.05


def test_the_accuracy_of_a_version_stands_beside_what_its_reference_and_its_confidence_promise() -> (
    None
):
    reference = pd.DataFrame(
        {
            "label": ["cat"] * 8 + ["dog"] * 2,
            "predicted": ["cat"] * 9 + ["dog"],
            "confidence": [0.1, 0.2, *[0.65] * 8],
        }
    )
    seen = summed(
        served(
            80, confidence=[0.1, 0.2, *[0.9] * 6] * 10, label=["cat", "cat", "dog", *[None] * 77]
        ),
        v1=reference,
    )
    found = seen.versions[0].accuracy
    assert (found.in_reference, found.in_reference_low) == (0.9, wilson(9, 10)[0])
    assert (found.by_confidence, found.by_threshold) == (pytest.approx(0.7125), 0.875)
    assert (found.by_threshold_low, found.by_threshold_high) == wilson(70, 80)
    assert (found.labelled, found.right, (found.low, found.high)) == (3, 2, wilson(2, 3))
    assert seen.versions[0].confidence_in_reference == pytest.approx(0.55)
    few = summed(served(49), v1=reference).versions[0].accuracy
    assert (few.in_reference, few.by_confidence, few.by_threshold) == (0.9, None, None)
    unknown = summed(served(80)).versions[0].accuracy
    assert (unknown.in_reference, unknown.by_confidence, unknown.by_threshold) == (None, None, None)
    silent = summed(served(8, status=503, confidence=None), v1=reference).versions[0].accuracy
    assert (silent.in_reference, silent.by_confidence, silent.by_threshold) == (0.9, None, None)


def test_no_case_gives_no_certainty() -> None:
    assert wilson(0, 0) == (0, 1)


@given(st.floats(0, 1e9))
def test_an_axis_ends_at_a_round_number_above_the_largest(value: float) -> None:
    top = round_up(value)
    assert value <= top <= max(1, 2.5 * value * (1 + 1e-9))
    assert f"{top:.0e}"[0] in "125"
