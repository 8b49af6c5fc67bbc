"""One trial: a candidate trained within a budget and judged on the validation images.

It is a function of its arguments alone and knows no tracking server, so it can be sent to another
process or machine; whoever drives it logs what comes back.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64

from pipeline.config.schema import Candidate
from pipeline.features import engine
from pipeline.training import classifier
from pipeline.training.augmentation import Policy
from pipeline.training.classifier import Diverged, Epoch
from pipeline.training.fit import Fitted, fit
from pipeline.training.samples import Samples

# Of an epoch's numbers: why the trial should end here, "" where it should go on.
Report = Callable[[Epoch], str]


@dataclass(frozen=True)
class Data:
    """What a trial learns from, and the images that it is judged by; small where it is pickled."""

    train: Samples
    val: Samples
    symmetry: str
    policy: Policy


@dataclass(frozen=True)
class Budget:
    """What a trial may use: the share of the training images of every class, and the images whose
    latency is measured, one after the other (0: it is not).
    """

    fraction: float = 1.0
    latency_runs: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a trial. end: it went through all epochs, was stopped by a report, or diverged;
    why says the reason of the last two, which have no logits. Two outcomes are equal also where
    their costs differ, which are measured: seconds to train, milliseconds for an image (NaN: not
    measured), megabytes of the network.
    """

    end: Literal["complete", "stopped", "diverged"]
    why: str
    history: list[Epoch]
    val_logits: Float32[np.ndarray, "n k"] | None
    train_seconds: float
    latency_ms: float = float("nan")
    size_mb: float = float("nan")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcome):
            return NotImplemented
        if self.val_logits is None or other.val_logits is None:
            alike = self.val_logits is other.val_logits
        else:
            alike = np.array_equal(self.val_logits, other.val_logits)
        mine, theirs = ((each.end, each.why, each.history) for each in (self, other))
        return alike and mine == theirs


class _Stop(Exception):
    """Raised by a report out of the training."""


def trial(
    candidate: Candidate, data: Data, budget: Budget, seed: int, report: Report | None = None
) -> Outcome:
    """Train the candidate on its part of the images. The same arguments give an equal outcome in any
    process that computes with as many threads.

    report sees each epoch as it ends, and may end the trial. Raises FieldmarkError where the
    candidate cannot be had or does not fit the images.
    """
    history: list[Epoch] = []

    def watch(epoch: Epoch) -> None:
        history.append(epoch)
        if report and (why := report(epoch)):
            raise _Stop(why)

    part = data.train.take(subset(data.train.labels, budget.fraction, seed))
    how: dict[str, Any] = {"symmetry": data.symmetry, "policy": data.policy, "seed": seed}
    start = time.perf_counter()
    try:
        fitted = fit(candidate, part, data.val, on_epoch=watch, **how)
    except _Stop as stop:
        return Outcome("stopped", str(stop), history, None, time.perf_counter() - start)
    except Diverged as error:
        return Outcome("diverged", str(error), history, None, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    return Outcome(
        "complete", "", history, fitted.val_logits, seconds, *_cost(fitted, part, budget)
    )


def metrics(outcome: Outcome, data: Data) -> Epoch:
    """The metrics of the validation images at the end of a complete trial."""
    assert outcome.val_logits is not None
    return classifier.validation(outcome.val_logits, data.val.labels)


def subset(labels: Int64[np.ndarray, " n"], fraction: float, seed: int) -> Int64[np.ndarray, " m"]:
    """Positions of a seeded part of every class, at least one image of each."""
    random = np.random.default_rng(seed)
    of_class = [random.permutation(np.flatnonzero(labels == k)) for k in np.unique(labels)]
    return np.sort(np.concatenate([p[: max(1, round(fraction * len(p)))] for p in of_class]))


def _cost(fitted: Fitted, images: Samples, budget: Budget) -> tuple[float, float]:
    weights = fitted.network.state_dict().values()
    size_mb = sum(t.numel() * t.element_size() for t in weights) / 1e6
    if not budget.latency_runs:
        return float("nan"), size_mb
    return engine.latency_ms(fitted.network, images[0].shape[0], budget.latency_runs), size_mb
