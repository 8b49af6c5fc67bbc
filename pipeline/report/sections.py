"""The sections of the page, in order.

A section is a function from the report to the values that its template needs, or None where it has
nothing to show. Its template is sections/ID.html.jinja. To add one, write both and add a line to
SECTIONS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation import places, region_rules
from pipeline.evaluation.crossval import MEASURED, PREFIX
from pipeline.evaluation.stability import in_words
from pipeline.report import (
    cells,
    curves,
    plots,
    ranking_plots,
    reforms,
    robustness_plots,
    search_tables,
    study_plots,
)
from pipeline.report.contents import Report
from pipeline.report.words import AUDIT_HEADINGS, NAMES, VERDICT

QUARANTINE_ROWS = 20
RIGHT_ANSWERS = 12  # of those with a map, shown
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """`id` names its template and its place on the page, `title` its link at the top."""

    id: str
    title: str
    values: Callable[[Report], Values | None]


def verdict(report: Report) -> Values:
    """What the model can be trusted for, and what not."""
    return {"kinds": VERDICT}


def caveats(report: Report) -> Values | None:
    """What a reader of the figures should know."""
    return {} if report.evidence.caveats else None


def classes(report: Report) -> Values:
    """Figures of each class, and all figures with their intervals."""
    headline = {name: each for name, each in report.evidence.figures.items() if "/" not in name}
    return {"names": NAMES, "headline": headline}


def cross_validation(report: Report) -> Values | None:
    """Where test images are few: their figures beside those of all images."""
    if report.evidence.facts.cross_validated is None:
        return None
    return {"names": NAMES, "prefix": PREFIX, "measured": MEASURED}


def sets(report: Report) -> Values:
    """How often conformal sets hold the right class."""
    return {}


def stability(report: Report) -> Values:
    """Answers under small changes, and on parts of the photos."""
    return {"in_words": in_words}


def trust(report: Report) -> Values:
    """Which classes are confused, and whether a confidence can be trusted."""
    return {
        "confusion": plots.confusion_matrix(report.confusion, report.evidence.classes),
        "reliability": plots.reliability(report.reliability),
        "risk_coverage": plots.risk_coverage(report.risk_coverage),
        "names": NAMES,
    }


def ranking(report: Report) -> Values | None:
    """How well each class is ranked above the others."""
    if report.ranking.empty:
        return None
    return {
        "roc": ranking_plots.roc(report.roc, report.ranking),
        "precision_recall": ranking_plots.precision_recall(report.precision_recall, report.ranking),
    }


def slices(report: Report) -> Values | None:
    """Accuracy on parts of the test images."""
    return {"n_weaker": int(report.slices["weaker"].sum())} if len(report.slices) else None


def promises(report: Report) -> Values | None:
    """What abstention and strangeness promise, on known places and on such as were left out."""
    if report.evidence.facts.promises is None:
        return None
    return {"known": places.KNOWN, "new": places.NEW}


def robustness(report: Report) -> Values | None:
    """What attacks, corruptions and noise leave of the accuracy."""
    rows = report.robustness
    if rows.empty:
        return None
    attacks, corruptions = (rows[rows["threat"] == threat] for threat in ("attack", "corruption"))
    beside = rows[rows["threat"].isin(["attack alone", "patch", "certificate"])]
    return {
        "curve": robustness_plots.curves(attacks) if len(attacks) else None,
        "corruptions": robustness_plots.corruptions(corruptions) if len(corruptions) else None,
        "attacks": attacks.drop(columns=["threat", "largest_class"]),
        "beside": beside.drop(columns=["threat", "largest_class"]),
        "largest": rows["largest_class"].max(),
        "strongest": cells.strongest(attacks),
    }


def mistakes(report: Report) -> Values | None:
    """The wrong answers with the highest confidence."""
    return {} if report.mistakes else None


def looked(report: Report) -> Values | None:
    """Where in a photo answers rest, and whether the maps of that can be believed."""
    if not report.looked:
        return None
    n_wrong = sum(each.label != each.predicted for each in report.looked)  # they come first
    photos = report.looked[: n_wrong + RIGHT_ANSWERS]
    failed, same = region_rules.failed(report.evidence.figures), region_rules.SAME
    return {"photos": photos, "failed": failed, "same": same}


def labels(report: Report) -> Values:
    """What label-check found in the data; what it found nothing of is one line."""
    findings = report.label_check.findings
    return {
        "audit_headings": AUDIT_HEADINGS,
        "found": findings[findings["n"] > 0],
        "not_found": findings.loc[findings["n"] == 0, "finding"].tolist(),
    }


def candidates(report: Report) -> Values:
    """What model-search compared."""
    board = report.leaderboard
    chart = plots.leaderboard(board.rows, metric=board.metric, budget_ms=board.budget_ms)
    return {"leaderboard": chart, "candidate_rows": search_tables.candidate_rows(board.rows)}


def sufficiency(report: Report) -> Values | None:
    """Whether the photos suffice, and what more of them would bring."""
    amount = report.sufficiency
    if not amount.sentences or amount.forecast.empty:
        return None
    share = amount.expected_wrong / max(amount.n_labels, 1)
    by_class = amount.forecast[amount.forecast["class"] != ""]
    return {
        "curve": curves.learning_curve(amount.measured, amount.forecast, metric=amount.metric),
        "of_classes": curves.class_table(by_class, int(amount.measured["n"].max())),
        "wrong": cells.share(share),
        "attainable": cells.share(1 - share),
    }


def tuning(report: Report) -> Values:
    """The trials of tune."""
    trials = report.tuning
    return {
        "trials": plots.trials(trials.rows, metric=trials.metric, direction=trials.direction),
        "importance": study_plots.importance(trials.importance) if len(trials.importance) else None,
        "parallel": study_plots.parallel(
            trials.rows, metric=trials.metric, direction=trials.direction
        ),
        "best_trials": search_tables.best_trials(trials),
        "n_stopped": int(trials.rows["stopped"].sum()),
    }


def training(report: Report) -> Values | None:
    """The curves of the final model."""
    return None if report.history is None else {"history": plots.history(report.history)}


def left_out(report: Report) -> Values | None:
    """Files in quarantine, by reason."""
    if report.quarantine.empty:
        return None
    counts = report.quarantine.groupby("reason").size().rename("n").reset_index()
    reasons = counts.sort_values(["n", "reason"], ascending=[False, True], ignore_index=True)
    return {"reasons": reasons, "quarantine_rows": QUARANTINE_ROWS}


def checklist(report: Report) -> Values:
    """What a claim from machine learning must answer."""
    items = reforms.items(report)
    n_open = sum(not item.answer for item in items)
    return {"items": items, "n_open": n_open, "source": reforms.SOURCE}


def provenance(report: Report) -> Values:
    """What it takes to train this model again."""
    return {}


SECTIONS = (
    Section("verdict", "Verdict", verdict),
    Section("caveats", "Caveats", caveats),
    Section("classes", "Classes", classes),
    Section("cross-validation", "Few test images", cross_validation),
    Section("trust", "Errors and trust", trust),
    Section("ranking", "Ranking", ranking),
    Section("sets", "Sets", sets),
    Section("promises", "Promises", promises),
    Section("slices", "Slices", slices),
    Section("robustness", "Robustness", robustness),
    Section("stability", "Stability", stability),
    Section("mistakes", "Worst mistakes", mistakes),
    Section("looked", "Where it looked", looked),
    Section("labels", "Labels", labels),
    Section("candidates", "Candidates", candidates),
    Section("sufficiency", "Enough data?", sufficiency),
    Section("tuning", "Tuning", tuning),
    Section("training", "Training", training),
    Section("left-out", "Left out", left_out),
    Section("reforms", "Checklist", checklist),
    Section("made", "How this was made", provenance),
)
