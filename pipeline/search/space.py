"""The space of hyperparameters: values of a candidate by their dotted names, and what a sampler is
asked for them.
"""

import math
from collections.abc import Mapping
from typing import Any

import optuna

from pipeline.config.schema import Candidate, Range

NEAR_END = 0.02  # of a range, on its own scale
Params = Mapping[str, Any]


def value(candidate: Candidate, key: str) -> Any:
    """One value of the candidate by its dotted name (`fit.lr`, `head.dropout`)."""
    node: Any = candidate.model_dump()
    for part in key.split("."):
        node = node[part]
    return node


def chosen(candidate: Candidate, params: Params) -> Candidate:
    """The candidate with some hyperparameters set by their dotted names."""
    node = candidate.model_dump()
    for key, value in params.items():
        *path, last = key.split(".")
        inner = node
        for part in path:
            inner = inner[part]
        inner[last] = value
    return Candidate.model_validate(node)


def suggest(trial: optuna.Trial, candidate: Candidate) -> None:
    """Ask for every hyperparameter that applies: those with conditions last, by what was chosen."""
    params: dict[str, Any] = {}
    for key, span in sorted(candidate.space.items(), key=lambda entry: bool(entry[1].when)):
        conditions = span.when.items()
        if all(params.get(name, value(candidate, name)) == wanted for name, wanted in conditions):
            params[key] = _suggested(trial, key, span, value(candidate, key))


def edges(candidate: Candidate, params: Params) -> list[str]:
    """A sentence for each hyperparameter whose best value lies at an end of its range, beyond which
    there may be a better one.
    """
    sentences = []
    for key, span in candidate.space.items():
        end = _end(span, params[key]) if key in params else ""
        if end:
            sentences.append(
                f"The best {key}, {short(params[key])}, lies at the {end} end of what was tried: "
                f"in params.yaml, widen candidates.{candidate.name}.space.{key}."
            )
    return sentences


def short(value: bool | int | float | str) -> str:
    """A hyperparameter's value as people read it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _end(span: Range, best: Any) -> str:
    """Which end of a range the value lies at; "" where it lies within, or where the end is 0 and
    nothing lies beyond.
    """
    low, high = span.low, span.high
    if span.choices is not None:
        if any(isinstance(choice, bool | str) for choice in span.choices):
            return ""  # they have no order
        low, high = float(min(span.choices)), float(max(span.choices))
        return {low: "lower" if low else "", high: "upper"}.get(float(best), "")
    assert low is not None and high is not None
    scale = math.log if span.log else float
    place = (scale(best) - scale(low)) / (scale(high) - scale(low)) if best > 0 else 0.0
    if place <= NEAR_END:
        return "lower" if low > 0 else ""
    return "upper" if place >= 1 - NEAR_END else ""


def _suggested(trial: optuna.Trial, key: str, span: Range, now: Any) -> Any:
    """Asked of the range, stretched to where the configuration stands; whole numbers where it has
    one.
    """
    if span.choices is not None:
        return trial.suggest_categorical(
            key, [*span.choices, *([] if now in span.choices else [now])]
        )
    assert span.low is not None and span.high is not None
    low, high = min(span.low, now), max(span.high, now)
    log = span.log and low > 0  # what was switched off cannot be searched by its logarithm
    if isinstance(now, int):
        return trial.suggest_int(key, int(low), int(high), log=log)
    return trial.suggest_float(key, low, high, log=log)
