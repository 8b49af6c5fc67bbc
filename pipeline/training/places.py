"""Leave one place out: train with the final settings on all others, and look at the images of that one.

Each network is made as tune makes the one that goes on, and its thresholds as export makes them, from
images of the other places alone. Beside them stands the deployed network on the test images. What a
network answers is kept by the memo.

Axes: n images, k classes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64
from sklearn.model_selection import GroupKFold

from pipeline import FieldmarkError
from pipeline.config.schema import Evaluate, Export
from pipeline.evaluation import abstention, places
from pipeline.evaluation.measuring import Answers
from pipeline.evaluation.places import Held, Promises
from pipeline.storage import csvs, memo, table
from pipeline.training import network, refit, samples, strangeness
from pipeline.training.network import Network
from pipeline.training.refit import Recipe
from pipeline.training.samples import Samples

MOST_FOLDS = 10  # more places are left out several at a time
NAMED = 3
PROMISES = {"target_risk", "risk_delta", "ood_quantile", "ood_components"}


class Parts(NamedTuple):
    """Training, validation and test images, and the place of each ("": not known)."""

    train: Samples
    val: Samples
    test: Samples
    places: tuple[np.ndarray, ...]


def left_out(
    parts: Parts, recipe: Recipe, export: Export, min_n: int
) -> tuple[list[Held], list[str]]:
    """Each fold of places that were left out, and why some could not be."""
    held, reasons = [], []
    for name, own in _folds(np.concatenate(parts.places)):
        train, val = (
            each.take(np.flatnonzero(~np.isin(place, own)))
            for each, place in zip((parts.train, parts.val), parts.places, strict=False)
        )
        images = _images(parts, own, train)
        if why := _impossible(train, val, images, min_n):
            reasons.append(f"{name}: {why}")
        else:
            held.append(_judged(train, val, images, recipe, export, name))
    return held, reasons


def _images(parts: Parts, own: list[str], train: Samples) -> Samples:
    """All images of these places, of classes that can be learned elsewhere."""
    every = parts.train + parts.val + parts.test
    there = np.isin(np.concatenate(parts.places), own) & np.isin(every.labels, train.labels)
    return every.take(np.flatnonzero(there))


def _folds(place: np.ndarray) -> Iterator[tuple[str, list[str]]]:
    """Name and places of each fold."""
    names = np.unique(place[place != ""])
    if len(names) <= MOST_FOLDS:
        yield from ((str(name), [str(name)]) for name in names)
        return
    known = place[place != ""]
    for _, own in GroupKFold(MOST_FOLDS).split(known, groups=known):
        some = [str(name) for name in np.unique(known[own])]
        rest = f" and {len(some) - NAMED} more" if len(some) > NAMED else ""
        yield ", ".join(some[:NAMED]) + rest, some


def _impossible(train: Samples, val: Samples, images: Samples, min_n: int) -> str:
    if len(images) < max(min_n, 1):
        return (
            f"{len(images)} images of classes that can be learned elsewhere, and {min_n} are needed "
            f"to judge"
        )
    if len(np.unique(train.labels)) < 2:
        return "without it there are no two classes to learn"
    return "" if len(val) else "without it there is no validation image"


def _judged(
    train: Samples, val: Samples, images: Samples, recipe: Recipe, export: Export, name: str
) -> Held:
    asked = {**recipe.asked(), "export": export.model_dump(include=PROMISES)}
    content = [*train.content(), *val.content(), images.keys(), images.labels]
    key = memo.key(asked, *content, code=[__name__], libraries=["torch", "scikit-learn"])
    found = memo.once("places", key, lambda: _refitted(train, val, images, recipe, export))
    return Held(name, found["correct"], found["answered"], found["strange"])


def _refitted(
    train: Samples, val: Samples, images: Samples, recipe: Recipe, export: Export
) -> memo.Arrays:
    final, seen = refit.anew(recipe, train, val)
    probs = network.probabilities(final, images)
    judged = promised(final, train, val, seen, images, probs, export, recipe.seed)
    return {"correct": judged.correct, "answered": judged.answered, "strange": judged.strange}


def promised(
    trained: Network,
    train: Samples,
    val: Samples,
    seen: Float64[np.ndarray, "v k"],
    images: Samples,
    probs: Float64[np.ndarray, "n k"],
    export: Export,
    seed: int,
) -> Held:
    """What became of the images by thresholds from the validation images.

    seen: the probabilities of those, by a network that had not learned from them; probs: of the
    images.
    """
    sure = abstention.abstention(
        seen.max(axis=1),
        seen.argmax(axis=1) == val.labels,
        target_risk=export.target_risk,
        delta=export.risk_delta,
    ).confidence
    density = strangeness.density_of(export, trained, train, seed, sketch=1)
    normal, scores = (strangeness.strange(trained, density, each)[0] for each in (val, images))
    return Held(
        places.KNOWN,
        probs.argmax(axis=1) == images.labels,
        probs.max(axis=1) >= sure,
        scores > np.quantile(normal, export.ood_quantile),
    )


def of_rows(rows: tuple[pd.DataFrame, ...], column: str) -> tuple[np.ndarray, ...]:
    """The place of each image of each table."""
    whole = places.column(pd.concat(rows, ignore_index=True), column).to_numpy(str)
    ends = np.cumsum([len(each) for each in rows])[:-1]
    return tuple(np.split(whole, ends))


def measured(
    trained: Network,
    test: Answers,
    recipe: Recipe,
    export: Export,
    settings: Evaluate,
    *,
    preprocess_dev: Path,
    augment: Path,
    tune: Path,
) -> tuple[pd.DataFrame, Promises]:
    """The table of evaluation/places, and its summary for the verdict."""
    _, train, val = samples.train_and_val(preprocess_dev, augment)
    seen = _recorded(tune, test.classes)
    assert isinstance(test.images, Samples)
    given = (test.images, test.probs, export, recipe.seed)
    known = promised(trained, train, val, seen, *given)
    if settings.places is None:
        return places.table(known, []), Promises(target_risk=export.target_risk)
    dev = table.read(preprocess_dev, ["split", "group", "metadata"])
    extra = table.read(augment / "extra", ["group", "metadata"])
    learned = pd.concat([dev[dev["split"] == "train"], extra])
    named = of_rows((learned, dev[dev["split"] == "val"], test.rows), settings.places)
    held, reasons = left_out(
        Parts(train, val, test.images, named), recipe, export, settings.min_slice
    )
    if not held:
        raise FieldmarkError(
            f"evaluate.places is {settings.places!r}, and no place can be left out "
            f"({'; '.join(reasons)}): name another column, or null"
        )
    measures = places.table(known, held)
    risk = export.target_risk
    return measures, places.summary(measures, settings.places, risk, reasons)


def _recorded(tune: Path, classes: list[str]) -> Float64[np.ndarray, "n k"]:
    """The probabilities of the validation images, by a network that had not learned from them."""
    text = {"id": str, "label": str}
    rows = csvs.read(tune / "validation.csv", dtype=text, keep_default_na=False)
    return rows[[f"p_{name}" for name in classes]].to_numpy(np.float64)
