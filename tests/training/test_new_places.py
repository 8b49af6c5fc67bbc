"""A place never seen: what a planted change of style costs, and what the verdict says of it."""

import numpy as np
import pandas as pd
import pytest
from toys import COLOURS, SMALL_CNN, UNCHANGED, candidate, samples

from pipeline import FieldmarkError
from pipeline.config import load
from pipeline.evaluation import place_rules
from pipeline.evaluation import places as evaluation
from pipeline.evaluation.facts import Facts
from pipeline.evaluation.figures import Figure, Figures
from pipeline.training import places
from pipeline.training.places import Parts
from pipeline.training.refit import Recipe
from pipeline.training.samples import Samples

STYLES = np.array(["studio", "street", "painted", ""])


def part(n: int, seed: int) -> tuple[Samples, np.ndarray]:
    """Red and green squares, and the style of each; painted ones have the colours exchanged."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    style = random.choice(STYLES, n, p=[0.4, 0.4, 0.1, 0.1])
    exchanged = labels ^ (style == "painted")
    pixels = COLOURS[exchanged][:, None, None] + random.integers(-20, 20, (n, 16, 16, 3))
    return samples(labels.tolist(), images=pixels.clip(0, 255).astype(np.uint8)), style


@pytest.fixture(scope="module")
def parts() -> Parts:
    given = [part(n, seed) for seed, n in enumerate((70, 50, 60))]
    return Parts(*(each for each, _ in given), tuple(style for _, style in given))


@pytest.fixture(scope="module")
def held(parts: Parts) -> dict[str, evaluation.Held]:
    best = candidate(SMALL_CNN, frozen=True, head={"kind": "logistic"})
    recipe = Recipe(best, UNCHANGED, "none", "dev", 0)
    found, reasons = places.left_out(parts, recipe, load("export").export, min_n=10)
    assert not reasons
    return {each.place: each for each in found}


def test_a_style_that_was_not_in_the_training_is_judged_far_below_the_others(
    held: dict[str, evaluation.Held],
) -> None:
    accuracy = {place: each.correct.mean() for place, each in held.items()}
    assert set(accuracy) == {"studio", "street", "painted"}
    assert accuracy["painted"] < 0.3 < 0.8 < min(accuracy["studio"], accuracy["street"])


def test_each_image_of_a_place_is_judged_once_whatever_split_it_was_in(
    parts: Parts, held: dict[str, evaluation.Held]
) -> None:
    styles = np.concatenate(parts.places)
    assert {place: len(each.correct) for place, each in held.items()} == {
        name: int((styles == name).sum()) for name in STYLES if name
    }


def test_a_place_that_cannot_be_left_out_is_named_with_the_reason(parts: Parts) -> None:
    nothing = Recipe.__new__(Recipe, None, None, "none", "dev", 0)
    alone = parts._replace(places=tuple(np.full(len(each), "here") for each in parts.places))
    assert places.left_out(alone, nothing, load("export").export, min_n=1) == (
        [],
        ["here: 0 images of classes that can be learned elsewhere, and 1 are needed to judge"],
    )


def test_many_places_are_left_out_several_at_a_time() -> None:
    names = np.repeat([f"patient {i}" for i in range(40)], 3)
    folds = list(places._folds(names))
    assert len(folds) == places.MOST_FOLDS
    assert sorted(name for _, own in folds for name in own) == sorted(set(names))
    assert folds[0][0].endswith("and 1 more")


def rows() -> pd.DataFrame:
    metadata = [f'{{"camera": {i % 2}, "style": "{"ab"[i % 2]}", "kind": "x"}}' for i in range(6)]
    return pd.DataFrame({"metadata": metadata, "group": ["one"] * 6})


def test_columns_that_may_name_a_place_are_found_by_their_name_or_their_few_texts() -> None:
    assert evaluation.candidates(rows(), []) == ["camera", "style"]
    assert evaluation.candidates(rows(), ["style"]) == ["camera"]
    assert evaluation.column(rows(), "camera").tolist() == ["0", "1"] * 3
    assert evaluation.column(rows(), "group").tolist() == ["one"] * 6


def test_a_column_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(FieldmarkError, match=r"'cam', .* it has: camera, style, kind, group"):
        evaluation.column(rows(), "cam")


def verdict(correct: float, answered: float, wrong: float, n: int = 400) -> tuple[Figures, Facts]:
    """At a new place so many are right and answered, and of the answers so many wrong."""
    k = round(n * answered)
    order = np.arange(n)
    right = (order >= round(k * wrong)) & (order < round(k * wrong) + round(n * correct))
    new = evaluation.Held("painted", right, order < k, order < n // 2)
    known = evaluation.Held(evaluation.KNOWN, order >= n // 10, order >= n // 10, order < 4)
    table = evaluation.table(known, [new])
    whole = Figure(value=0.9, n=n, method="m", meaning="m", low=0.87, high=0.93)
    promises = evaluation.summary(table, "style", 0.05, [])
    facts = Facts.model_construct(promises=promises)
    return {"accuracy": whole, **evaluation.figures(table)}, facts


def test_the_verdict_says_what_to_expect_at_a_new_place_and_that_the_promise_breaks() -> None:
    """As tried on pictures of a new style: 0.34 instead of 0.88, and a third of the answers wrong."""
    sentence = place_rules.new_place(*verdict(0.34, 0.17, 1 / 3))
    assert sentence is not None and sentence.kind == "beware"
    assert "expect 34\u202f% right answers instead of 90\u202f%" in sentence.words
    assert "“painted”" in sentence.words and "“style”" in sentence.words
    assert "sure enough of 17\u202f% of such images" in sentence.words
    assert "the promise does not hold there" in sentence.words
    assert "50\u202f% were called strange" in sentence.words


def test_the_verdict_says_that_a_new_place_changes_little_where_it_does_not() -> None:
    sentence = place_rules.new_place(*verdict(0.89, 0.8, 0.02))
    assert sentence is not None and sentence.kind == "trust"
    assert "the promise holds there" in sentence.words


def test_nothing_is_said_where_no_place_was_left_out() -> None:
    figures, _ = verdict(0.34, 0.17, 1 / 3)
    known = {name: each for name, each in figures.items() if not name.startswith("place/")}
    nothing = Facts.model_construct(promises=evaluation.Promises(target_risk=0.05))
    assert place_rules.new_place(known, nothing) is None
    assert place_rules.promises(known, nothing) is None


def test_an_abstention_that_breaks_its_promise_on_the_test_images_is_named() -> None:
    order = np.arange(200)
    broken = evaluation.Held(evaluation.KNOWN, order >= 40, order < 100, order < 2)
    figures = evaluation.figures(evaluation.table(broken, []))
    facts = Facts.model_construct(promises=evaluation.Promises(target_risk=0.05))
    sentence = place_rules.promises(figures, facts)
    assert sentence is not None
    assert "40\u202f% are wrong, where at most 5.0\u202f% were promised" in sentence.words
