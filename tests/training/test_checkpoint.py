import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import SMALL_CNN, candidate, samples

from pipeline.training import augmentation
from pipeline.training.epochs import Epoch
from pipeline.training.fit import Fitted, fit

FAST = {"kind": "fast", "radius": 8.0, "ramp": 0.3, "steps": 2, "step": 1.25, "fall": 0.01}
EIGHT = [0, 1, 0, 1, 0, 1, 0, 1]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "average": {"ema_decay": 0.9, "mixup": 0.4, "min_steps": 10},
    "patient": {"patience": 3, "class_weights": "balanced"},
    "fast": {"defense": FAST},
}
KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from training.test_checkpoint import fitted
fitted("plain", lambda epoch: os._exit(9) if epoch["epoch"] == 2 else None)
"""


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path))
    monkeypatch.setenv("FIELDMARK_WORKERS", "0")


def fitted(options: str, on_epoch: Any = None) -> Fitted:
    """With everything that draws random numbers: dropout, seeds of images, an order."""
    head = {"kind": "linear", "dropout": 0.5}
    winner = candidate(SMALL_CNN, head=head, epochs=5, batch_size=4, **OPTIONS[options])
    turns = augmentation.from_nodes([{"_target_": "albumentations.D4", "p": 1.0}])
    return fit(
        winner,
        samples(EIGHT),
        samples([1, 0, 1]),
        symmetry="none",
        policy=turns,
        seed=0,
        on_epoch=on_epoch,
    )


def equal(one: Fitted, other: Fitted) -> bool:
    a, b = one.network.state_dict(), other.network.state_dict()
    return one.history == other.history and all(
        np.array_equal(a[key].numpy(), b[key].numpy()) for key in a
    )


def kill_in_the_third(epoch: Epoch) -> None:
    if epoch["epoch"] == 2:
        raise Killed


def checkpoints(folder: Path) -> list[Path]:
    return [*(folder / "checkpoints").glob("*")]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_training_that_was_cut_off_ends_where_an_undisturbed_one_ends(
    options: str, tmp_path: Path
) -> None:
    undisturbed = fitted(options)
    with pytest.raises(Killed):
        fitted(options, kill_in_the_third)
    assert len(checkpoints(tmp_path)) == 1
    heard: list[Epoch] = []
    assert equal(fitted(options, heard.append), undisturbed)
    assert heard == undisturbed.history, "whoever watches hears the earlier epochs, too"
    assert not checkpoints(tmp_path)


def test_what_was_done_is_not_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.training.classifier import Classifier

    with pytest.raises(Killed):
        fitted("plain", kill_in_the_third)
    steps: list[int] = []
    step = Classifier.training_step

    def counted(self: Any, batch: Any, i: int) -> Any:
        steps.append(i)
        return step(self, batch, i)

    monkeypatch.setattr(Classifier, "training_step", counted)
    fitted("plain")
    assert len(steps) == 6, "two steps in each of the last three epochs"


def test_another_training_does_not_go_on_from_there() -> None:
    undisturbed = fitted("patient")
    with pytest.raises(Killed):
        fitted("plain", kill_in_the_third)
    assert equal(fitted("patient"), undisturbed)


def test_a_damaged_checkpoint_is_begun_anew(tmp_path: Path) -> None:
    undisturbed = fitted("plain")
    with pytest.raises(Killed):
        fitted("plain", kill_in_the_third)
    os.truncate(checkpoints(tmp_path)[0], 1000)
    assert equal(fitted("plain"), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1"])
def test_a_killed_process_is_gone_on_with_by_another(
    workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, tests = fitted("plain"), str(Path(__file__).parents[1])
    monkeypatch.setenv("FIELDMARK_WORKERS", workers)
    run = subprocess.run([sys.executable, "-c", KILLED, tests], check=False)
    assert run.returncode == 9
    assert len(checkpoints(tmp_path)) == 1
    assert equal(fitted("plain"), undisturbed)
