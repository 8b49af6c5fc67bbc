"""A version's figures against limits, with what so many test photos can show.

A missing figure fails its gate.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scipy.special import ndtri

from pipeline.config.schema import Promotion
from pipeline.evaluation.crossval import PREFIX
from pipeline.evaluation.proportions import LEVEL, wilson
from pipeline.exported.tags import METRICS

CROSSED, CROSSED_N = f"{PREFIX}/accuracy", f"{PREFIX}/n"
Z = float(ndtri((1 + LEVEL) / 2))

Tags = Mapping[str, str]


@dataclass(frozen=True)
class Gate:
    """One gate's verdict: figure and limit as printed, and what to do where it did not pass.

    `note` is what a reader should know of a gate that passed.
    """

    name: str
    figure: str
    limit: str
    passed: bool
    advice: str = ""
    value: float | None = None
    note: str = ""


def figure(
    name: str, tags: Tags, tag: str, *, at_least: float = -math.inf, at_most: float = math.inf
) -> Gate:
    """The gate of one tag, which passes where its number lies within the limit."""
    limit = f"{at_least:g} or more" if at_least > -math.inf else f"{at_most:g} or less"
    value = number(tags, tag)
    if value is None:
        return Gate(
            name,
            "missing",
            limit,
            False,
            f"the version has no number as its tag {tag}; `dvc repro` registers one that has",
        )
    return Gate(name, f"{value:g}", limit, at_least <= value <= at_most, value=value)


def number(tags: Tags, tag: str) -> float | None:
    """The finite number of a tag, or None."""
    try:
        value = float(tags[tag])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def accuracy(tags: Tags, limits: Promotion) -> list[Gate]:
    """The accuracy and the lower end of its interval.

    The test photos decide, which the version itself was judged by. Where they cannot show a limit
    either way, since their interval holds it, the cross-validation of its settings decides, which all
    photos judge. The lower end is the smaller one of the evidence's and of Wilson's (1927): a bootstrap
    of 20 right answers out of 20 has no width.
    """
    estimate = figure("accuracy", tags, "test/accuracy", at_least=limits.min_accuracy)
    name = "accuracy, lower end"
    right, n = number(tags, "test/accuracy"), number(tags, "test/n")
    if right is None or n is None or n < 1 or not 0 <= right <= 1:
        lower = figure(name, {}, "test/n", at_least=limits.min_accuracy_low)
        return [estimate, lower]
    shown, most = wilson(round(right * n), round(n))
    bounded = {**tags}
    if (low := number(tags, "test/accuracy_low")) is not None:
        shown = min(low, shown)
        bounded["test/accuracy_low"] = f"{shown:.4f}"
    lower = figure(name, bounded, "test/accuracy_low", at_least=limits.min_accuracy_low)
    missing = too_few(right, round(n), limits.min_accuracy_low)
    if lower.value is not None and not lower.passed and right > limits.min_accuracy_low:
        lower = replace(lower, advice=missing)
    elif estimate.passed and lower.value is not None and lower.value < limits.min_accuracy:
        estimate = replace(estimate, note=too_few(right, round(n), limits.min_accuracy))
    if lower.value is None:
        return [estimate, lower]
    return [
        _decided(gate, tags, tag, floor, round(n)) if shown < floor <= most else gate
        for gate, tag, floor in (
            (estimate, CROSSED, limits.min_accuracy),
            (lower, f"{CROSSED}_low", limits.min_accuracy_low),
        )
    ]


def _decided(tested: Gate, tags: Tags, tag: str, floor: float, n: int) -> Gate:
    """The gate as cross-validation decides it; as it is where there was none."""
    crossed, n_crossed = figure(tested.name, tags, tag, at_least=floor), number(tags, CROSSED_N)
    if crossed.value is None or n_crossed is None:
        return tested
    why = (
        f"{n} test photos cannot show {floor:.0%} either way, so the cross-validation of the same "
        f"settings on {n_crossed:g} photos decides"
    )
    return replace(
        crossed,
        figure=f"{crossed.value:g} cross-validated, {tested.figure} on test photos",
        advice="" if crossed.passed else why,
        note=why if crossed.passed else "",
    )


def too_few(right: float, n: int, floor: float) -> str:
    """What n test photos do not show, and how many would where this fraction of them is right.

    Wilson's lower end reaches the floor at n = z^2 floor (1 - floor) / (right - floor)^2.
    """
    if right <= floor:
        return f"{n} test photos cannot show {floor:.0%}"
    needed = math.ceil(Z**2 * floor * (1 - floor) / (right - floor) ** 2)
    more = float(f"{max(1, needed - n):.2g}")
    return (
        f"{n} test photos cannot show {floor:.0%}: some {more:g} more of them are needed, or "
        f"another limit"
    )


def calibration(tags: Tags, max_ece: float) -> Gate:
    """The calibration error, which may be as large as chance makes it with so few photos."""
    gate = figure("calibration (ECE)", tags, "test/ece", at_most=max_ece)
    if gate.value is None or gate.passed:
        return gate
    chance = number(tags, "test/ece_by_chance")
    if chance is None:
        unknown = figure(gate.name, tags, "test/ece_by_chance", at_most=max_ece)
        return replace(gate, advice=unknown.advice)
    allowed = f"chance alone reaches {chance:.3g} with {tags.get('test/n', 'so few')} test photos"
    if gate.value <= chance:
        return replace(
            gate, limit=f"{max_ece:g}, by chance {chance:.3g}", passed=True, note=allowed
        )
    return replace(gate, advice=f"{allowed}; the confidences are wrong by more than that")


def of_ones_own(tags: Tags, limits: Promotion) -> list[Gate]:
    """The gates of `floors` and `ceilings`: any figure of the version, by its name."""
    measured = _measured(tags)
    floors = {name: {"at_least": value} for name, value in limits.floors.items()}
    ceilings = {name: {"at_most": value} for name, value in limits.ceilings.items()}
    return [
        _named(name, measured, {side: value})
        for sides in (floors, ceilings)
        for name, limit in sorted(sides.items())
        for side, value in limit.items()
        if value is not None
    ]


def _named(name: str, measured: Mapping[str, str], limit: Mapping[str, float]) -> Gate:
    gate = figure(name, measured, name, **limit)
    if gate.value is not None:
        return gate
    where = "data/evaluate/metrics.json names those that evaluate measures"
    return replace(
        gate, figure="not measured", advice=f"the version has no figure of this name; {where}"
    )


def _measured(tags: Tags) -> dict[str, str]:
    """Every figure of a version: the tag of all figures, under those that are tags themselves."""
    try:
        figures = json.loads(tags.get(METRICS, "{}"))
    except ValueError:
        figures = {}
    return {
        **{str(name): str(value) for name, value in figures.items()},
        **{tag: text for tag, text in tags.items() if number(tags, tag) is not None},
    }
