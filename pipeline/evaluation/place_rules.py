"""Rules of the verdict about promises: on images of known places, and at a place never seen."""

from pipeline.evaluation.facts import Facts
from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.rules import Sentence, share


def new_place(figures: Figures, facts: Facts) -> Sentence | None:
    """What to expect at a place that it has never seen, and how much of the promise holds there."""
    place, accuracy = facts.promises, figures.get("place/accuracy")
    if place is None or accuracy is None:
        return None
    known = figures["accuracy"]
    weaker = (accuracy.high or 1.0) < (known.low or 0.0)
    text = (
        f"At a place that it has not seen, expect {share(accuracy.value)} right answers instead of "
        f"{share(known.value)}: so it was with each “{place.column}” left out of the training in turn, "
        f"and {share(place.worst_accuracy)} at the worst of {place.n}, “{place.worst}”. "
    )
    broken = _broken(figures.get("place/wrong"), place.target_risk)
    text += _promise(figures, place.target_risk, broken)
    return Sentence(kind="beware" if weaker or broken else "trust", words=text)


def promises(figures: Figures, facts: Facts) -> Sentence | None:
    """An abstention that does not keep its promise on the test images."""
    wrong, answered = figures.get("known/wrong"), figures.get("known/answered")
    if wrong is None or answered is None or facts.promises is None:
        return None
    promised = facts.promises.target_risk
    if not _broken(wrong, promised):
        return None
    text = (
        f"Of the answers that it is sure enough of ({share(answered.value)} of the test images), "
        f"{share(wrong.value)} are wrong, where at most {share(promised)} were promised."
    )
    return Sentence(kind="beware", words=text)


def _promise(figures: Figures, target_risk: float, broken: bool) -> str:
    answered, wrong, strange = (
        figures.get(f"place/{name}") for name in ("answered", "wrong", "strange")
    )
    if answered is None or wrong is None:
        return "It was sure enough of no such image to answer."
    kept = "so the promise does not hold there" if broken else "the promise holds there"
    called = f" {share(strange.value)} were called strange." if strange else ""
    return (
        f"It is sure enough of {share(answered.value)} of such images to answer, and "
        f"{share(wrong.value)} of these answers are wrong, where at most {share(target_risk)} are "
        f"promised: {kept}.{called}"
    )


def _broken(wrong: Figure | None, target_risk: float) -> bool:
    """Whether more answers are wrong than promised, and chance does not explain it."""
    return wrong is not None and (wrong.low or 0.0) > target_risk
