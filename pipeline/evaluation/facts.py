"""What the verdict goes by beside the figures: classes, weak slices, labels, leaks."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from pipeline.config.schema import Evaluate
from pipeline.evaluation import conformal, places, slices
from pipeline.evaluation.conformal import ALL
from pipeline.evaluation.crossval import CrossValidated
from pipeline.evaluation.measuring import Answers, Tables
from pipeline.evaluation.places import Promises
from pipeline.storage import csvs, table


class Fact(BaseModel):
    """Plain values that cannot be changed."""

    model_config = ConfigDict(frozen=True)


class ClassFacts(Fact):
    """One class on the test images; recall with its interval."""

    name: str
    n: int
    n_right: int
    n_answers: int
    recall: float
    low: float
    high: float
    confused_with: str


class SliceFacts(Fact):
    """A part of the test images on which the model is weaker, for sure."""

    name: str
    n: int
    accuracy: float
    elsewhere: float


class SetFacts(Fact):
    """How often the conformal sets of a class's test images hold it.

    chance: the probability of so low a coverage where the promise holds, by the luck of validation
    and test images together (Vovk 2012: a beta-binomial distribution).
    """

    name: str
    n: int
    coverage: float
    chance: float


class DamageFacts(Fact):
    """Kinds of damage to pictures, the worst first, and the mean accuracy under each; below the floor
    the model counts as broken.
    """

    kinds: list[str]
    accuracies: list[float]
    floor: float


class Facts(Fact):
    """All of them. `min_n`: classes and slices with fewer test images are not judged.

    label_columns: metadata from which the label follows, so that it makes no slice. doubted: labels
    that label-check doubts, in all and among the test images. leaked: test images with a
    near-duplicate that the model learned from. more_photos: whether more photos would help, in a
    sentence of model-search, or "". warnings: why figures of robustness are too good. promises: what
    was promised, and what leaving out places gave. cross_validated: None where the test images are
    enough. place_columns: metadata that may name places. damage: None where it was not measured.
    """

    min_n: int
    classes: list[ClassFacts]
    weaker: list[SliceFacts]
    small_slices: list[str]
    label_columns: list[str]
    sets: list[SetFacts]
    set_level: float
    doubted: int
    doubted_test: int
    doubted_wrong: float
    leaked: int
    more_photos: str = ""
    warnings: list[str] = []
    promises: Promises | None = None
    cross_validated: CrossValidated | None = None
    place_columns: list[str] = []
    damage: DamageFacts | None = None


def of_classes(per_class: pd.DataFrame, predicted: np.ndarray) -> list[ClassFacts]:
    """per_class: as `metrics.per_class` with intervals; predicted: the answers, class indices."""
    answers = np.bincount(predicted, minlength=len(per_class))
    return [
        ClassFacts(
            name=row["class"],
            n=row["n"],
            n_right=round(row["recall"] * row["n"]) if row["n"] else 0,
            n_answers=int(answers[i]),
            recall=row["recall"] if row["n"] else 0.0,
            low=row["recall_low"],
            high=row["recall_high"],
            confused_with=row["most_confused_with"],
        )
        for i, row in enumerate(per_class.to_dict("records"))
    ]


def of_slices(by_slice: pd.DataFrame) -> list[SliceFacts]:
    """Those that survived the correction, the weakest first."""
    return [
        SliceFacts(
            name=row["slice"], n=row["n"], accuracy=row["accuracy"], elsewhere=row["elsewhere"]
        )
        for row in by_slice[by_slice["weaker"]].to_dict("records")
    ]


def of_sets(measured: pd.DataFrame, level: float) -> list[SetFacts]:
    """measured: as `conformal.coverage`; classes with test images."""
    return [
        SetFacts(
            name=row["class"],
            n=row["n"],
            coverage=row["coverage"],
            chance=_chance(row["coverage"], row["n"], row["n_calibration"], level),
        )
        for row in measured.to_dict("records")
        if row["class"] != ALL and row["n"]
    ]


def _chance(coverage: float, n: int, n_calibration: int, level: float) -> float:
    from scipy.stats import betabinom  # which takes a second

    rank = conformal.rank(n_calibration, level)
    if rank > n_calibration:
        return 1.0  # the class is in every set
    return float(betabinom.cdf(round(coverage * n), n, rank, n_calibration + 1 - rank))


def _of_damage(breaking: pd.DataFrame | None, settings: Evaluate) -> DamageFacts | None:
    if breaking is None or not settings.robustness:
        return None
    return DamageFacts(
        kinds=breaking["corruption"].tolist(),
        accuracies=breaking["accuracy"].tolist(),
        floor=settings.robustness.corruptions.floor,
    )


def leaked(label_check: Path) -> int:
    """Test images with a near-duplicate among those that the model was made from."""
    rows = table.read(label_check, ["id", "split"])
    split = dict(zip(rows["id"], rows["split"], strict=True))
    text = {"id": str, "other_id": str}
    pairs = csvs.read(label_check / "near_duplicates.csv", dtype=text, keep_default_na=False)
    both = [(one, other) for one, other in zip(pairs["id"], pairs["other_id"], strict=True)]
    return len(
        {
            mine
            for pair in both
            for mine, its in (pair, pair[::-1])
            if split.get(mine) == "test" and split.get(its) in ("train", "val")
        }
    )


def more_photos(model_search: Path) -> str:
    """What model-search says about more photos, where it measured that."""
    file = model_search / "sufficiency.json"
    if not file.exists():
        return ""
    sentences: list[str] = json.loads(file.read_text(encoding="utf-8"))["sentences"]
    return sentences[0] if sentences else ""


def gather(
    answers: Answers,
    tables: Tables,
    folders: dict[str, Path],
    settings: Evaluate,
    warnings: Sequence[str] = (),
    promises: Promises | None = None,
    cross_validated: CrossValidated | None = None,
    breaking: pd.DataFrame | None = None,
) -> Facts:
    """tables: as `measuring.measured` returns them; folders: label_check and model_search; warnings:
    those of robustness; promises: of training/places; cross_validated: of training/crossval; breaking:
    robustness/natural's, None where nothing was damaged.
    """
    rows = answers.rows
    label_columns = slices.label_columns(rows)
    checked = table.read(folders["label_check"], ["suspect", "chance_wrong"])
    return Facts(
        min_n=settings.min_slice,
        classes=of_classes(tables["per_class"], answers.probs.argmax(axis=1)),
        weaker=of_slices(tables["slices"]),
        small_slices=slices.too_small(slices.columns(rows), min_n=settings.min_slice),
        label_columns=label_columns,
        damage=_of_damage(breaking, settings),
        promises=promises,
        cross_validated=cross_validated,
        place_columns=places.candidates(rows, label_columns),
        sets=of_sets(tables["sets"], settings.conformal.level),
        set_level=settings.conformal.level,
        doubted=int(checked["suspect"].sum()),
        doubted_test=int(rows["suspect"].sum()),
        doubted_wrong=float(checked.loc[checked["suspect"], "chance_wrong"].sum()),
        leaked=leaked(folders["label_check"]),
        more_photos=more_photos(folders["model_search"]),
        warnings=[*warnings],
    )
