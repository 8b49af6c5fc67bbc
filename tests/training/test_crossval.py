"""Cross-validation of the final settings: groups stay together, chance is chance, and twice is the same."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import SMALL_CNN, UNCHANGED, candidate, draw, samples

from pipeline.config.schema import Bootstrap, CrossValidation, Evaluate
from pipeline.evaluation import crossval as evaluation
from pipeline.evaluation.crossval import Fold
from pipeline.evaluation.measuring import Answers
from pipeline.storage import table
from pipeline.training import crossval
from pipeline.training.refit import Recipe
from pipeline.training.samples import Samples

TWICE = CrossValidation(below=200, folds=4, repeats=2)
RECIPE = Recipe(
    candidate(SMALL_CNN, frozen=True, head={"kind": "svm"}), UNCHANGED, "none", "dev", 0
)


def photos(labels: np.ndarray, shown: np.ndarray | None = None) -> Samples:
    """Pairs of neighbours are one group; shown: the class that the pixels show."""
    seen = labels if shown is None else shown
    found = samples(labels.tolist(), n_classes=3, images=draw(seen.tolist()))
    groups = (np.arange(len(labels)) // 2).astype(np.uint64)
    return Samples(found.arrays, found.place, found.targets, found.labels, None, groups)


def folds_of(images: Samples) -> list[Fold]:
    return crossval.judge(images, np.ones(len(images), bool), RECIPE, TWICE)


@pytest.fixture(scope="module")
def noise() -> Samples:
    """The labels have nothing to do with the pixels; those of a group agree in both."""
    random = np.random.default_rng(0)
    labels, shown = (np.repeat(random.integers(0, 2, 60), 2) for _ in range(2))
    return photos(labels, shown)


def test_labels_of_noise_are_right_by_chance(noise: Samples) -> None:
    figures = evaluation.figures(noise.labels, folds_of(noise), 0.95)
    accuracy = figures["cross_validation/accuracy"]
    assert accuracy.low is not None and accuracy.high is not None
    assert accuracy.low < 0.5 < accuracy.high
    assert accuracy.n == 120


def test_the_same_images_and_seed_give_the_same_figures(
    noise: Samples, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    once = evaluation.figures(noise.labels, folds_of(noise), 0.95)
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "another"))
    assert evaluation.figures(noise.labels, folds_of(noise), 0.95) == once


def test_each_photo_is_judged_once_in_each_repeat_and_no_group_is_on_both_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of a class with fewer groups than folds, and of groups with two labels; views are learned
    from alone.
    """
    labels = np.repeat([0, 1, 2], [40, 36, 4])
    labels[0], labels[41] = 2, 0
    images, views = photos(labels), photos(np.zeros(10, np.int64))
    judged = np.arange(90) < 80
    sides = []

    def answers(train: Samples, val: Samples, held_out: Samples, recipe: Recipe) -> np.ndarray:
        sides.append((train, val, held_out))
        return np.full((len(held_out), 3), 1 / 3)

    monkeypatch.setattr(crossval, "_answers", answers)
    folds = crossval.judge(images + views, judged, RECIPE, TWICE)
    assert evaluation.summary(folds) == evaluation.CrossValidated(n=80, folds=4, repeats=2)
    for repeat in range(2):
        rows = np.concatenate([fold.images for fold in folds if fold.repeat == repeat])
        assert sorted(rows) == list(range(80))
    for parts in sides:
        train, val, held_out = (set(part.groups.tolist()) for part in parts)
        assert not (train & val or train & held_out or val & held_out)
        assert not any((part.place[:, 0] == 1).any() for part in parts[1:])
    assert {fold.repeat for fold in folds} == {0, 1}
    assert not np.array_equal(folds[0].images, folds[4].images), "each repeat deals anew"


def few_test_images(images: Samples, **columns: object) -> Answers:
    rows = pd.DataFrame({"given_split": [""] * len(images)}).assign(**columns)
    everyone = np.arange(len(images))
    probs = np.full((len(images), 3), 1 / 3)
    return Answers(rows, images.labels, probs, ["a", "b", "c"], 1.0, everyone, {}, images)


def asked_for(settings: CrossValidation | None) -> Evaluate:
    bootstrap = Bootstrap(n_resamples=10, level=0.95)
    return Evaluate.model_construct(cross_validation=settings, bootstrap=bootstrap)


@pytest.mark.parametrize(
    ("settings", "recipe", "given", "why"),
    [
        (None, RECIPE, "", None),
        (TWICE.model_copy(update={"below": 12}), RECIPE, "", None),
        (TWICE, RECIPE._replace(best=candidate(SMALL_CNN)), "", "not frozen"),
        (TWICE, RECIPE, "test", "came with a split"),
    ],
)
def test_it_says_why_nothing_was_done_where_the_test_images_are_few(
    settings: CrossValidation | None, recipe: Recipe, given: str, why: str | None
) -> None:
    """Without a word where there are as many as the setting names, or nothing is asked for."""
    test, nowhere = few_test_images(photos(np.arange(12) % 2), given_split=given), Path("nowhere")
    figures, done = crossval.measured(test, recipe, asked_for(settings), nowhere, nowhere)
    assert figures == {}
    assert (done is None) if why is None else (done is not None and why in done.not_measured)


def test_three_photos_of_each_class_are_too_few(tmp_path: Path) -> None:
    assert folds_of(photos(np.repeat([0, 1], 6))) == []


def written(folder: Path, images: Samples, split: str) -> Path:
    folder.mkdir(parents=True)
    names = [f"{folder.name}{i}" for i in range(len(images))]
    columns = {"label": np.array(["a", "b", "c"], object)[images.labels], "split": split}
    rows = pd.DataFrame({"id": names, "name": names, "dup_group": names, **columns})
    empty = dict.fromkeys(("soft_label", "group", "stratum", "given_split"), "")
    sizes = {"width": 16, "height": 16, "format": "PNG", "n_bytes": 1, "weight": 1.0}
    table.write(rows.assign(**empty, **sizes, metadata="{}"), folder)
    np.save(folder / "images.npy", images.arrays[0][images.place[:, 1]])
    return folder


def test_few_test_images_are_joined_by_all_others(tmp_path: Path) -> None:
    """Three colours are told apart, also where those of one view are learned from as well."""
    dev = written(tmp_path / "dev", photos(np.arange(36) % 3), "train")
    written(tmp_path / "augment" / "extra", photos(np.arange(3) % 3), "train")
    test = few_test_images(photos(np.arange(12) % 3))
    figures, done = crossval.measured(test, RECIPE, asked_for(TWICE), dev, tmp_path / "augment")
    assert done == evaluation.CrossValidated(n=48, folds=4, repeats=2)
    accuracy = figures["cross_validation/accuracy"]
    assert accuracy.value > 0.9 and accuracy.low is not None
    assert accuracy.low < accuracy.value, "all right answers show no spread, and still no certainty"
