"""The verdict says what an adversary and damaged pictures leave."""

import pytest
from test_verdict import judged, sound

from pipeline.evaluation.facts import DamageFacts, Facts
from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.robust_rules import attacked, damaged


def figure(value: float, low: float, high: float, n: int = 100) -> Figure:
    return Figure(value=value, n=n, method="m", meaning="m", low=low, high=high)


def under_attack(**left: tuple[float, float, float]) -> tuple[Figures, Facts]:
    """left: by radius, r1 for 1 of 255."""
    figures, known = judged(*sound())
    attacks = {
        f"robustness/adversarial_linf{name[1:]}": figure(*given) for name, given in left.items()
    }
    return figures | attacks, known


def with_damage(mean: tuple[float, float, float], **kinds: float) -> tuple[Figures, Facts]:
    figures, known = judged(*sound())
    damage = DamageFacts(kinds=[*kinds], accuracies=[*kinds.values()], floor=0.7)
    figures["robustness/corruption_accuracy"] = figure(*mean, n=24)
    return figures, known.model_copy(update={"damage": damage})


def test_a_model_that_one_step_of_a_pixel_deceives_is_named() -> None:
    sentence = attacked(*under_attack(r1=(0.09, 0.03, 0.24), r8=(0.0, 0.0, 0.1)))
    assert sentence is not None and sentence.kind == "beware"
    assert "a change of 1 of 255" in sentence.words and "9.0\u202f% (3.0" in sentence.words


def test_a_defended_model_is_trusted_up_to_the_largest_radius_that_it_surely_withstands() -> None:
    given = under_attack(r4=(0.98, 0.93, 0.99), r20=(0.9, 0.8, 0.95), r40=(0.5, 0.4, 0.6))
    sentence = attacked(*given)
    assert sentence is not None and sentence.kind == "trust"
    assert "up to 20 of 255" in sentence.words


def test_withstanding_no_more_often_than_the_largest_class_is_no_praise() -> None:
    figures, known = under_attack(r1=(0.6, 0.52, 0.7))
    figures["largest_class"] = figure(0.69, 0.6, 0.8)
    assert attacked(figures, known) is None


@pytest.mark.parametrize("low", [0.03, 0.9])
def test_where_gradients_are_hidden_no_figure_under_attack_is_believed(low: float) -> None:
    figures, known = under_attack(r1=(low + 0.02, low, low + 0.05))
    assert attacked(figures, known.model_copy(update={"warnings": ["Masked."]})) is None


def test_damage_that_defeats_it_is_named_with_the_worst_kinds() -> None:
    kinds = {"zoom_blur": 0.3, "frost": 0.35, "fog": 0.4, "snow": 0.6, "grey": 0.9}
    sentence = damaged(*with_damage((0.58, 0.51, 0.66), **kinds))
    assert sentence is not None and sentence.kind == "beware"
    assert "zoom blur (30\u202f%), frost (35\u202f%), fog (40\u202f%) and 1 more" in sentence.words


def test_damage_that_costs_little_is_said_and_what_chance_may_explain_is_not() -> None:
    fine = damaged(*with_damage((0.85, 0.78, 0.91), fog=0.75))
    assert fine is not None and fine.kind == "trust"
    assert damaged(*with_damage((0.68, 0.6, 0.76), fog=0.5)) is None
    assert damaged(*judged(*sound())) is None
