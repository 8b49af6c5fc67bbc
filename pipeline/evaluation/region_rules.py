"""A rule of the verdict about where answers rest: whether its maps can be read, and what they show."""

from pipeline.evaluation.facts import Facts
from pipeline.evaluation.figures import Figures
from pipeline.evaluation.rules import Sentence, share

SAME = 0.5  # rank correlation of maps with those of shuffled weights; above it they show the photo alone
CHANCE = 0.5  # of places where blurring costs less than in the box, if the box is any place
WITHIN = 0.8  # share of right answers that rest on the thing, where a model looks at it


def failed(figures: Figures) -> list[str]:
    """Why maps of where it looked cannot be believed; empty where both checks pass, or none was made."""
    shuffled, deletion = figures.get("regions/shuffled"), figures.get("regions/deletion")
    reasons = []
    if shuffled and (shuffled.low or 0.0) > SAME:
        reasons.append(
            f"they hardly change when the network's weights are shuffled (rank correlation "
            f"{shuffled.value:.2f} over {shuffled.n} photos)"
        )
    if deletion and (deletion.low or 0.0) <= CHANCE:
        reasons.append(
            f"it is not shown that blurring what they name costs the answer more than blurring as "
            f"much elsewhere (it cost more than at {share(deletion.value)} of the places tried in "
            f"{deletion.n} photos, {share(deletion.low or 0.0)} to {share(deletion.high or 1.0)})"
        )
    return reasons


def where_it_looked(figures: Figures, facts: Facts) -> Sentence | None:
    """Maps that say nothing, or answers that rest on something else than the thing."""
    inside, chance = figures.get("regions/in_box"), figures.get("regions/in_box_by_chance")
    if reasons := failed(figures):
        text = f"Do not read its maps of where it looked: {'; and '.join(reasons)}."
        return Sentence(kind="beware", words=text)
    if inside is None or chance is None or (inside.high or 1.0) >= WITHIN:
        return None
    text = (
        f"It often looks beside the thing: in {round(inside.value * inside.n)} of {inside.n} right "
        f"answers the strongest part meets the box of the thing ({share(inside.low or 0.0)} to "
        f"{share(inside.high or 1.0)}; a part at random {share(chance.value)})."
    )
    return Sentence(kind="beware", words=text)
