"""How much answers depend on what should not matter, and on which part of the image.

Axes: n images, k classes.
"""

from collections.abc import Mapping

import pandas as pd

from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.metrics import Labels, Probs
from pipeline.evaluation.proportions import LEVEL, wilson

COLUMNS = ["change", "n", "flips", "flips_low", "flips_high", "accuracy", "low", "high"]
UNCHANGED = "unchanged"
SUFFICES = 0.8  # of what the model knows beyond guessing; a part that keeps as much suffices


def table(labels: Labels, plain: Probs, altered: Mapping[str, Probs]) -> pd.DataFrame:
    """COLUMNS, one row per alteration: the share of answers that flip, and the accuracy that is left.

    plain: probabilities of the images as they are, which the first row is about.
    """
    n, answers = len(labels), plain.argmax(axis=1)
    rows = []
    for name, probs in {UNCHANGED: plain, **altered}.items():
        flips = int((probs.argmax(axis=1) != answers).sum())
        right = int((probs.argmax(axis=1) == labels).sum())
        rows.append([name, n, flips / n, *wilson(flips, n), right / n, *wilson(right, n)])
    return pd.DataFrame(rows, columns=COLUMNS)


def flips(measured: pd.DataFrame) -> Figures:
    """stability/flips_CHANGE: the share of answers that the change turns into another."""
    return {
        f"stability/flips_{row['change']}": Figure(
            value=row["flips"],
            n=row["n"],
            method=f"random images, each class by its share; Wilson interval, {LEVEL:.0%}",
            meaning=f"the share of answers that change with {in_words(row['change'])}",
            low=row["flips_low"],
            high=row["flips_high"],
        )
        for row in measured.to_dict("records")
        if row["change"] != UNCHANGED
    }


def context(measured: pd.DataFrame) -> Figures:
    """context/PART: the accuracy on that part alone, and context/whole on the same images whole."""
    return {
        "context/" + row["change"].replace(UNCHANGED, "whole"): Figure(
            value=row["accuracy"],
            n=row["n"],
            method=f"random images, each class by its share; Wilson interval, {LEVEL:.0%}",
            meaning=f"the accuracy on images with {in_words(row['change'])}",
            low=row["low"],
            high=row["high"],
        )
        for row in measured.to_dict("records")
    }


def suffices(part: Figure, whole: Figure, guessing: float) -> bool:
    """Whether a part of the image is nearly as good as the whole, and better than guessing for sure.

    guessing: the accuracy of always answering the largest class.
    """
    known = whole.value - guessing
    better = part.low is not None and part.low > guessing
    return known > 0 and better and part.value - guessing >= SUFFICES * known


def in_words(change: str) -> str:
    """The name of an alteration for people."""
    words = {
        UNCHANGED: "nothing changed",
        "shift_2px": "a shift of two pixels",
        "scale_5_percent": "a size that differs by 5 %",
        "rotation_3_degrees": "a rotation by 3 degrees",
        "brightness_10_percent": "a brightness that differs by 10 %",
        "jpeg_75": "JPEG at quality 75",
        "border_alone": "only the border (the centre blanked)",
        "centre_alone": "only the centre (the border blanked)",
        "shuffled_patches": "sixteen patches in random order",
    }
    return words[change]
