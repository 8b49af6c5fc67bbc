"""The model card, from what evaluate has on record.

Its nine sections are those of Mitchell et al. (Model Cards for Model Reporting, FAccT 2019, section 4).
"""

from collections.abc import Mapping
from typing import Any

from pipeline.config.schema import Candidate
from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.figures import Figure

Thresholds = Mapping[str, Mapping[str, Any]]
ROWS = [
    *("accuracy", "balanced_accuracy", "f1_macro", "mcc", "roc_auc", "log_loss", "ece"),
    *("set_coverage", "set_size", "largest_class"),
]
A_PERSON = "*A person must say this.*"


def card(
    winner: Candidate,
    size_px: int,
    evidence: Evidence,
    thresholds: Thresholds,
    *,
    data_hash: str,
    commit: str,
) -> str:
    """The model card as Markdown. thresholds: as thresholds.json."""
    parts = {
        "Model details": _details(winner, size_px, evidence, data_hash, commit),
        "Intended use": _use(evidence),
        "Factors": _factors(evidence),
        "Metrics": _metrics(evidence, thresholds),
        "Evaluation data": f"{evidence.dataset}, predicted once, after every choice was made. Whose "
        f"images they are and how the labels were found: {A_PERSON}",
        "Training data": f"All other images of the data `{data_hash}`, of the same source. "
        f"{evidence.facts.doubted} labels of all images are in doubt, and were left as they are.",
        "Quantitative analyses": _analyses(evidence),
        "Ethical considerations": f"People, consent and harm: {A_PERSON} The model holds no image.",
        "Caveats and recommendations": _listed([*_said(evidence, "beware"), *evidence.caveats]),
    }
    sections = "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items())
    return f"# {winner.title}\n\n{sections}\n"


def _details(
    winner: Candidate, size_px: int, evidence: Evidence, data_hash: str, commit: str
) -> str:
    k = len(evidence.classes)
    return f"""- **Input** `images`: uint8, RGB, (n, {size_px}, {size_px}, 3), prepared as `signature.json` says
- **Output** `probs`: float32, (n, {k}), calibrated on validation images
- **Output** `ood`: float32, (n,), how far an image is from the training images
- **Output** `sketch`: float32, (n, 16), the leading components of its features
- **Classes**: {", ".join(evidence.classes)}
- **Kind**: {winner.title}, head {winner.head.kind}{"" if winner.frozen else "; the whole network was trained"}
- **Defence** in training: {evidence.defense}
- **Made** from data `{data_hash}` with code `{commit}`, seed {evidence.seed}
- **Who made it, licence, and whom to ask**: {A_PERSON}"""


def _use(evidence: Evidence) -> str:
    return f"""To tell {", ".join(evidence.classes)} apart on images like the training images. For any other image
it also returns probabilities of these classes, and `ood` is not always high. Who should use it for
what, and for what not: {A_PERSON}"""


def _factors(evidence: Evidence) -> str:
    facts = evidence.facts
    weaker = [
        f"weaker where {each.name}: {_share(each.accuracy)} of {each.n} right, elsewhere "
        f"{_share(each.elsewhere)}"
        for each in facts.weaker
    ]
    small = (
        [f"too few images to judge: {', '.join(facts.small_slices)}"] if facts.small_slices else []
    )
    place = facts.promises.column if facts.promises else None
    elsewhere = [
        f"each “{place}” was left out of the training in turn: see the analyses"
        if place
        else "a camera, place or style that was not in the training: not measured"
    ]
    return _listed([*weaker, *small, *elsewhere])


def _metrics(evidence: Evidence, thresholds: Thresholds) -> str:
    abstain, ood, sets = thresholds["abstain"], thresholds["ood"], thresholds["sets"]
    guarantee = (
        f"with probability {1 - abstain['delta']:.0%}"
        if abstain["guaranteed"]
        else "on the validation images only"
    )
    classes = " of each class" if sets["by_class"] else ""
    return f"""Figures have {evidence.level:.0%} intervals. The model's own decisions rest on thresholds from validation images:

- **Abstains** below a confidence of {abstain["confidence"]:.3f}: at most {abstain["target_risk"]:.0%} of its answers are wrong, {guarantee};
  it answered {abstain["val_coverage"]:.0%} of the validation images
- **Sets** of classes hold the label of {sets["level"]:.0%} of the images{classes}
- **Strange** above a score of {ood["score"]:.2f}: {1 - ood["quantile"]:.0%} of the validation images are"""


def _analyses(evidence: Evidence) -> str:
    lines = ["| on the test images | value | interval | images |", "|---|---|---|---|"]
    lines += [
        f"| {name.replace('_', ' ')} | {figure.value:.4f} | {_interval(figure)} | {figure.n} |"
        for name, figure in evidence.figures.items()
        if name in ROWS or name.split("/")[0] in ("known", "place", "cross_validation")
    ]
    lines += ["", "| class | recognised | interval | images |", "|---|---|---|---|"]
    lines += [
        f"| {each.name} | {_share(each.recall)} | {_share(each.low)} to {_share(each.high)} | {each.n} |"
        for each in evidence.facts.classes
    ]
    if evidence.robustness:
        lines += ["", "| robustness | left | interval | images |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {figure.value:.4f} | {_interval(figure)} | {figure.n} |"
            for name, figure in evidence.robustness.items()
        ]
    return "\n".join(lines)


def _said(evidence: Evidence, kind: str) -> list[str]:
    return [sentence.words for sentence in evidence.verdict if sentence.kind == kind]


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return "-"
    return f"{figure.low:.4f} to {figure.high:.4f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _listed(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) if lines else "None is known."
