"""Whether the photos suffice: learning curves of two candidates, and what more photos would bring.

learning_curve.csv  candidate, name, class ("": over all classes), n (photos), draw, value
forecast.csv        candidate, name, class, n, value, low, high: the curve, fitted and continued
sufficiency.json    the metric, the level of intervals, and sentences in plain words
The value of a class is its F1: its recall alone also grows where a model
turns from one class to another. Axes: n images, k classes, r resamples.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from pipeline import config
from pipeline.config.schema import Candidate, ModelSearch
from pipeline.evaluation import intervals
from pipeline.evaluation.statistics import statistic
from pipeline.search import extrapolation, judgement, nulls, trial
from pipeline.search.trial import Budget, Data
from pipeline.storage import csvs

CURVE = ["candidate", "name", "class", "n", "draw", "value"]
FORECAST = ["candidate", "name", "class", "n", "value", "low", "high"]
ALL = ""  # the class of a value over all classes


@dataclass(frozen=True)
class _Curve:
    """Of one candidate: photos of each size, and by class the values of each draw and resample."""

    candidate: Candidate
    sizes: Float[np.ndarray, " s"]
    values: Mapping[str, extrapolation.Curve]


def write(
    candidates: Mapping[str, Candidate],
    ranked: pd.DataFrame,
    data: Data,
    classes: Sequence[str],
    settings: ModelSearch,
    seed: int,
    out: Path,
) -> dict[str, float]:
    """Measure and write the three files; returns the figures of the winner for MLflow and DVC."""
    curves, sentences, figures = [], list[str](), dict[str, float]()
    metric = "f1_macro" if settings.metric == "f1_macro" else "accuracy"
    names = _measurable(candidates, ranked) if settings.sufficiency.draws else []
    if names:
        parts = judgement.parts(data, settings.cross_validation, seed)
        curves = [_measure(candidates[n], parts, classes, metric, settings, seed) for n in names]
    forecast = pd.DataFrame(
        [row for curve in curves for row in _forecast(curve, settings, seed)], columns=FORECAST
    )
    if names:
        figures, sentences = _described(curves[0], forecast, metric, settings, seed)
        figures |= nulls.accuracies(parts)
        sentences += [_stand_in(curves[0], ranked), nulls.sentence(figures)]
    measured = [row for curve in curves for row in _rows(curve)]
    csvs.write(pd.DataFrame(measured, columns=CURVE), out / "learning_curve.csv")
    csvs.write(forecast, out / "forecast.csv")
    content = {"metric": metric, "level": settings.bootstrap.level}
    content |= {"sentences": [sentence for sentence in sentences if sentence]}
    text = json.dumps(content, ensure_ascii=False)
    (out / "sufficiency.json").write_text(text + "\n", encoding="utf-8")
    return figures


def _measurable(candidates: Mapping[str, Candidate], ranked: pd.DataFrame) -> list[str]:
    """The winner, and the fastest other one; only those whose features are kept, since a curve trains
    a candidate again and again.
    """
    usable = [
        str(name)
        for name in ranked.loc[ranked["rung"] > 0, "candidate"]
        if candidates[str(name)].frozen
        and not hasattr(config.target(candidates[str(name)].extractor, "candidate"), "learn")
    ]
    latency = ranked.set_index("candidate")["latency/p50_ms"]
    return usable[:1] + sorted(usable[1:], key=lambda name: latency[name])[:1]


def _measure(
    candidate: Candidate,
    parts: Sequence[Data],
    classes: Sequence[str],
    metric: str,
    settings: ModelSearch,
    seed: int,
) -> _Curve:
    """Train on growing parts of the photos, several draws of each; where one validation set judges
    all of them, fewer draws of the larger ones, which have most photos in common.
    """
    asked = settings.sufficiency
    n_photos = [int((part.train.place[:, 0] == part.train.place[0, 0]).sum()) for part in parts]
    values: dict[str, extrapolation.Curve] = {name: [] for name in (ALL, *classes)}
    print(f"learning curve of {candidate.name}", flush=True)
    for fraction in reversed(asked.fractions):  # all features at once: the engine is prepared once
        n_draws = asked.draws if len(parts) > 1 else max(1, math.ceil(asked.draws * (1 - fraction)))
        drawn: dict[str, list[np.ndarray]] = {name: [] for name in values}
        for draw in range(n_draws):
            part = parts[draw % len(parts)]
            outcome = trial.tried(candidate, part, Budget(fraction), seed + draw)
            if outcome.val_logits is None:
                continue  # it diverged
            judged = judgement.judged([outcome], [part])
            for name, row in _values(judged, metric, classes, asked.n_resamples, seed).items():
                drawn[name].append(row)
        for name, rows in drawn.items():
            values[name].insert(0, np.array(rows))
    sizes = np.array(asked.fractions) * float(np.mean(n_photos))
    return _Curve(candidate, sizes, values)


def _values(
    judged: judgement.Judged, metric: str, classes: Sequence[str], n_resamples: int, seed: int
) -> dict[str, Float[np.ndarray, " r"]]:
    """The metric, and the F1 of every class, on all images and on resamples of them."""
    labels, probs = judged.labels, judged.probs
    overall = {ALL: statistic(metric, labels, probs)}
    of_classes = intervals.f1_draws(labels, probs, n_resamples, seed)
    return {
        **intervals.draws(overall, len(labels), n_resamples, seed),
        **dict(zip(classes, of_classes.T, strict=True)),
    }


def _grid(curve: _Curve, settings: ModelSearch) -> Float[np.ndarray, " q"]:
    more = [curve.sizes[-1] * (1 + share) for share in settings.sufficiency.more]
    return np.array([*curve.sizes, *more])


def _forecast(curve: _Curve, settings: ModelSearch, seed: int) -> list[dict[str, Any]]:
    grid, rows = _grid(curve, settings), []
    for name, values in curve.values.items():
        if not all(len(draws) for draws in values):
            continue  # a size where every draw diverged
        drawn = extrapolation.forecast(curve.sizes, values, grid, seed)
        for n, line in zip(grid, drawn, strict=True):
            low, high = intervals.interval(line, settings.bootstrap.level)
            value = {"n": round(n), "value": line[0], "low": low, "high": high}
            own = {"candidate": curve.candidate.name, "name": curve.candidate.title, "class": name}
            rows.append({**own, **value})
    return rows


def _rows(curve: _Curve) -> list[dict[str, Any]]:
    own = {"candidate": curve.candidate.name, "name": curve.candidate.title}
    return [
        {**own, "class": name, "n": round(n), "draw": draw, "value": value}
        for name, values in curve.values.items()
        for n, draws in zip(curve.sizes, values, strict=True)
        for draw, value in enumerate(draws[:, 0] if len(draws) else [])
    ]


def _described(
    curve: _Curve, forecast: pd.DataFrame, metric: str, settings: ModelSearch, seed: int
) -> tuple[dict[str, float], list[str]]:
    """Figures and sentences about the first curve."""
    more = settings.sufficiency.more
    rows = forecast[(forecast["candidate"] == curve.candidate.name) & (forecast["class"] == ALL)]
    if rows.empty:
        return {}, [f"{curve.candidate.title} diverged on small parts, so there is no curve."]
    now, later = rows["value"].iloc[-len(more) - 1], rows.tail(len(more)).to_dict("records")
    figures, parts = dict[str, float](), list[str]()
    for share, row in zip(more, later, strict=True):
        key = f"sufficiency/{metric}_{1 + share:g}x"
        figures |= {key: row["value"], f"{key}_low": row["low"], f"{key}_high": row["high"]}
        span = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        parts.append(f"with {100 * share:.0f} % more photos about {span}")
    figure = metric.replace("_macro", " (macro)")
    first = (
        f"{curve.candidate.title} has a validation {figure} of about {now:.3f} with the "
        f"{curve.sizes[-1]:.0f} training photos there are; {', '.join(parts)}."
    )
    return figures, [first, _photograph(curve, settings, seed)]


def _photograph(curve: _Curve, settings: ModelSearch, seed: int) -> str:
    """Which class gains most by twice as many photos, where the curves can say so."""
    asked = np.array([1.0, 2.0]) * curve.sizes[-1]
    gains = {}
    for name, values in curve.values.items():
        if name != ALL and all(len(draws) for draws in values):
            now, doubled = extrapolation.forecast(curve.sizes, values, asked, seed)
            gains[name] = doubled - now
    if len(gains) < 2:
        return ""
    best, second = sorted(gains, key=lambda name: -float(np.mean(gains[name])))[:2]
    ahead = float(np.mean(gains[best] > gains[second]))
    low, high = intervals.interval(gains[best], settings.bootstrap.level)
    gain = f"{np.mean(gains[best]):.3f} ({low:.3f} to {high:.3f})"
    if ahead > settings.bootstrap.level:
        return f"Photograph `{best}` first: twice as many photos bring it an F1 larger by {gain}."
    return (
        f"Photograph `{best}` first, if any: twice as many photos bring it an F1 larger by "
        f"{gain}, but that it gains more than `{second}` is not certain ({100 * ahead:.0f} %)."
    )


def _stand_in(curve: _Curve, ranked: pd.DataFrame) -> str:
    winner = ranked.iloc[0]
    if winner["candidate"] == curve.candidate.name:
        return ""
    return (
        f"The curve is that of {curve.candidate.title}: {winner['name']} learns too slowly to be "
        f"trained again and again."
    )
