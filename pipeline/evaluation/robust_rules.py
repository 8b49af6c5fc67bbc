"""Rules of the verdict about pictures that are damaged, or changed by an adversary."""

from pipeline.evaluation.facts import Facts
from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.rules import Sentence, listed, share

RADIUS = "robustness/adversarial_linf"  # and the largest change of a channel, of 255
USEFUL = 0.5  # what must surely be left under attack before that is called withstanding


def masked_defence(figures: Figures, facts: Facts) -> Sentence | None:
    """A defence that only hides its gradients."""
    if not facts.warnings:
        return None
    text = f"Do not believe its figures of robustness. {facts.warnings[0]}"
    return Sentence(kind="beware", words=text)


def attacked(figures: Figures, facts: Facts) -> Sentence | None:
    """How large a change, made to deceive it, the model withstands."""
    left = sorted(
        (float(name.removeprefix(RADIUS)), figure)
        for name, figure in figures.items()
        if name.startswith(RADIUS)
    )
    if not left or facts.warnings:  # then nothing that was measured can be believed
        return None
    enough = max(USEFUL, figures["largest_class"].value)
    withstood = [(radius, figure) for radius, figure in left if (figure.low or 0.0) > enough]
    if withstood:
        radius, figure = withstood[-1]
        text = (
            f"It withstands changes of up to {radius:g} of 255 that are made to deceive it: "
            f"{_bounded(figure)} of {figure.n} images stay right under the strongest attack that was "
            f"tried."
        )
        return Sentence(kind="trust", words=text)
    radius, figure = left[0]
    if (figure.high or 1.0) >= USEFUL:
        return None
    text = (
        f"Whoever may change pixels can deceive it: after a change of {radius:g} of 255, which nobody "
        f"sees, {_bounded(figure)} of {figure.n} images are still right. Networks can be trained "
        f"against that: see `defense` in params.yaml."
    )
    return Sentence(kind="beware", words=text)


def damaged(figures: Figures, facts: Facts) -> Sentence | None:
    """Whether it still answers rightly where pictures are blurred, noisy, dark or compressed."""
    mean, damage = figures.get("robustness/corruption_accuracy"), facts.damage
    if not mean or not damage:
        return None
    worst = [
        f"{kind.replace('_', ' ')} ({share(accuracy)})"
        for kind, accuracy in zip(damage.kinds, damage.accuracies, strict=True)
        if accuracy < damage.floor
    ]
    if (mean.high or 1.0) < damage.floor and worst:
        text = (
            f"Damaged pictures defeat it: over all kinds of damage that were tried it is right in "
            f"{_bounded(mean)}, and least under {listed(worst)}."
        )
        return Sentence(kind="beware", words=text)
    if (mean.low or 0.0) >= damage.floor and not worst:
        text = f"Damaged pictures cost it little: it is still right in {_bounded(mean)}."
        return Sentence(kind="trust", words=text)
    return None


def _bounded(figure: Figure) -> str:
    return f"{share(figure.value)} ({share(figure.low or 0.0)} to {share(figure.high or 1.0)})"
