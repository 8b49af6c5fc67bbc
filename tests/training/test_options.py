"""What conf/fit can turn beside rates and epochs: each option has its effect, and none by default."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from toys import HOG, SMALL_CNN, UNCHANGED, candidate, draw, samples

from pipeline.config.schema import Fit
from pipeline.training import mixing
from pipeline.training.epochs import validation
from pipeline.training.fit import Fitted, fit
from pipeline.training.samples import Samples

EIGHT = [0, 1, 0, 1, 0, 1, 0, 1]
VAL = samples([1, 0, 1, 0], images=draw([1, 0, 1, 0], seed=4))


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path))
    monkeypatch.setenv("FIELDMARK_WORKERS", "0")


def fitted(
    val: Samples | None = None, extractor: dict[str, Any] = SMALL_CNN, **turned: Any
) -> Fitted:
    winner = candidate(extractor, frozen=extractor is HOG, **turned)
    return fit(winner, samples(EIGHT), val, symmetry="none", policy=UNCHANGED, seed=0)


def weights(of: Fitted) -> np.ndarray:
    return np.concatenate([value.numpy().ravel() for value in of.network.state_dict().values()])


@pytest.fixture
def gradients() -> Iterator[list[float]]:
    """Norms of the gradients that steps are taken with."""
    norms: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        every = [p.grad.norm() for group in optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.stack(every).norm()))

    handle = register_optimizer_step_post_hook(note)
    yield norms
    handle.remove()


@pytest.mark.parametrize(
    "turned",
    [{"ema_decay": 0.9}, {"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}],
    ids=["average", "mixup", "cutmix", "either"],
)
@pytest.mark.parametrize("how", [{}, {"class_weights": "balanced"}], ids=["plain", "balanced"])
def test_an_option_trains_another_network_and_the_same_one_again(
    turned: dict[str, Any], how: dict[str, Any]
) -> None:
    first, again = fitted(**turned, **how), fitted(**turned, **how)
    np.testing.assert_array_equal(weights(first), weights(again))
    assert np.isfinite(weights(first)).all()
    assert not np.array_equal(weights(first), weights(fitted(**how)))


@pytest.mark.parametrize("extractor", [SMALL_CNN, HOG], ids=["small", "frozen"])
def test_a_gradient_is_cut_down_to_its_norm(
    extractor: dict[str, Any], gradients: list[float]
) -> None:
    fitted(extractor=extractor)
    free, gradients[:] = max(gradients), []
    fitted(extractor=extractor, gradient_clip=free / 10)
    assert max(gradients) == pytest.approx(free / 10, rel=1e-3)


@pytest.mark.parametrize("extractor", [SMALL_CNN, HOG], ids=["small", "frozen"])
def test_the_averaged_weights_are_validated_and_handed_over(extractor: dict[str, Any]) -> None:
    averaged = fitted(VAL, extractor, ema_decay=0.9, epochs=6)
    assert averaged.val_logits is not None
    known = validation(averaged.val_logits, VAL.labels)
    last = {key: averaged.history[-1][key] for key in known}
    assert last == pytest.approx(known, abs=1e-3)
    assert last != pytest.approx(fitted(VAL, extractor, epochs=6).history[-1], abs=1e-3)


def test_the_average_follows_slowly_and_forgets_the_beginning() -> None:
    net = nn.Linear(1, 1, bias=False)
    average = mixing.average(net, 0.9)
    for value, n in ((0.0, 1), (1.0, 400), (2.0, 1)):
        nn.init.constant_(net.weight, value)
        for _ in range(n):
            average.update_parameters(net)
    assert float(average.module.weight) == pytest.approx(0.9 * 1.0 + 0.1 * 2.0, abs=1e-4)


def test_mixed_images_lie_between_two_and_have_the_labels_of_both() -> None:
    torch.manual_seed(0)
    images = torch.tensor([[0, 0, 0], [200, 200, 200]], dtype=torch.uint8).view(2, 1, 1, 3)
    mix = mixing.mixer(1.0, 0.0)
    assert mix is not None
    mixed, shares = mix(images.expand(2, 4, 4, 3), torch.eye(2))
    torch.testing.assert_close(mixed[0, 0, 0, 0] / 200, shares[0, 1])
    assert 0 < float(shares[0, 1]) < 1
    torch.testing.assert_close(shares.sum(1), torch.ones(2))


def test_a_part_of_another_image_brings_its_share_of_the_label() -> None:
    torch.manual_seed(3)
    images = torch.tensor([[0, 0, 0], [200, 200, 200]], dtype=torch.uint8).view(2, 1, 1, 3)
    mix = mixing.mixer(0.0, 1.0)
    assert mix is not None
    mixed, shares = mix(images.expand(2, 8, 8, 3), torch.eye(2))
    assert set(mixed.unique().tolist()) == {0, 200}
    torch.testing.assert_close((mixed[0] == 200).float().mean(), shares[0, 1])


def settings(**turned: Any) -> Fit:
    return candidate(**turned).fit


def test_images_grow_to_their_whole_size() -> None:
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    sides = [
        mixing.shrunk(images, settings(start_px=8, epochs=6), epoch).shape[1] for epoch in range(6)
    ]
    assert (sides[0], sides[-2:]) == (8, [32, 32])
    assert sides == sorted(sides)


def test_growing_images_train_another_network() -> None:
    plain = fitted(extractor={**SMALL_CNN, "input_px": 32}, epochs=3)
    grown = fitted(extractor={**SMALL_CNN, "input_px": 32}, epochs=3, start_px=8)
    assert not np.array_equal(weights(plain), weights(grown))


@pytest.mark.parametrize("extractor", [SMALL_CNN, HOG], ids=["small", "frozen"])
def test_a_training_ends_when_nothing_gets_better(extractor: dict[str, Any]) -> None:
    wrong = samples([1 - k for k in EIGHT], images=draw(EIGHT))
    patient = fitted(wrong, extractor, epochs=30, patience=3)
    losses = [epoch["val/log_loss"] for epoch in patient.history]
    assert len(losses) == int(np.argmin(losses)) + 1 + 3 < 30
    assert len(fitted(None, extractor, epochs=10, patience=3).history) == 10


def test_the_order_of_weights_in_memory_changes_no_more_than_rounding() -> None:
    plain, other = fitted(), fitted(channels_last=True)
    np.testing.assert_allclose(weights(other), weights(plain), atol=1e-3)
    assert all(value.is_contiguous() for value in other.network.state_dict().values())
