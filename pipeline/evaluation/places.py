"""What a model is worth at a place that it has never seen: a camera, a site, a patient, a style.

A place is a value of one column of the metadata. training/places leaves each out in turn; here stands
what is made of the answers. Axes: n images.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict

from pipeline import FieldmarkError
from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.proportions import LEVEL, wilson

# What people call the column; a column with such a word in its name is a likely place.
WORDS = (
    *("camera", "device", "sensor", "scanner", "microscope", "phone", "machine"),
    *(
        "site",
        "place",
        "location",
        "hospital",
        "clinic",
        "plant",
        "farm",
        "field",
        "city",
        "country",
    ),
    *("patient", "subject", "person", "animal", "individual", "donor"),
    *("style", "domain", "source", "batch", "slide", "session", "day", "date", "season"),
)
MOST_KINDS = 20  # a column of text with few values may be a place under any name
GROUP = "group"  # of the table: images that stay in one split
KNOWN, NEW = "known places", "new places"
SHARES = ("accuracy", "answered", "wrong", "strange")
COLUMNS = ["place", "n", *(f"{name}{end}" for name in SHARES for end in ("", "_low", "_high"))]


class Held(NamedTuple):
    """Images of one place, and what became of each; promised by thresholds that never saw it."""

    place: str
    correct: Bool[np.ndarray, " n"]
    answered: Bool[np.ndarray, " n"]
    strange: Bool[np.ndarray, " n"]


class Promises(BaseModel):
    """What was promised; of places that were left out, the column and the worst one.

    left_out: why some places could not be judged.
    """

    model_config = ConfigDict(frozen=True)

    target_risk: float
    column: str | None = None
    n: int = 0
    worst: str = ""
    worst_accuracy: float = 0.0
    left_out: list[str] = []


def column(rows: pd.DataFrame, name: str) -> pd.Series:
    """The place of each image, "" where it is not known.

    Raises FieldmarkError where no image has such metadata, with the columns there are.
    """
    metadata = pd.DataFrame([json.loads(text) for text in rows["metadata"]], index=rows.index)
    if name in metadata:
        return metadata[name].map(str, na_action="ignore").fillna("")
    if name == GROUP:
        return rows["group"].astype(str)
    known = ", ".join([*map(str, metadata.columns), GROUP])
    raise FieldmarkError(
        f"evaluate.places is {name!r}, and the metadata has no such column; it has: {known}"
    )


def candidates(rows: pd.DataFrame, label_columns: Sequence[str]) -> list[str]:
    """Columns of the metadata that may name a place: by their name, or texts of few values.

    label_columns: those from which the label follows, which are none.
    """
    metadata = pd.DataFrame([json.loads(text) for text in rows["metadata"]], index=rows.index)
    found = []
    for name in map(str, metadata.columns):
        kinds = metadata[name].dropna().astype(str).nunique()
        few_texts = 1 < kinds <= MOST_KINDS and any(
            isinstance(value, str) for value in metadata[name]
        )
        called_so = any(word in name.lower().split("_") for word in WORDS) and kinds > 1
        if name not in label_columns and (called_so or few_texts):
            found.append(name)
    return found


def pooled(held: Sequence[Held], name: str) -> Held:
    """The images of several places as those of one."""
    return Held(name, *(np.concatenate(part) for part in list(zip(*held, strict=True))[1:]))


def table(known: Held, held: Sequence[Held]) -> pd.DataFrame:
    """COLUMNS: first the images of known places, then all that were left out, then each place.

    answered: the share of images that the model is sure enough of; wrong: the share of wrong ones
    among those answers; strange: the share called strange. low and high: Wilson, 95 %.
    """
    rows = [known, *([pooled(held, NEW)] if held else []), *held]
    return pd.DataFrame([_row(each) for each in rows], columns=COLUMNS)


def figures(measured: pd.DataFrame) -> Figures:
    """known/NAME: what is promised, held against the test images; place/NAME: at new places."""
    rows = {row["place"]: row for row in measured.to_dict("records")}
    named = {"known": KNOWN, "place": NEW}
    meanings = {
        "accuracy": "the share of images whose likeliest class is their label",
        "answered": "the share of images that the model is sure enough of to answer",
        "wrong": "the share of wrong answers among those that it is sure enough of",
        "strange": "the share of images that are called strange",
    }
    where = {"known": "test images", "place": "images of places that were left out of the training"}
    return {
        f"{prefix}/{name}": Figure(
            value=rows[place][name],
            n=_behind(rows[place], name),
            method=f"{where[prefix]}; Wilson interval, {LEVEL:.0%}",
            meaning=f"{meaning}, on {where[prefix]}",
            low=rows[place][f"{name}_low"],
            high=rows[place][f"{name}_high"],
        )
        for prefix, place in named.items()
        if place in rows
        for name, meaning in meanings.items()
        if _behind(rows[place], name)
    }


def summary(
    measured: pd.DataFrame, column: str, target_risk: float, left_out: list[str]
) -> Promises:
    """Of a table with places that were left out."""
    places = measured[~measured["place"].isin([KNOWN, NEW])]
    worst = places.sort_values("accuracy", kind="stable").iloc[0]
    return Promises(
        column=column,
        n=len(places),
        worst=worst["place"],
        worst_accuracy=float(worst["accuracy"]),
        target_risk=target_risk,
        left_out=left_out,
    )


def _behind(row: Mapping[Hashable, Any], name: str) -> int:
    """How many images a share is of."""
    return round(row["answered"] * row["n"]) if name == "wrong" else int(row["n"])


def _row(held: Held) -> list[str | int | float]:
    counts = [
        (held.correct.sum(), len(held.correct)),
        (held.answered.sum(), len(held.answered)),
        ((held.answered & ~held.correct).sum(), held.answered.sum()),
        (held.strange.sum(), len(held.strange)),
    ]
    ends = [(hit / max(int(n), 1), *wilson(int(hit), int(n))) for hit, n in counts]
    return [held.place, len(held.correct), *(value for three in ends for value in three)]
