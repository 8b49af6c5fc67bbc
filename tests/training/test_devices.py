"""One training in two processes: what it gives in one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import SMALL_CNN, candidate, draw, samples

from pipeline import FieldmarkError
from pipeline.training import augmentation, devices
from pipeline.training.classifier import Epoch
from pipeline.training.fit import Fitted, fit
from pipeline.training.order import SeededOrder

TURNS = augmentation.from_nodes([{"_target_": "albumentations.D4", "p": 1.0}])
# With batch normalisation, dropout, mixed images, class weights and an average of weights.
CNN = candidate(
    SMALL_CNN,
    head={"kind": "mlp", "hidden": 8, "dropout": 0.5},
    mixup=0.2,
    class_weights="balanced",
    ema_decay=0.9,
    patience=9,
    gradient_clip=1.0,
)
LABELS = [0, 1, 1] * 12 + [0]  # 37, which two processes cannot share evenly


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_WORKERS", "0")
    monkeypatch.setenv("FIELDMARK_ACCELERATOR", "cpu")
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))


def trained(**how: Any) -> Fitted:
    val = samples(LABELS[:13], images=draw(LABELS[:13], seed=1))
    return fit(CNN, samples(LABELS), val, symmetry="none", policy=TURNS, seed=0, **how)


@pytest.mark.slow
def test_two_processes_train_the_network_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = trained()
    monkeypatch.setenv("FIELDMARK_DEVICES", "2")
    told: list[Epoch] = []
    both = trained(on_epoch=told.append)
    assert told == both.history
    for one, two in zip(alone.history, both.history, strict=True):
        assert two == pytest.approx(one, abs=2e-4)
    np.testing.assert_allclose(both.val_logits, alone.val_logits, atol=2e-3)


@pytest.mark.slow
def test_who_watches_stops_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_DEVICES", "2")

    def stop(_: Epoch) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        trained(on_epoch=stop)


@pytest.mark.parametrize("n", [37, 997])
def test_two_processes_share_each_image_once(n: int) -> None:
    how: dict[str, Any] = {"batch_size": 8, "seed": 3, "shuffle": True}
    whole = [*SeededOrder(n, **how)]
    parts = [[*SeededOrder(n, **how, rank=rank, world=2)] for rank in range(2)]
    assert [one + two for one, two in zip(*parts, strict=True)] == whole
    assert sorted(i for part in parts for batch in part for i, _ in batch) == list(range(n))


def test_a_batch_that_is_too_small_for_the_devices_says_what_to_do() -> None:
    with pytest.raises(FieldmarkError, match="lower FIELDMARK_DEVICES"):
        SeededOrder(3, 8, 0, shuffle=True, world=4)


@pytest.mark.parametrize("name", ["FIELDMARK_DEVICES", "FIELDMARK_NODES"])
def test_a_number_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "two")
    with pytest.raises(FieldmarkError, match=f"{name} is 'two'"), devices.together(print):
        pass


def test_several_nodes_must_say_where_the_first_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_NODES", "2")
    with pytest.raises(FieldmarkError, match="MASTER_ADDR"), devices.together(print):
        pass
