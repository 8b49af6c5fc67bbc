"""Attacks reach the worst point where that is known, stay in the ball, and agree with a second
implementation.
"""

from functools import partial

import pytest
import torch
from gratings import tensors, trained
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.robustness.attacks import losses
from pipeline.robustness.attacks.apgd import apgd, checkpoints
from pipeline.robustness.attacks.autoattack import Unit, autoattack
from pipeline.robustness.attacks.fgsm import fgsm
from pipeline.robustness.attacks.patch import patch
from pipeline.robustness.attacks.pgd import pgd
from pipeline.robustness.attacks.square import square
from pipeline.robustness.attacks.steps import anywhere

RADIUS = 6.0


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


ATTACKS = {
    "fgsm": fgsm,
    "pgd": lambda *a, **k: pgd(*a, steps=10, generator=seeded(), **k),
    "pgd, margin": lambda *a, **k: pgd(*a, steps=10, generator=seeded(), loss=losses.margin, **k),
    "apgd": lambda *a, **k: apgd(*a, steps=20, generator=seeded(), **k),
    "square": lambda *a, **k: square(*a, queries=200, generator=seeded(), **k),
}
along_gradients = pytest.mark.parametrize("name", ["fgsm", "pgd", "pgd, margin", "apgd"])
all_attacks = pytest.mark.parametrize("name", ATTACKS)


class Linear(nn.Module):
    """Its worst point in a ball is known: every pixel goes against its weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4 * 4 * 3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1) / 255)


@along_gradients
def test_on_a_linear_model_the_worst_point_of_the_ball_is_reached(name):
    model, images = Linear(), torch.randint(50, 200, (8, 4, 4, 3)).float()
    labels = torch.tensor([0, 1] * 4)
    weight = (model.layer.weight[1] - model.layer.weight[0]).view(4, 4, 3).detach()
    worst = images + RADIUS * (1 - 2 * labels)[:, None, None, None] * weight.sign()
    attacked = ATTACKS[name](model, images, labels, radius=RADIUS)
    torch.testing.assert_close(attacked, worst)


@all_attacks
def test_attacked_images_stay_in_the_ball_and_on_the_scale_of_pixels(name):
    images, labels = tensors(8, 3, seed=2)
    images = images * 3 - 250  # many pixels at the ends of the scale
    images = images.clamp(0, 255)
    attacked = ATTACKS[name](trained(), images, labels, radius=RADIUS)
    assert (attacked - images).abs().max() <= RADIUS + 1e-4
    assert attacked.min() >= 0 and attacked.max() <= 255


@all_attacks
def test_an_attack_changes_more_answers_than_noise_of_the_same_radius(name):
    images, labels = tensors(60, 3, seed=2)
    radius = 16.0
    wrong = {
        "clean": images,
        "noise": anywhere(images, radius, seeded()),
        "attacked": ATTACKS[name](trained(), images, labels, radius=radius),
    }
    n = {key: int((trained()(x).argmax(1) != labels).sum()) for key, x in wrong.items()}
    assert n["clean"] <= 2 and n["noise"] <= 3
    assert n["attacked"] >= 20


def test_pgd_gives_what_a_few_plain_lines_of_torch_give():
    images, labels = tensors(16, 3, seed=2)
    steps = 7
    unit = images / 255  # the reference works on the scale 0 to 1, as most papers do
    point = anywhere(images, RADIUS, seeded()) / 255
    for _ in range(steps):
        point = point.detach().requires_grad_()
        F.cross_entropy(trained()(point * 255), labels).backward()
        point = point + 2.5 * RADIUS / 255 / steps * point.grad.sign()
        point = torch.min(torch.max(point, unit - RADIUS / 255), unit + RADIUS / 255).clamp(0, 1)
    ours = pgd(trained(), images, labels, radius=RADIUS, steps=steps, generator=seeded())
    same = ((ours / 255 - point).abs() < 1e-4).float().mean()
    assert same > 0.99  # a sign may turn where a gradient is nearly 0


def test_fgsm_from_a_random_start_makes_a_step_of_its_own_length():
    images, labels = tensors(8, 3, seed=2)
    start = anywhere(images, RADIUS, seeded())
    short = fgsm(trained(), images, labels, radius=RADIUS, step=1.0, start=start)
    assert (short - start).abs().max() <= 1 + 1e-4
    assert (short - images).abs().max() <= RADIUS + 1e-4


def test_apgd_ends_at_a_higher_loss_than_pgd_of_as_many_steps():
    images, labels = tensors(60, 3, seed=2)
    loss = partial(F.cross_entropy, target=labels)
    with torch.no_grad():
        one, other = (
            loss(trained()(attack(trained(), images, labels, **given)))
            for attack, given in (
                (apgd, {"radius": RADIUS, "steps": 20, "generator": seeded()}),
                (pgd, {"radius": RADIUS, "steps": 20, "generator": seeded()}),
            )
        )
    assert one >= other * 0.999


def test_apgd_looks_at_its_progress_as_often_as_its_paper_says():
    """Of 100 steps: after 22, 41, 57, 70, 80, 87, 93, 99 (Croce and Hein 2020, section 3.2)."""
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_the_margin_is_positive_where_the_answer_is_wrong():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    assert losses.margin(logits, torch.tensor([0, 2])).tolist() == [-1.0, 4.0]


def test_the_square_attack_asks_no_more_than_it_may_and_needs_no_gradient():
    questions = []

    def model(images: Tensor) -> Tensor:
        questions.append(len(images))
        return trained()(images.round())

    images, labels = tensors(6, 3, seed=2)
    square(model, images, labels, radius=1.0, queries=20, generator=seeded())
    assert len(questions) <= 20 and max(questions) <= 6


@all_attacks
def test_the_same_seed_gives_the_same_attack(name):
    images, labels = tensors(4, 3, seed=2)
    once, again = (ATTACKS[name](trained(), images, labels, radius=RADIUS) for _ in range(2))
    assert torch.equal(once, again)


def test_gradients_of_the_weights_are_left_alone():
    images, labels = tensors(4, 3, seed=2)
    network = trained()
    network.zero_grad(set_to_none=True)  # its training may have left some
    pgd(network, images, labels, radius=RADIUS, steps=2, generator=seeded())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_patch_changes_one_square_of_the_stated_area_and_nothing_outside():
    images, labels = tensors(12, 3, seed=3)
    attacked = patch(trained(), images, labels, area=0.1, steps=6, places=2, generator=seeded())
    changed = (attacked != images).any(3)
    rows, columns = changed.any(2).sum(1), changed.any(1).sum(1)
    assert int(rows.max()) <= 5 and int(columns.max()) <= 5  # 0.1 of 16 x 16 is 5 x 5
    assert float(attacked.min()) >= 0 and float(attacked.max()) <= 255


def test_a_patch_by_gradient_beats_one_of_random_colours_and_more_places_help():
    images, labels = tensors(60, 3, seed=3)
    network = trained()
    left = [
        float((network(attacked).argmax(1) == labels).float().mean())
        for steps, places in ((1, 1), (10, 1), (10, 4))
        for attacked in [
            patch(network, images, labels, area=0.1, steps=steps, places=places, generator=seeded())
        ]
    ]
    assert left[0] > left[1] >= left[2]


@pytest.mark.slow
def test_the_librarys_autoattack_leaves_no_more_than_ours_and_stays_in_the_ball():
    pytest.importorskip("pyautoattack")
    images, labels = tensors(8, 4, seed=3)
    network, before = trained(4), torch.get_rng_state()
    attacked = autoattack(network, images, labels, radius=16.0, generator=seeded())
    ours = ATTACKS["pgd, margin"](network, images, labels, radius=16.0)
    left = [int((network(some).argmax(1) == labels).sum()) for some in (attacked, ours)]
    assert left[0] <= left[1]
    assert float((attacked - images).abs().max()) <= 16.0 + 1e-4
    assert torch.equal(torch.get_rng_state(), before)


def test_the_library_gets_gradients_in_the_order_that_it_reads_them_in():
    """Its attack FAB failed where an image withstood all before it."""
    images, labels = tensors(4, 4, seed=3)
    pixels = (images.permute(0, 3, 1, 2) / 255).contiguous().requires_grad_(True)
    F.cross_entropy(Unit(trained(4))(pixels), labels).backward()
    assert pixels.grad.is_contiguous() and pixels.grad.any()
