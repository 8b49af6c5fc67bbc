"""Each defence makes a network withstand what it says, and says where it cannot."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from toys import HOG, SMALL_CNN, UNCHANGED, candidate, samples

from pipeline.config.schema import Defense
from pipeline.features.weights import Unavailable
from pipeline.robustness.attacks import losses
from pipeline.robustness.attacks.pgd import pgd
from pipeline.training.defenses import collapse, reach
from pipeline.training.defenses.objectives import objective
from pipeline.training.fit import Fitted, fit
from pipeline.training.loss import CrossEntropy
from pipeline.training.network import Network
from pipeline.training.refit import refitted
from pipeline.training.samples import Samples

RADIUS = 16.0
ATTACKED = {"radius": RADIUS, "ramp": 0.3, "steps": 3}
DEFENSES: dict[str, dict[str, Any]] = {
    "none": {},
    "fast": {**ATTACKED, "step": 1.25, "fall": 0.2},
    "adversarial": ATTACKED,
    "trades": {**ATTACKED, "beta": 6.0},
    "distillation": {"temperature": 100.0},
    "noise": {"sigma": 32.0},
}


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_WORKERS", "0")


def defense(kind: str, **turned: Any) -> Defense:
    return Defense(kind=kind, **{**DEFENSES[kind], **turned})  # type: ignore[arg-type]


def images(n: int, seed: int) -> Samples:
    """Faint stripes give the class away, which an attack turns round; so does the brighter half in
    nine images of ten, which it cannot (Tsipras et al., ICLR 2019, section 2.1).
    """
    random = np.random.default_rng(seed)
    labels = [i % 2 for i in range(n)]
    sign = np.array(labels)[:, None, None] * 2 - 1
    stripes = 6 * np.where(np.arange(16) % 2, 1, -1) * sign
    honest = np.where(random.random((n, 1, 1)) < 0.9, 1, -1)
    halves = 40 * np.where(np.arange(16) < 8, 1, -1)[:, None] * sign * honest
    grey = 128 + stripes + halves + random.normal(0, 2, (n, 16, 16))
    pixels = np.repeat(grey[..., None], 3, axis=3).clip(0, 255).round().astype(np.uint8)
    return samples(labels, images=pixels)


def trained(kind: str, **turned: Any) -> Fitted:
    chosen = candidate(SMALL_CNN, epochs=5, batch_size=12, defense=defense(kind, **turned))
    return fit(chosen, images(120, 0), images(20, 1), symmetry="none", policy=UNCHANGED, seed=0)


def standing(network: Network) -> float:
    """The share of other images that stand PGD with the margin."""
    others = images(60, 2)
    pixels = torch.from_numpy(np.stack([*others])).float()
    labels = torch.from_numpy(others.labels)
    generator = torch.Generator().manual_seed(0)
    worst = pgd(
        network, pixels, labels, radius=RADIUS, steps=10, generator=generator, loss=losses.margin
    )
    return float((network(worst).argmax(1) == labels).float().mean())


def test_an_undefended_network_falls() -> None:
    assert standing(trained("none").network) < 0.3


@pytest.mark.parametrize("kind", ["fast", "adversarial", "trades"])
def test_a_network_that_learns_from_attacked_images_withstands_attacks(kind: str) -> None:
    assert standing(trained(kind).network) > 0.7


def test_distillation_leaves_huge_logits_and_no_temperature() -> None:
    """Which hide the gradient; so the answers are those of temperature 1, as the paper has it."""
    plain, distilled = trained("none"), trained("distillation")
    assert plain.val_logits is not None and distilled.val_logits is not None
    assert np.abs(distilled.val_logits).mean() > 3 * np.abs(plain.val_logits).mean()
    best = candidate(SMALL_CNN, epochs=1, defense=defense("distillation"))
    val, how = images(20, 1), {"on": "train", "symmetry": "none", "policy": UNCHANGED, "seed": 0}
    assert refitted(best, images(40, 0), val, distilled.val_logits, **how)[1] == 1.0


class Recorded(nn.Module):
    """Remembers the images that it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = nn.Linear(3, 2), list[Tensor]()

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen.append(pixels.detach())
        answer: Tensor = self.layer(pixels.mean((1, 2)))
        return answer


def step(chosen: Defense, done: float = 1.0, side_px: int = 8, size_px: int = 8) -> Recorded:
    network, grey = Recorded(), torch.full((64, side_px, side_px, 3), 100, dtype=torch.uint8)
    cross_entropy = CrossEntropy(torch.eye(2).repeat(32, 1), None, 0.0)
    loss = objective(chosen, size_px)(network, grey, cross_entropy, done)
    assert loss.isfinite() and network.training
    return network


@pytest.mark.parametrize("kind", ["fast", "adversarial", "trades"])
def test_the_radius_grows_to_its_full_size(kind: str) -> None:
    reached = [
        float((step(defense(kind), done).seen[-1] - 100).abs().max()) for done in (0.0, 0.15, 1.0)
    ]
    assert reached == pytest.approx([0, RADIUS / 2, RADIUS], abs=0.01)


def test_noise_is_that_of_the_full_image_where_training_averages_blocks() -> None:
    """A mean of 4 x 4 pixels has a quarter of the noise of each."""
    of_the_full_image = step(defense("noise"), side_px=32, size_px=32).seen[-1].std()
    of_averages = step(defense("noise"), side_px=32, size_px=128).seen[-1].std()
    assert float(of_the_full_image) == pytest.approx(32, rel=0.02)
    assert float(of_averages) == pytest.approx(8, rel=0.02)


def test_a_collapse_takes_back_the_last_sound_epoch_and_goes_on_with_pgd(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if the second epoch had learned to stand its own attack alone."""
    sound: list[Tensor] = []
    under = {0: (0.6, 0.8), 1: (0.1, 0.95)}

    def accuracies(watch: collapse.Watch, module: Any, epoch: int) -> tuple[float, float]:
        sound.append(module.net.head[2].weight.detach().clone())
        return under.get(epoch, (0.6, 0.6))

    monkeypatch.setattr(collapse.Watch, "accuracies", accuracies)
    taken: list[Tensor] = []
    before = collapse.Watch._go_on_with_pgd

    def go_on(watch: collapse.Watch, module: Any) -> None:
        before(watch, module)
        assert module.objective.args[0].kind == "adversarial"
        taken.append(module.net.head[2].weight.detach().clone())

    monkeypatch.setattr(collapse.Watch, "_go_on_with_pgd", go_on)
    fitted = trained("fast")
    assert "collapsed in epoch 2" in capsys.readouterr().out
    assert len(taken) == 1 and torch.equal(taken[0], sound[0])
    assert [epoch[collapse.WATCHED] for epoch in fitted.history][:3] == [0.6, 0.1, 0.6]


def test_sound_training_is_not_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    history = trained("fast").history
    assert "collapsed" not in capsys.readouterr().out
    assert history[-1][collapse.WATCHED] > 0.4  # of one batch of twelve


def test_the_time_is_said_before_training_begins(capsys: pytest.CaptureFixture[str]) -> None:
    trained("adversarial")
    said = capsys.readouterr().out
    assert said.index("without a defence") < said.index("epoch 1/5")
    assert "adversarial training, radius 16 of 255: some" in said


def test_a_frozen_extractor_is_left_out_instead_of_being_called_defended() -> None:
    frozen = candidate(HOG, frozen=True, head={"kind": "svm"}, defense=defense("noise"))
    with pytest.raises(Unavailable, match="frozen"):
        fit(frozen, images(8, 0), None, symmetry="none", policy=UNCHANGED, seed=0)


class Rounded(Recorded):
    """Whole numbers have no gradient."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels.round())


def test_pixels_without_a_gradient_are_left_out_too() -> None:
    """An attack in training would change nothing, and be called a defence."""
    with pytest.raises(Unavailable, match="no gradient"):
        reach.check_gradient(defense("fast"), Rounded(), 8)
    reach.check_gradient(defense("fast"), Recorded(), 8)
    reach.check_gradient(defense("noise"), Rounded(), 8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "fast"}, "kind fast needs radius"),
        ({"kind": "none", "radius": 4.0}, "kind none has no radius; it has no settings"),
        ({"kind": "noise", "sigma": 4.0, "beta": 1.0}, "kind noise has no beta; it has sigma"),
    ],
)
def test_a_defence_has_the_settings_of_its_kind_alone(settings: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Defense(**settings)


def test_the_title_of_a_candidate_names_its_defence() -> None:
    assert candidate(defense=defense("trades")).title.endswith(", TRADES, radius 16 of 255")
    assert candidate().title == "SmallCNN"
