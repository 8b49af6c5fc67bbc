"""The rules of the verdict, each a function from figures and facts to a sentence.

It is None where the rule has nothing to say.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.evaluation import stability
from pipeline.evaluation.facts import ClassFacts, Facts
from pipeline.evaluation.figures import Figures

SAME_ANSWER = 0.99  # of all images; a model that says one class so often knows nothing
DEAD_BELOW = 0.1  # the upper end of a class's recall; below it the class is as good as unknown
WEAK_CLASS = 0.1  # recall below the mean of the classes by so much is worth a sentence
BY_CHANCE = 0.025  # of a coverage below the promise, for all classes together
NAMED = 3  # classes, slices and figures that a sentence names
UNSTABLE = 0.05  # share of answers that may flip with a change that nobody sees


class Sentence(BaseModel):
    """trust: what holds; beware: what does not; next: what to do; unmeasured: what nobody knows."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["trust", "beware", "next", "unmeasured"]
    words: str


def share(value: float) -> str:
    digits = 0 if 0.1 <= value <= 0.9 or value in (0, 1) else 1
    return f"{100 * value:.{digits}f}\u202f%"


def listed(names: list[str]) -> str:
    named, rest = names[:NAMED], len(names) - NAMED
    if rest > 0:
        return f"{', '.join(named)} and {rest} more"
    return " and ".join([", ".join(named[:-1]), named[-1]]) if len(named) > 1 else named[0]


def _judged(facts: Facts) -> list[ClassFacts]:
    return [each for each in facts.classes if each.n >= facts.min_n]


def accuracy(figures: Figures, facts: Facts) -> Sentence:
    """How good it is, beside what guessing would reach; or that it has learned nothing."""
    figure, guessing = figures["accuracy"], figures["largest_class"].value
    largest = max(facts.classes, key=lambda each: each.n).name
    right = round(figure.value * figure.n)
    low, high = figure.low or 0.0, figure.high or 1.0
    balanced = figures["balanced_accuracy"]
    chance = 1 / max(sum(each.n > 0 for each in facts.classes), 1)
    if low <= guessing and (balanced.low or 0.0) <= chance:
        text = (
            f"The model has learned nothing that shows: {right} of {figure.n} test images are right "
            f"({share(figure.value)}), and always answering “{largest}” would reach "
            f"{share(guessing)}. The labels may be wrong, or not visible in the photos."
        )
        return Sentence(kind="beware", words=text)
    kind: Literal["trust", "beware"] = "trust" if low > guessing else "beware"
    compared = "would reach" if low > guessing else "may do as well, at"
    text = (
        f"On photos like the test images it is right in {share(figure.value)} of cases "
        f"({right} of {figure.n}; the interval is {share(low)} to {share(high)}). Always "
        f"answering “{largest}” {compared} {share(guessing)}."
    )
    return Sentence(kind=kind, words=text)


def constant_answer(figures: Figures, facts: Facts) -> Sentence | None:
    """The same answer to nearly every image."""
    total = sum(each.n_answers for each in facts.classes)
    most = max(facts.classes, key=lambda each: each.n_answers)
    if len(facts.classes) < 2 or most.n_answers < SAME_ANSWER * total:
        return None
    text = f"It gives the same answer to every image: “{most.name}”, {most.n_answers} of {total} times."
    return Sentence(kind="beware", words=text)


def leaked(figures: Figures, facts: Facts) -> Sentence | None:
    """Test images that the model has as good as seen."""
    if not facts.leaked:
        return None
    text = (
        f"{facts.leaked} test images have a near-duplicate among those that the model learned from, "
        f"so every figure here flatters it. Let Fieldmark deal the split, or mend the given one."
    )
    return Sentence(kind="beware", words=text)


def dead_classes(figures: Figures, facts: Facts) -> Sentence | None:
    """Classes that it does not recognise at all."""
    dead = [each for each in _judged(facts) if each.recall == 0 or each.high < DEAD_BELOW]
    if not dead:
        return None
    names = listed([f"“{each.name}” ({each.n_right} of {each.n} recognised)" for each in dead])
    text = f"It does not know {names}: do not rely on it for that."
    return Sentence(kind="beware", words=text)


def border(figures: Figures, facts: Facts) -> Sentence | None:
    """The surroundings of the thing tell the class."""
    alone, whole = figures.get("context/border_alone"), figures.get("context/whole")
    if not alone or not whole:
        return None
    if not stability.suffices(alone, whole, figures["largest_class"].value):
        return None
    text = (
        f"The border of the photos alone gives the class away: with the centre blanked it is still "
        f"right in {share(alone.value)} of {alone.n} images ({share(whole.value)} with the whole "
        f"photo). It may look at the surroundings instead of the thing, and fail where they differ."
    )
    return Sentence(kind="beware", words=text)


def missed(figures: Figures, facts: Facts) -> Sentence | None:
    """The class that is missed most, in counts."""
    judged = [each for each in _judged(facts) if each.recall and each.high >= DEAD_BELOW]
    if len(judged) < 2:
        return None
    worst = min(judged, key=lambda each: each.recall)
    if worst.high > figures["balanced_accuracy"].value and worst.recall > (
        figures["balanced_accuracy"].value - WEAK_CLASS
    ):
        return None
    instead = f", mostly taken for “{worst.confused_with}”" if worst.confused_with else ""
    text = (
        f"{worst.n - worst.n_right} of {worst.n} images of “{worst.name}” are missed{instead}: "
        f"it recognises {share(worst.recall)} of them ({share(worst.low)} to {share(worst.high)})."
    )
    return Sentence(kind="beware", words=text)


def weak_slices(figures: Figures, facts: Facts) -> Sentence | None:
    """Conditions under which it is weaker, beyond chance."""
    if not facts.weaker:
        return None
    parts = [
        f"{each.name} ({share(each.accuracy)} of {each.n} right, elsewhere {share(each.elsewhere)})"
        for each in facts.weaker
    ]
    text = f"It is weaker where {listed(parts)}; chance does not explain that."
    return Sentence(kind="beware", words=text)


def unstable(figures: Figures, facts: Facts) -> Sentence | None:
    """Answers that flip with a shift that nobody sees."""
    flips = {
        name.removeprefix("stability/flips_"): figure
        for name, figure in figures.items()
        if name.startswith("stability/flips_")
    }
    if not flips:
        return None
    name, worst = max(flips.items(), key=lambda each: each[1].value)
    changed = f"{round(worst.value * worst.n)} of {worst.n} answers"
    if worst.value <= UNSTABLE:
        text = f"Small changes rarely matter: at most {changed} change, with {stability.in_words(name)}."
        return Sentence(kind="trust", words=text)
    text = f"Its answers are not stable: {changed} change with {stability.in_words(name)}."
    return Sentence(kind="beware", words=text)


def confidence(figures: Figures, facts: Facts) -> Sentence | None:
    """Whether its probabilities, and the sets made from them, keep their promise."""
    ece, chance = figures["ece"], figures.get("ece_by_chance")
    judged = [each for each in facts.sets if each.n >= facts.min_n]
    short = [each for each in judged if each.chance < BY_CHANCE / len(judged)]
    if short:
        names = listed([f"“{each.name}” ({share(each.coverage)})" for each in short])
        text = (
            f"Its sets of possible classes hold the right one less often than the promised "
            f"{share(facts.set_level)} for {names}."
        )
        return Sentence(kind="beware", words=text)
    if not chance:
        return None
    if ece.value > chance.value:
        text = (
            f"Take its confidence with care: it differs from the share of right answers by "
            f"{100 * ece.value:.1f} points on average, where chance explains at most "
            f"{100 * chance.value:.1f}."
        )
        return Sentence(kind="beware", words=text)
    text = "Its confidence can be taken at its word, as far as so many images can tell."
    return Sentence(kind="trust", words=text)


def labels(figures: Figures, facts: Facts) -> Sentence | None:
    """Labels to review next."""
    if not facts.doubted:
        return None
    if round(facts.doubted_wrong) == 0:
        text = f"Of the {facts.doubted} labels most in doubt less than one is expected to be wrong."
        return Sentence(kind="trust", words=text)
    text = (
        f"Review the {facts.doubted} labels in doubt next: fieldmark review. About "
        f"{facts.doubted_wrong:.0f} of them are expected to be wrong; {facts.doubted_test} are of test "
        f"images, where they count as they are."
    )
    return Sentence(kind="next", words=text)


def more_photos(figures: Figures, facts: Facts) -> Sentence | None:
    """Whether more photos would help, and which classes have too few to be judged."""
    few = [f"“{each.name}” ({each.n})" for each in facts.classes if each.n < facts.min_n]
    parts = [facts.more_photos] if facts.more_photos else []
    if few:
        parts.append(
            f"Too few test images to judge {listed(few)}: at least {facts.min_n} are needed."
        )
    return Sentence(kind="next", words=" ".join(parts)) if parts else None


def unmeasured(figures: Figures, facts: Facts) -> Sentence:
    """What nobody has measured."""
    groups = {
        "robustness/": "attacks and damaged pictures",
        "stability/": "small changes of the picture",
        "context/": "which part of the picture counts",
        "regions/": "where in a picture an answer rests",
        "place/": "a camera, place or style that was not in training",
        "cross_validation/": "the spread over seeds and splits",
    }
    missing = [
        what
        for prefix, what in groups.items()
        if not any(name.startswith(prefix) for name in figures)
    ]
    if facts.place_columns and "place/accuracy" not in figures:
        named = listed(facts.place_columns)
        missing = [
            f"{what} (set evaluate.places: {named}?)" if "place" in what else what
            for what in missing
        ]
    if not facts.more_photos:
        missing.append("whether more photos would help")
    text = (
        f"Not measured: {'; '.join(missing)}."
        if missing
        else "Nothing that is asked for here is unmeasured."
    )
    return Sentence(kind="unmeasured", words=text)
