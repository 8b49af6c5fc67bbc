"""One HTML page that says how good a model is, how it was made and where it fails.

It opens by itself: no script, no outside request, pictures inlined. Names of classes and files are
anyone's text, so everything is escaped. `render` turns a `Report` into the page; the tables are
those of `pipeline.evaluation.metrics` and `slices`.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.pixels import sheets
from pipeline.report import plots

THUMBNAIL_PX = 224
PIXELATED_BELOW_PX = 96
QUARANTINE_ROWS = 20
TRIAL_ROWS = 5
DASH = "–"
AUDIT_HEADINGS = {
    "kind": "errors",
    "fraction": "share of labels",
    "n_planted": "wrong",
    "n_suspect": "doubted",
    "average_precision": "average precision",
    "random_average_precision": "of a random order",
}

NAMES = {
    "accuracy": "Accuracy",
    "f1_macro": "Macro F1",
    "balanced_accuracy": "Balanced accuracy",
    "top3_accuracy": "Top-3 accuracy",
    "roc_auc": "ROC AUC",
    "ece": "Calibration error (ECE)",
    "log_loss": "Log loss",
    "brier": "Brier score",
}
SHARES = {"accuracy", "f1_macro", "balanced_accuracy", "top3_accuracy"}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What it takes to make this model again."""

    seed: int
    git_commit: str
    data_hash: str
    config_yaml: str
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A test image with a wrong prediction; the confidence is 0 to 1."""

    name: str
    label: str
    predicted: str
    confidence: float
    image: UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An image whose label is doubted; the score is label-check's, 0 to 1."""

    name: str
    label: str
    suggested: str
    score: float
    image: UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images that are nearly the same, why they are shown, and the cosine of their features."""

    why: str
    names: tuple[str, str]
    labels: tuple[str, str]
    cosine: float
    image: UInt8[np.ndarray, "_ _ 3"]
    other: UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """An image unlike all others."""

    name: str
    label: str
    image: UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, kw_only=True)
class LabelCheck:
    """`findings` has a row a kind of finding: finding, n, note; `audit` the columns of
    pipeline.labels.audit.

    `n_decided` images have a decision of people, which changed `n_changed` labels.
    """

    findings: pd.DataFrame
    audit: pd.DataFrame
    n_decided: int
    n_changed: int
    suspects: Sequence[Suspect]
    pairs: Sequence[Pair]
    outliers: Sequence[Outlier]


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """`rows` has a row a candidate: name, latency/p50_ms, `metric` and whatever else is worth
    showing.
    """

    rows: pd.DataFrame
    metric: str
    budget_ms: float


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """`rows` has a row a trial: number, value, stopped (before its end) and whatever else is worth
    showing.
    """

    rows: pd.DataFrame
    metric: str
    direction: Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything on the page; a section without content is left out.

    `metrics` are those of `metrics.summary`, `intervals` those of `metrics.intervals` at `level`.
    `history` has a row an epoch, None where there was none to follow, `quarantine` a row a file
    that could not be used: name, reason.
    """

    dataset: str
    model: str
    n_test: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    level: float
    latency_ms: float
    provenance: Provenance
    classes: Sequence[str]
    per_class: pd.DataFrame
    confusion: pd.DataFrame
    reliability: pd.DataFrame
    risk_coverage: pd.DataFrame
    slices: pd.DataFrame
    mistakes: Sequence[Mistake]
    label_check: LabelCheck
    leaderboard: Leaderboard
    tuning: Tuning
    history: pd.DataFrame | None
    quarantine: pd.DataFrame
    caveats: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Cells as text; `numeric` says which columns are set flush right."""

    columns: Sequence[str]
    numeric: Sequence[bool]
    rows: Sequence[Sequence[str]]


def render(report: Report) -> str:
    """The page as HTML. The same report gives the same page."""
    environment = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": _share,
        "short": _short_number,
        "figure": _figure,
        "table": _table,
    }
    environment.filters |= {
        "thumbnail": _thumbnail,
        "pixelated": _pixelated,
        "head": pd.DataFrame.head,
    }
    page = environment.get_template("page.html.jinja")
    html = page.render(
        report=report,
        n_correct=round(report.metrics["accuracy"] * report.n_test),
        names=NAMES,
        charts={name: _uri(svg, "image/svg+xml") for name, svg in _charts(report).items()},
        reasons=_reasons(report.quarantine),
        best_trials=_best_trials(report.tuning),
        n_stopped=int(report.tuning.rows["stopped"].sum()),
        audit_headings=AUDIT_HEADINGS,
        quarantine_rows=QUARANTINE_ROWS,
    )
    # A file name that is not Unicode holds lone surrogates, which cannot be written as UTF-8.
    return html.encode("utf-8", "replace").decode("utf-8")


def _charts(report: Report) -> dict[str, bytes]:
    board, tuning = report.leaderboard, report.tuning
    charts = {
        "confusion": plots.confusion_matrix(report.confusion, report.classes),
        "reliability": plots.reliability(report.reliability),
        "risk_coverage": plots.risk_coverage(report.risk_coverage),
        "leaderboard": plots.leaderboard(
            board.rows, metric=board.metric, budget_ms=board.budget_ms
        ),
        "trials": plots.trials(tuning.rows, metric=tuning.metric, direction=tuning.direction),
    }
    if report.history is not None:
        charts["history"] = plots.history(report.history)
    return charts


def _reasons(quarantine: pd.DataFrame) -> pd.DataFrame:
    """How many files each reason kept out, the most frequent first."""
    counts = quarantine.groupby("reason").size().rename("n").reset_index()
    return counts.sort_values(["n", "reason"], ascending=[False, True], ignore_index=True)


def _best_trials(tuning: Tuning) -> pd.DataFrame:
    done = tuning.rows[~tuning.rows["stopped"]].dropna(subset=["value"]).drop(columns="stopped")
    best = done.sort_values(["value", "number"], ascending=[tuning.direction == "minimize", True])
    return best.head(TRIAL_ROWS).rename(columns=lambda name: name.removeprefix("params_"))


def _share(value: float, digits: int = 1) -> str:
    return DASH if np.isnan(value) else f"{100 * value:.{digits}f}\u202f%"


def _short_number(value: float) -> str:
    return DASH if np.isnan(value) else f"{value:.3g}"


def _figure(value: float, metric: str) -> str:
    """A metric as people read it: shares in percent, the others with three decimals."""
    return _share(value) if metric in SHARES else f"{value:.3f}"


def _table(frame: pd.DataFrame) -> Table:
    columns = [_heading(str(column)) for column in frame.columns]
    numeric = [
        pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
        for kind in frame.dtypes
    ]
    cells = [_cells(frame[column]) for column in frame.columns]
    return Table(columns, numeric, list(zip(*cells, strict=True)))


def _heading(column: str) -> str:
    if "." in column:  # the key of a setting, to be copied into params.yaml
        return column
    return "count" if column == "n" else column.removeprefix("n_").replace("_", " ")


def _cells(column: pd.Series) -> list[str]:
    """A column of shares or scores has three decimals all the way down, so that numbers can be
    compared.
    """
    if pd.api.types.is_float_dtype(column):
        return [
            DASH if np.isnan(value) else format(value, _float_format(column)) for value in column
        ]
    if pd.api.types.is_integer_dtype(column):
        return [f"{value:,}" for value in column]
    return [
        {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        for value in column
    ]


def _float_format(column: pd.Series) -> str:
    sizes = column.abs()
    if sizes.between(0, 0.01, inclusive="neither").any():
        return ".2g"
    return ".3f" if sizes.max() <= 1 else ".1f"


def _thumbnail(image: UInt8[np.ndarray, "_ _ 3"]) -> Markup:
    return _uri(sheets.thumbnail(image, side_px=THUMBNAIL_PX), "image/webp")


def _pixelated(image: UInt8[np.ndarray, "_ _ 3"]) -> bool:
    return bool(max(image.shape[:2]) < PIXELATED_BELOW_PX)


def _uri(content: bytes, kind: Literal["image/svg+xml", "image/webp"]) -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")
