"""The rule of the verdict about cross-validation, where the test images are few."""

from pipeline.evaluation.crossval import PREFIX
from pipeline.evaluation.facts import Facts
from pipeline.evaluation.figures import Figures
from pipeline.evaluation.rules import Sentence, share


def cross_validated(figures: Figures, facts: Facts) -> Sentence | None:
    """What all images say of the recipe, and which figure decides; or why that is not known."""
    done, tested = facts.cross_validated, figures["accuracy"]
    if done is None:
        return None
    if done.not_measured:
        text = (
            f"{tested.n} test images show little, and cross-validation on all images is not measured: "
            f"{done.not_measured}."
        )
        return Sentence(kind="unmeasured", words=text)
    accuracy = figures[f"{PREFIX}/accuracy"]
    low, high = accuracy.low or 0.0, accuracy.high or 1.0
    apart = not low <= tested.value <= high
    luck = "luckier" if tested.value > high else "unluckier"
    text = (
        f"By cross-validation on all {accuracy.n} images models of the same settings are right in "
        f"{share(accuracy.value)} of cases ({share(low)} to {share(high)}); this decides on promotion "
        f"where the {tested.n} test images cannot show the limit."
    )
    if apart:
        text += f" The test images were {luck} than most."
    return Sentence(kind="beware" if apart else "trust", words=text)
