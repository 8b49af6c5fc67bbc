"""One trial: a candidate trained within a budget and judged on the validation images.

It is a function of its arguments alone and knows no tracking server, so it can be sent to another
process or machine; whoever drives it logs what comes back.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64

from pipeline.config.schema import Candidate
from pipeline.features import engine, identity, weights
from pipeline.search import memory
from pipeline.storage import memo
from pipeline.training.augmentation import Policy
from pipeline.training.epochs import Diverged, Epoch, validation
from pipeline.training.fit import Fitted, fit
from pipeline.training.samples import Samples

LIBRARIES = (
    "albumentations",
    "numpy",
    "openvino",
    "pytorch-lightning",
    "scikit-learn",
    "scipy",
    "timm",
    "torch",
    "torchvision",
)
BATCH = 32  # images whose latency in one call is measured
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
    """What a trial may use: the share of the training images of every class, the share of the
    candidate's epochs, one view of an image instead of all, and the images and the batches whose
    latency is measured, one after the other (0: it is not).
    """

    fraction: float = 1.0
    latency_runs: int = 0
    epochs: float = 1.0
    one_view: bool = False
    batch_runs: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a trial. end: it went through all epochs, was stopped by a report, or diverged;
    why says the reason of the last two, which have no logits. Two outcomes are equal also where
    their costs differ, which are measured: seconds to train, the most megabytes of this process
    meanwhile, milliseconds for an image alone and in a batch of BATCH (NaN: not measured), megabytes
    of the network, the share of the training in which it waited for images; or in whether they were
    remembered.
    """

    end: Literal["complete", "stopped", "diverged"]
    why: str
    history: list[Epoch]
    val_logits: Float32[np.ndarray, "n k"] | None
    train_seconds: float
    peak_mb: float = float("nan")
    latency_ms: float = float("nan")
    batch_ms: float = float("nan")
    size_mb: float = float("nan")
    waiting_share: float = float("nan")
    remembered: bool = False

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
    memory.restart()
    start = time.perf_counter()
    try:
        fitted = fit(_within(candidate, budget), part, data.val, on_epoch=watch, **how)
    except _Stop as stop:
        return Outcome("stopped", str(stop), history, None, time.perf_counter() - start)
    except Diverged as error:
        return Outcome("diverged", str(error), history, None, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    outcome = Outcome("complete", "", history, fitted.val_logits, seconds, memory.peak_mb())
    if candidate.average_views:  # its costs are those of all views, whatever the budget
        fitted.network.symmetry = data.symmetry
    return replace(outcome, **_cost(fitted, part, budget))


def tried(
    candidate: Candidate, data: Data, budget: Budget, seed: int, report: Report | None = None
) -> Outcome:
    """The same, from the memo where it was tried before: the report hears the epochs once more, and
    what it stops now ends there. Where it stopped a trial earlier than now, that is tried anew.
    """
    question = key(candidate, data, budget, seed)
    known = _recalled(question)
    for n, epoch in enumerate(known.history if known else (), 1):
        if known and report and (why := report(epoch)):
            return replace(
                known, end="stopped", why=why, history=known.history[:n], val_logits=None
            )
    if known and known.end != "stopped":
        return known
    heard = len(known.history) if known else 0

    def after(epoch: Epoch) -> str:
        return report(epoch) if report and epoch["epoch"] >= heard else ""

    outcome = trial(candidate, data, budget, seed, after)
    memo.put("trials", question, _arrays(outcome))
    return outcome


def metrics(outcome: Outcome, data: Data) -> Epoch:
    """The metrics of the validation images at the end of a complete trial."""
    assert outcome.val_logits is not None
    return validation(outcome.val_logits, data.val.labels)


def subset(labels: Int64[np.ndarray, " n"], fraction: float, seed: int) -> Int64[np.ndarray, " m"]:
    """Positions of a seeded part of every class, at least one image of each."""
    random = np.random.default_rng(seed)
    of_class = [random.permutation(np.flatnonzero(labels == k)) for k in np.unique(labels)]
    return np.sort(np.concatenate([p[: max(1, round(fraction * len(p)))] for p in of_class]))


def _within(candidate: Candidate, budget: Budget) -> Candidate:
    epochs = max(1, round(budget.epochs * candidate.fit.epochs))
    return candidate.model_copy(
        update={
            "fit": candidate.fit.model_copy(update={"epochs": epochs}),
            "average_views": candidate.average_views and not budget.one_view,
        }
    )


def _cost(fitted: Fitted, images: Samples, budget: Budget) -> dict[str, Any]:
    weights, size_px = fitted.network.state_dict().values(), images[0].shape[0]
    cost: dict[str, Any] = {
        "size_mb": sum(t.numel() * t.element_size() for t in weights) / 1e6,
        "waiting_share": fitted.waiting_share,
    }
    if budget.latency_runs:
        cost["latency_ms"] = engine.latency_ms(fitted.network, size_px, budget.latency_runs)
    if budget.batch_runs:
        cost["batch_ms"] = engine.latency_ms(fitted.network, size_px, budget.batch_runs, BATCH)
    return cost


def key(candidate: Candidate, data: Data, budget: Budget, seed: int) -> str:
    """The same for trials of equal outcomes, on one machine.

    Neither a candidate's name nor what tune may turn decides on what comes of it."""
    policy = data.policy.to_json()
    asked = {
        "candidate": candidate.model_dump(exclude={"name", "space"}),
        "weights": weights.content(candidate.extractor),
        "budget": asdict(budget),
        "seed": seed,
        "symmetry": data.symmetry,
        "policy": policy,
        "by": weights.computes(),
    }
    code = {__name__, *identity.named(candidate.extractor)}
    return memo.key(
        asked,
        *data.train.content(),
        *data.val.content(),
        code=sorted(code),
        libraries=LIBRARIES,
    )


def _arrays(outcome: Outcome) -> memo.Arrays:
    plain = asdict(replace(outcome, val_logits=None))
    logits = {} if outcome.val_logits is None else {"val_logits": outcome.val_logits}
    return {"plain": np.array(json.dumps(plain)), **logits}


def _recalled(question: str) -> Outcome | None:
    known = memo.get("trials", question)
    if known is None:
        return None
    plain = json.loads(str(known["plain"]))
    return Outcome(**{**plain, "val_logits": known.get("val_logits"), "remembered": True})
