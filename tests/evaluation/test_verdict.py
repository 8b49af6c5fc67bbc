"""The verdict names each planted fault in a sentence that a layman understands."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.config.schema import Bootstrap, Conformal, Evaluate
from pipeline.evaluation import (
    alterations,
    conformal,
    crossval_rules,
    facts,
    measuring,
    rules,
    verdict,
)
from pipeline.evaluation.crossval import CrossValidated
from pipeline.evaluation.facts import Facts
from pipeline.evaluation.figures import Figure, Figures

CLASSES = ["cat", "dog", "owl"]
SETTINGS = Evaluate(
    bootstrap=Bootstrap(n_resamples=100, level=0.95),
    conformal=Conformal(level=0.9, by_class=True),
    cross_validation=None,
    worst=0,
    min_slice=20,
    places=None,
    smooth_seconds=0.0,
    altered_images=60,
    regions=None,
    robustness=None,
)
CHANGES = {**alterations.NATURAL, **alterations.PARTS}


def answered(labels: np.ndarray, answers: np.ndarray, sure: float = 0.9) -> np.ndarray:
    """Probabilities that give these answers with so much confidence."""
    k = len(CLASSES)
    return np.full((len(labels), k), (1 - sure) / (k - 1)) + np.eye(k)[answers] * (
        sure - (1 - sure) / (k - 1)
    )


def judged(
    labels: np.ndarray,
    answers: np.ndarray,
    changed: dict[str, np.ndarray] | None = None,
    metadata: list[str] | None = None,
    **known: Any,
) -> tuple[Figures, Facts]:
    """Figures and facts of a model with these answers; changed: other answers to altered images."""
    n = len(labels)
    rows = pd.DataFrame(
        {
            "label": np.array(CLASSES)[labels],
            "soft_label": "",
            "metadata": metadata or ["{}"] * n,
            "suspect": False,
            "width": 64,
            "height": 64,
            "format": "PNG",
        }
    )
    probs, everyone = answered(labels, answers), np.arange(n)
    blind = {"border_alone": answered(labels, np.zeros_like(labels))}
    altered = (
        dict.fromkeys(CHANGES, probs)
        | blind
        | {name: answered(labels, other) for name, other in (changed or {}).items()}
    )
    whole = measuring.Answers(rows, labels, probs, CLASSES, 1.0, everyone, altered)
    sets = conformal.calibrated(labels, probs, level=0.9, by_class=True)
    figures, tables = measuring.measured(whole, sets, SETTINGS, seed=0)
    given = {"doubted": 0, "doubted_test": 0, "doubted_wrong": 0.0, "leaked": 0}
    given |= {"label_columns": [], "small_slices": []}
    return figures, Facts(
        min_n=20,
        classes=facts.of_classes(tables["per_class"], probs.argmax(1)),
        weaker=facts.of_slices(tables["slices"]),
        sets=facts.of_sets(tables["sets"], 0.9),
        set_level=0.9,
        **given | known,
    )


def sound(n: int = 240, wrong: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and answers of which a share is wrong."""
    random = np.random.default_rng(0)
    labels = random.choice(3, n, p=[0.5, 0.3, 0.2])
    answers = np.where(random.random(n) < wrong, (labels + 1) % 3, labels)
    return labels, answers


def words(figures: Figures, known: Facts) -> str:
    return " ".join(each.words for each in verdict.sentences(figures, known)[0])


def test_a_sound_model_is_trusted_beside_what_guessing_would_reach() -> None:
    labels, answers = sound()
    figures, known = judged(labels, answers)
    sentence = rules.accuracy(figures, known)
    right, largest = (labels == answers).sum(), np.bincount(labels).max() / len(labels)
    assert sentence.kind == "trust"
    assert f"{right} of 240" in sentence.words
    assert f"Always answering “cat” would reach {100 * largest:.0f}" in sentence.words
    others = (rules.constant_answer, rules.leaked, rules.dead_classes, rules.border)
    assert [rule(figures, known) for rule in others] == [None] * 4


def test_shuffled_labels_are_named_as_nothing_learned() -> None:
    labels, answers = sound()
    shuffled = np.random.default_rng(1).permutation(labels)
    sentence = rules.accuracy(*judged(shuffled, answers))
    assert sentence.kind == "beware"
    assert "has learned nothing that shows" in sentence.words
    assert "labels may be wrong" in sentence.words


def test_a_constant_answer_is_named() -> None:
    labels, _ = sound()
    said = words(*judged(labels, np.zeros_like(labels)))
    assert "the same answer to every image: “cat”, 240 of 240 times" in said
    assert "has learned nothing that shows" in said


def test_a_dead_class_is_named_with_its_count() -> None:
    labels, answers = sound(wrong=0.0)
    answers[labels == 2] = 1
    said = words(*judged(labels, answers))
    n = int((labels == 2).sum())
    assert f"It does not know “owl” (0 of {n} recognised)" in said


def test_a_border_that_gives_the_class_away_is_named() -> None:
    labels, answers = sound()
    said = words(*judged(labels, answers, {"border_alone": answers}))
    assert "The border of the photos alone gives the class away" in said
    blind = words(*judged(labels, answers, {"border_alone": np.zeros_like(labels)}))
    assert "border of the photos" not in blind


def test_leaked_test_images_are_named() -> None:
    said = words(*judged(*sound(), leaked=17))
    assert "17 test images have a near-duplicate" in said and "flatters" in said


def test_a_masked_defence_is_named() -> None:
    warnings = ["For 56 % of the images the gradient is exactly zero."]
    said = words(*judged(*sound(), warnings=warnings))
    assert "Do not believe its figures of robustness. For 56 % of the images" in said


def test_misses_are_counted_in_words() -> None:
    labels, answers = sound(wrong=0.0)
    answers[np.flatnonzero(labels == 1)[:30]] = 0
    n = int((labels == 1).sum())
    sentence = rules.missed(*judged(labels, answers))
    assert sentence is not None
    assert f"30 of {n} images of “dog” are missed, mostly taken for “cat”" in sentence.words


def test_a_weak_condition_is_named() -> None:
    labels, answers = sound(wrong=0.0)
    night = np.arange(len(labels)) % 4 == 0
    answers[night] = (labels[night] + (np.arange(night.sum()) % 2)) % 3
    metadata = [f'{{"light": "{"night" if dark else "day"}"}}' for dark in night]
    said = words(*judged(labels, answers, metadata=metadata))
    assert "weaker where light = night (50\u202f% of 60 right, elsewhere 100\u202f%)" in said


def test_answers_that_flip_are_named_by_the_worst_change() -> None:
    labels, answers = sound()
    flipped = np.where(np.arange(240) < 60, (answers + 1) % 3, answers)
    said = words(*judged(labels, answers, {"shift_2px": flipped}))
    assert "not stable: 60 of 240 answers change with a shift of two pixels" in said
    assert "Small changes rarely matter" in words(*judged(labels, answers))


def test_a_confidence_beyond_what_chance_explains_is_named() -> None:
    labels, answers = sound(wrong=0.4)
    assert "Take its confidence with care" in words(*judged(labels, answers))
    assert "can be taken at its word" in words(*judged(*sound(wrong=0.1)))


def test_sets_that_break_their_promise_are_named() -> None:
    broken = [facts.SetFacts(name="owl", n=50, coverage=0.7, chance=1e-6)]
    figures, known = judged(*sound())
    sentence = rules.confidence(figures, known.model_copy(update={"sets": broken}))
    assert sentence is not None and "less often than the promised" in sentence.words
    assert "“owl” (70\u202f%)" in sentence.words


def test_labels_to_review_photos_to_take_and_classes_too_small_are_named() -> None:
    labels, answers = sound(80)
    known = {"doubted": 42, "doubted_test": 9, "doubted_wrong": 30.4}
    known |= {"more_photos": "More photos of owls would help."}
    said = words(*judged(labels, answers, **known))
    assert "Review the 42 labels in doubt next" in said and "About 30 of them" in said
    assert "More photos of owls would help." in said
    said = words(*judged(labels, answers, **known | {"doubted_wrong": 0.4}))
    assert "Review" not in said and "42 labels most in doubt less than one" in said
    assert f"Too few test images to judge “owl” ({(labels == 2).sum()})" in said


def test_what_was_not_measured_is_always_said() -> None:
    figures, known = judged(*sound())
    last = verdict.sentences(figures, known)[0][-1]
    assert last.kind == "unmeasured"
    assert "attacks and damaged pictures" in last.words
    assert "small changes" not in last.words


def test_at_most_eight_sentences_are_said_and_none_is_lost() -> None:
    labels, answers = sound(wrong=0.3)
    answers[labels == 2] = 1
    known = {
        "leaked": 3,
        "doubted": 5,
        "warnings": ["Masked."],
        "weaker": [facts.SliceFacts(name="light = night", n=30, accuracy=0.2, elsewhere=0.9)],
    }
    figures, all_facts = judged(labels, answers, {"border_alone": answers})
    said, aside = verdict.sentences(figures, all_facts.model_copy(update=known))
    every = [rule(figures, all_facts.model_copy(update=known)) for rule in verdict.RULES]
    assert len(said) == verdict.MOST
    assert {each.words for each in said + aside} == {each.words for each in every if each}
    assert any("do not rely on it" in each.words for each in said)


@pytest.mark.parametrize(("n", "expected"), [(0, 1.0), (8, 1.0)])
def test_a_class_without_a_threshold_breaks_no_promise(n: int, expected: float) -> None:
    table = pd.DataFrame([{"class": "owl", "n": 30, "coverage": 0.1, "n_calibration": n}])
    assert facts.of_sets(table, 0.9)[0].chance == expected


def crossed(value: float, low: float, high: float) -> tuple[Figures, Facts]:
    """Of a model that is right on 90 % of 240 test images."""
    figures, known = judged(*sound())
    figure = Figure(value=value, n=960, method="m", meaning="m", low=low, high=high)
    done = CrossValidated(n=960, folds=4, repeats=2)
    return (
        figures | {"cross_validation/accuracy": figure},
        known.model_copy(update={"cross_validated": done}),
    )


def test_all_images_judge_beside_few_test_images_and_which_decide_is_said() -> None:
    sentence = crossval_rules.cross_validated(*crossed(0.91, 0.85, 0.95))
    assert sentence is not None and sentence.kind == "trust"
    assert "on all 960 images" in sentence.words
    assert "decides on promotion where the 240 test images cannot show the limit" in sentence.words
    assert sentence.words in words(*crossed(0.91, 0.85, 0.95))
    assert "the spread over seeds and splits" not in words(*crossed(0.91, 0.85, 0.95))


def test_test_images_that_were_luckier_than_most_are_named() -> None:
    sentence = crossval_rules.cross_validated(*crossed(0.7, 0.65, 0.75))
    assert sentence is not None and sentence.kind == "beware"
    assert sentence.words.endswith("The test images were luckier than most.")


def test_why_few_test_images_judge_alone_is_said_and_nothing_where_they_are_enough() -> None:
    figures, known = judged(*sound())
    assert crossval_rules.cross_validated(figures, known) is None
    why = CrossValidated(not_measured="a network that is not frozen would have to be trained anew")
    said = words(figures, known.model_copy(update={"cross_validated": why}))
    assert "cross-validation on all images is not measured: a network that is not frozen" in said
