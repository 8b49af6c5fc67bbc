"""What attacks leave of the accuracy: curves over the radius, figures, and signs of masking."""

import numpy as np
from torch import nn

from pipeline.config.schema import Attacks
from pipeline.evaluation import proportions
from pipeline.evaluation.figures import Figure
from pipeline.robustness import adversarial, masking, views
from pipeline.robustness.adversarial import Outcome, Target
from pipeline.robustness.attacks import autoattack
from pipeline.robustness.attacks.steps import WHITE
from pipeline.robustness.findings import (
    Findings,
    balanced,
    classes,
    largest_class,
    row,
)
from pipeline.robustness.sample import Labels
from pipeline.storage import memo

CLEAN = "no attack"
NO_GRADIENT = (
    "The model has no gradient at its pixels (hard bins, or rounded input, have none), so only the black-box attack says how robust it is. "
    "A stronger one may find more."
)


def measure(
    network: nn.Module, images: np.ndarray, labels: Labels, settings: Attacks, seed: int
) -> Findings:
    """The ensemble over the radii; beside it the black box alone, and the attack through all views,
    each on the first of the images, which are in random order. Where the network has no gradient,
    the black box alone over the radii.
    """
    target = Target(network, images, labels, seed)
    zero, zero_margin = _zero_gradients(target)
    if zero_margin == 1:
        curve = list(target.curve(settings.radii, [adversarial.black_box(settings)]))
        return _rows(target, curve, []) + Findings(
            figures=_figures(target, curve, []), warnings=[NO_GRADIENT]
        )
    curve = list(target.curve(settings.radii, adversarial.plans(settings)))
    square = _some(target, adversarial.black_box(settings), settings, settings.square_images)
    n_whole = settings.all_views_images if views.n_views(network) > 1 else 0
    whole = _some(target, adversarial.all_views(settings), settings, n_whole)
    warnings = masking.warnings(zero, curve, square[0] if square else None)
    warnings += masking.all_views(curve, whole)
    left = np.flatnonzero(curve[-1].stands)
    if len(left):
        warnings += masking.without_bound(
            target.alone(adversarial.unbounded(settings), WHITE, left).stands, len(images)
        )
    library, notes = _standard(target, settings)
    beside = square + whole + library
    found = _rows(target, curve, beside) + Findings(
        figures=_figures(target, curve, beside),
        warnings=warnings,
        notes=notes,
    )
    return found + _patched(target, settings)


def _zero_gradients(target: Target) -> tuple[float, float]:
    """See masking.zero_gradients; remembered."""
    images, labels = target.images, target.labels
    asked = {"zero gradients of": target.weights, "seed": target.seed}
    key = memo.key(asked, images, labels, code=(masking.__name__,), libraries=("torch",))
    zero, zero_margin = memo.array(
        "robustness",
        key,
        lambda: np.array(masking.zero_gradients(target.network, images, labels, target.seed)),
    ).tolist()
    return zero, zero_margin


def _some(target: Target, plan: adversarial.Plan, settings: Attacks, size: int) -> list[Outcome]:
    rows = np.arange(min(size, len(target.labels)))
    return [target.alone(plan, settings.radius, rows)] if len(rows) else []


def _standard(target: Target, settings: Attacks) -> tuple[list[Outcome], list[str]]:
    """AutoAttack of the library on the first images, or why it was not run."""
    if not settings.auto_attack_images:
        return [], []
    if target.n_classes < autoattack.LEAST_CLASSES:
        return [], [
            f"AutoAttack needs {autoattack.LEAST_CLASSES} classes, and there are {target.n_classes}: "
            "the attacks of the table are an ensemble of our own (PGD with both losses, Auto-PGD and "
            "Square), and no AutoAttack."
        ]
    if not autoattack.installed():
        return [], [
            f"AutoAttack was not run: the library {autoattack.LIBRARY} is not installed. "
            "`uv pip install -e '.[attacks]'` installs it; then `dvc repro --force --single-item "
            "evaluate`."
        ]
    return _some(target, adversarial.standard(), settings, settings.auto_attack_images), []


def _patched(target: Target, settings: Attacks) -> Findings:
    """What a patch on each of the first images leaves; its severity is its share of the pixels."""
    rows = np.arange(min(settings.patch_images, len(target.labels)))
    if not len(rows):
        return Findings()
    outcome = target.alone(adversarial.stuck_on(settings), WHITE, rows)
    plan, labels, area = outcome.plan, target.labels[rows], settings.patch_area
    numbers = row("patch", plan.name, area, outcome.stands, labels, plan.details, outcome.as_file)
    meaning = "accuracy where somebody puts a sticker into the picture, made for that picture"
    left = proportions.figure(outcome.stands, plan.details, meaning)
    return Findings([numbers], figures={"robustness/patch": left})


def _rows(target: Target, curve: list[Outcome], beside: list[Outcome]) -> Findings:
    labels = target.labels
    rows = [row("attack", CLEAN, 0.0, target.clean, labels, "clean images")]
    by_class = classes(CLEAN, 0.0, target.clean, labels)
    for outcome in curve:
        rows.append(_row("attack", outcome, labels))
    for outcome in _last(curve):
        by_class += classes(outcome.plan.name, outcome.radius, outcome.stands, labels)
    for outcome in beside:
        rows.append(_row("attack alone", outcome, labels[: len(outcome.stands)]))
    return Findings(rows, by_class)


def _row(threat: str, outcome: Outcome, labels: Labels) -> dict[str, object]:
    plan = outcome.plan
    details = f"L-infinity, radius {outcome.radius:g} of 255, {plan.details}"
    return row(threat, plan.name, outcome.radius, outcome.stands, labels, details, outcome.as_file)


def _last(curve: list[Outcome]) -> list[Outcome]:
    """The strongest of each radius: what is left after all attacks of the ensemble."""
    return [*{outcome.radius: outcome for outcome in curve}.values()]


def _figures(target: Target, curve: list[Outcome], beside: list[Outcome]) -> dict[str, Figure]:
    """At each radius what the strongest attack leaves, be it measured on fewer images."""
    ensemble = "; ".join({f"{o.plan.name} ({o.plan.details})": None for o in curve})
    figures = {}
    for last in _last(curve):
        strongest, method = last, f"in turn {ensemble}; n = {len(last.stands)}"
        for other in beside:
            if other.radius == last.radius and other.stands.mean() < strongest.stands.mean():
                strongest, method = other, f"{other.plan.name} alone ({other.plan.details})"
        labels = target.labels[: len(strongest.stands)]
        figures[f"robustness/adversarial_linf{last.radius:g}"] = proportions.figure(
            strongest.stands,
            f"L-infinity, radius {last.radius:g} of 255: {method}; balanced "
            f"{balanced(strongest.stands, labels):.3f}, largest class {largest_class(labels):.3f}",
            "accuracy under the strongest attack that was tried; a stronger one may leave less",
        )
    return figures
