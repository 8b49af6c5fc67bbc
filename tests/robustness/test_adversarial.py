"""The curve falls, counts what weaker attacks changed, and goes on after a kill; hidden gradients
are exposed, and sound networks are not accused.
"""

from copy import deepcopy

import numpy as np
import pytest
import torch
from gratings import gratings, trained
from torch import Tensor, nn

from pipeline.config.schema import Attacks
from pipeline.robustness import adversarial, curves, masking
from pipeline.robustness.attacks import autoattack
from pipeline.robustness.sample import stratified
from pipeline.robustness.views import n_views, random_view, single
from pipeline.training.network import Network

SETTINGS = Attacks(
    images=36,
    radii=[2.0, 8.0, 16.0],
    steps=6,
    restarts=1,
    auto_steps=6,
    all_views_images=20,
    all_views_steps=6,
    square_images=18,
    square_queries=100,
    radius=16.0,
    auto_attack_images=0,
    patch_images=12,
    patch_area=0.1,
    patch_steps=6,
    patch_places=2,
)
IMAGES, LABELS = gratings(36, 3, seed=2)


class Rounded(nn.Module):
    """Its first layer rounds the pixels: nothing changes in sight, so there is no gradient."""

    def __init__(self, network: nn.Module, step: float) -> None:
        super().__init__()
        self.network, self.step = network, step

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images / self.step).round() * self.step)


class Detached(nn.Module):
    """It works on whole numbers, as hard bins do: torch knows no gradient."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.round().long().float())


def test_accuracy_falls_with_the_radius_and_with_each_further_attack():
    findings = curves.measure(trained(), IMAGES, LABELS, SETTINGS, seed=0)
    table = findings.table()
    ensemble = table[table["threat"] == "attack"]
    assert ensemble["accuracy"].is_monotonic_decreasing
    assert ensemble["accuracy"].iloc[0] > 0.9 and ensemble["accuracy"].iloc[-1] < 0.1
    assert set(ensemble["n"]) == {36}
    assert {"FGSM", "PGD, cross-entropy", "PGD, margin", "Auto-PGD"} <= set(ensemble["method"])
    figure = findings.figures["robustness/adversarial_linf16"]
    assert figure.low <= figure.value <= figure.high
    assert "radius 16 of 255" in figure.method and "6 steps" in figure.method
    assert {row["class"] for row in findings.by_class} == {0, 1, 2}


def test_a_patch_has_its_threat_model_beside_its_figure():
    findings = curves.measure(trained(), IMAGES, LABELS, SETTINGS, seed=0)
    figure = findings.figures["robustness/patch"]
    assert figure.n == 12 and figure.value < 1
    assert "10.0% of the pixels, any colours, the best of 2 random places" in figure.method
    rows = findings.table().set_index("threat")
    assert rows.loc["patch", "accuracy"] == figure.value


def test_a_sound_network_is_not_accused_of_hiding_its_gradients():
    assert curves.measure(trained(), IMAGES, LABELS, SETTINGS, seed=0).warnings == []


def test_a_network_trained_with_noise_is_not_accused_either():
    noisy = trained(noise=20.0)
    assert curves.measure(noisy, IMAGES, LABELS, SETTINGS, seed=0).warnings == []


def test_a_network_trained_on_attacked_images_is_not_accused_and_stands_more():
    plain, defended = (
        curves.measure(trained(radius=radius), IMAGES, LABELS, SETTINGS, seed=0)
        for radius in (0.0, 12.0)
    )
    assert defended.warnings == []
    name = "robustness/adversarial_linf8"
    assert defended.figures[name].value > plain.figures[name].value + 0.2


def test_a_layer_that_rounds_its_input_is_exposed():
    """As a whole it has no gradient: the black box decides, and says so."""
    findings = curves.measure(Rounded(trained(), 8.0), IMAGES, LABELS, SETTINGS, seed=0)
    assert any("no gradient" in warning for warning in findings.warnings)
    table = findings.table()
    assert set(table["method"]) == {"no attack", "Square"}
    assert table["accuracy"].iloc[-1] < 1


def test_logits_as_distillation_leaves_them_are_exposed():
    """At 1e4 times the logits the softmax is 0 and 1, and the cross-entropy has no gradient."""
    findings = curves.measure(trained(scale=1e4), IMAGES, LABELS, SETTINGS, seed=0)
    assert any("is exactly zero" in warning for warning in findings.warnings)
    assert any("with the margin only" in warning for warning in findings.warnings)
    plain = curves.measure(trained(), IMAGES, LABELS, SETTINGS, seed=0)
    assert findings.figures["robustness/adversarial_linf16"].value == pytest.approx(
        plain.figures["robustness/adversarial_linf16"].value, abs=0.1
    )


def test_a_network_that_works_on_whole_numbers_gets_the_black_box_alone():
    findings = curves.measure(Detached(trained()), IMAGES, LABELS, SETTINGS, seed=0)
    assert findings.warnings == [curves.NO_GRADIENT]


def test_a_black_box_that_beats_all_gradients_is_a_warning():
    plan = adversarial.black_box(SETTINGS)
    stood = adversarial.Outcome(
        adversarial.plans(SETTINGS)[-1], 16.0, np.ones(36, bool), LABELS < 9
    )
    fell = adversarial.Outcome(plan, 16.0, np.arange(18) > 9, np.ones(18, bool))
    assert any("black-box" in warning for warning in masking.warnings(0.0, [stood], fell))
    equal = adversarial.Outcome(plan, 16.0, np.arange(18) > 0, np.ones(18, bool))
    assert masking.warnings(0.0, [stood], equal) == []


@pytest.mark.parametrize(("changed", "accused"), [(1, 0), (8, 1)])
def test_an_attack_through_all_views_is_a_warning_where_it_changes_many_answers(changed, accused):
    everywhere = np.ones(24, bool)
    whole = everywhere.copy()
    whole[:changed] = False
    plan = adversarial.all_views(SETTINGS)
    before, after = (
        adversarial.Outcome(plan, 1.0, stands, stands) for stands in (everywhere, whole)
    )
    warnings = masking.all_views([before], [after])
    assert len(warnings) == accused and all("averaging hides" in words for words in warnings)


def test_an_attack_without_a_bound_that_leaves_much_is_a_warning():
    assert "no model can earn" in masking.without_bound(np.ones(12, bool), 60)[0]
    assert masking.without_bound(np.zeros(12, bool), 60) == []


def test_nothing_is_attacked_twice(monkeypatch):
    """A killed run goes on with what the memo lacks."""
    first = curves.measure(trained(), IMAGES, LABELS, SETTINGS, seed=0)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("attacked again")

    monkeypatch.setattr(adversarial.Target, "_attack", never)
    again = curves.measure(trained(), IMAGES, LABELS, SETTINGS, seed=0)
    assert again.table().equals(first.table())
    with pytest.raises(AssertionError, match="attacked again"):
        curves.measure(trained(), IMAGES, LABELS, SETTINGS, seed=1)


def test_an_attack_that_was_killed_goes_on_with_the_images_that_are_left(monkeypatch):
    monkeypatch.setattr(adversarial, "KEPT", 12)
    attack, attacked = adversarial.Target._attack, []

    def killed(self, plan, radius, rows):
        if len(attacked) == 2:
            raise KeyboardInterrupt
        attacked.append(rows)
        return attack(self, plan, radius, rows)

    monkeypatch.setattr(adversarial.Target, "_attack", killed)
    target = adversarial.Target(trained(), IMAGES, LABELS, seed=0)
    plan, rows = adversarial.plans(SETTINGS)[1], np.arange(36)
    with pytest.raises(KeyboardInterrupt):
        target.attacked(plan, 2.0, rows)
    attacked.clear()
    assert len(target.attacked(plan, 2.0, rows)["stands"]) == 36
    assert [part.tolist() for part in attacked] == [[*range(24, 36)]]


def averaged() -> Network:
    body, head = trained()
    return Network(deepcopy(body), nn.Sequential(deepcopy(head)), "flip").eval()


def test_a_view_is_drawn_in_each_call_and_shares_the_weights():
    network, images = averaged(), torch.from_numpy(IMAGES[:4]).float()
    assert n_views(network) == 2 and n_views(single(network)) == 1
    draw = random_view(network, torch.Generator().manual_seed(0))
    answers = torch.stack([draw(images) for _ in range(12)])
    assert len({tuple(answer.flatten().tolist()) for answer in answers}) == 2
    assert network.symmetry == "flip"
    both = torch.stack([single(network)(images), single(network)(images.flip(2))]).mean(0)
    torch.testing.assert_close(network(images), both)


def test_a_network_that_averages_views_is_judged_by_all_of_them():
    network = averaged()
    findings = curves.measure(network, IMAGES, LABELS, SETTINGS, seed=0)
    table = findings.table()
    clean = (network(torch.from_numpy(IMAGES)).argmax(1).numpy() == LABELS).mean()
    assert table["accuracy"].iloc[0] == pytest.approx(clean)
    assert "PGD, margin, all views" in set(table["method"])


def test_below_one_grey_level_nothing_survives_a_file():
    settings = SETTINGS.model_copy(update={"radii": [0.49], "square_images": 0, "patch_images": 0})
    table = curves.measure(trained(), IMAGES, LABELS, settings, seed=0).table()
    assert set(table["as_file"]) == {table["as_file"].iloc[0]}


@pytest.mark.parametrize("size", [7, 30, 1000])
def test_a_sample_has_the_shares_of_the_classes(size):
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    rows = stratified(labels, size, seed=0)
    assert len(set(rows.tolist())) == len(rows) == min(size, 100)
    shares = np.bincount(labels[rows], minlength=3) / len(rows)
    assert np.abs(shares - [0.6, 0.3, 0.1]).max() < 1 / len(rows)
    assert rows.tolist() != sorted(rows.tolist())
    assert rows.tolist() != stratified(labels, size, seed=1).tolist()


@pytest.mark.parametrize(
    ("n_classes", "version", "words"),
    [(3, "0.2.0", "needs 4 classes, and there are 3"), (4, "", "uv pip install -e '.[attacks]'")],
)
def test_where_autoattack_cannot_be_had_that_is_said(n_classes, version, words, monkeypatch):
    monkeypatch.setattr(autoattack, "installed", lambda: version)
    settings = SETTINGS.model_copy(
        update={"auto_attack_images": 4, "radii": [16.0], "patch_images": 0, "square_images": 0}
    )
    images, labels = gratings(12, n_classes, seed=2)
    findings = curves.measure(trained(n_classes), images, labels, settings, seed=0)
    assert words in findings.notes[0] and findings.warnings == []
    assert "AutoAttack" not in set(findings.table()["method"])
