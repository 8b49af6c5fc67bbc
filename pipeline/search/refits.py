"""After the search: whether tuning helped, by several seeds, and the network that goes on."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import optuna
import torch
from jaxtyping import Float32

from pipeline.config.schema import Candidate, Tune
from pipeline.evaluation import intervals
from pipeline.search import engines, space, trial
from pipeline.search.attempts import threads
from pipeline.search.screening import LARGER_IS_BETTER
from pipeline.search.trial import Budget, Data
from pipeline.storage import memo
from pipeline.training import refit
from pipeline.training.conditions import computing_with
from pipeline.training.epochs import Epoch
from pipeline.training.network import Network, build

LEVEL = 0.95  # of the interval


@dataclass(frozen=True)
class Comparison:
    """The metric of the tuned and of the untuned settings with each seed, and by how much the tuned
    ones are better: the mean, and the ends of its interval, which are None where the seeds show no
    spread. Empty where no trial was better than the untuned settings.
    """

    tuned: list[float]
    untuned: list[float]
    gain: float
    low: float | None
    high: float | None
    keep_untuned: bool

    def plain(self, metric: str) -> dict[str, Any]:
        """Its numbers, without those of seeds that diverged, and its sentence, for JSON."""
        values = {
            name: [value for value in given if np.isfinite(value)]
            for name, given in (("tuned", self.tuned), ("untuned", self.untuned))
        }
        return {**asdict(self), **values, "sentence": self.sentence(metric)}

    def sentence(self, metric: str) -> str:
        """What it says, for people."""
        if not self.tuned:
            return "No trial was better than the untuned settings, which are kept."
        name = metric.replace("_", " ")
        by_seed = (
            f"With {len(self.tuned)} seeds the {name} on the validation images is "
            f"{_spread(self.tuned)} tuned and {_spread(self.untuned)} untuned."
        )
        if self.low is None or self.high is None:
            proof = "Whether tuning helped cannot be told from that: the seeds show no spread."
        elif self.low > 0:
            proof = f"Tuning helped: the gain is {self.gain:.3g} ({self._interval()})."
        else:
            proof = (
                f"That is no proof that tuning helped: the gain is {self.gain:.3g} "
                f"({self._interval()})."
            )
        kept = " The untuned settings are kept." if self.keep_untuned else ""
        return f"{by_seed} {proof}{kept}"

    def _interval(self) -> str:
        return f"{LEVEL:.0%} interval {self.low:.3g} to {self.high:.3g}"


def compared(
    winner: Candidate, study: optuna.Study, data: Data, settings: Tune, seed: int
) -> Comparison:
    """Fit the best trial and the untuned settings with `settings.refit_seeds` seeds.

    The trained images are the same each time, and so are those that judge: what differs are the
    first weights and the order. Prints what came of it.
    """
    tuned, trial_s = space.chosen(winner, study.best_params), study.best_trial.user_attrs["seconds"]
    if tuned == winner:
        return Comparison([], [], gain=0.0, low=None, high=None, keep_untuned=False)
    seeds = range(seed, seed + settings.refit_seeds)
    items = [(candidate, number) for candidate in (tuned, winner) for number in seeds]
    with engines.opened(threads(tuned, settings), trial_s * (len(items) - 2)) as engine:
        values = list(engine(partial(_judged, data, settings), items))
    n_images = len(data.val), len(data.train)
    result = comparison(values[: len(seeds)], values[len(seeds) :], settings, *n_images)
    print(result.sentence(settings.metric), flush=True)
    return result


def comparison(
    tuned: list[float], untuned: list[float], settings: Tune, n_judged: int, n_learned: int
) -> Comparison:
    """Of the values with each seed, in pairs, where neither diverged.

    The interval is that of Student's t with the variance of Nadeau and Bengio (Inference for the
    generalization error, Machine Learning 52, 2003, section 5): the mean's, plus the share
    n_judged / n_learned of the differences', since all fits have learned from the same images.
    """
    sign = 1 if LARGER_IS_BETTER[settings.metric] else -1
    differences = sign * (np.array(tuned) - np.array(untuned))
    differences = differences[np.isfinite(differences)]
    gain = float(differences.mean()) if len(differences) else 0.0
    half = intervals.corrected_half_width(differences, n_judged / n_learned, LEVEL)
    low, high = (gain - half, gain + half) if half else (None, None)
    proven = low is not None and low > 0
    keep = {"never": False, "worse": gain < 0, "unproven": not proven}[settings.keep_untuned]
    fits = len(differences) == len(untuned)  # none diverged, so that the untuned settings can go on
    return Comparison(tuned, untuned, gain, low, high, keep and fits)


@dataclass(frozen=True, eq=False)
class Final:
    """The network that goes on; and of the same settings, fitted on the training images alone, the
    epochs, the metrics and the calibrated logits of the validation images.
    """

    network: Network
    history: list[Epoch]
    metrics: Epoch
    val_logits: Float32[np.ndarray, "n k"]


def final(best: Candidate, data: Data, settings: Tune, seed: int) -> Final:
    """Fit the best on tune.refit, with a temperature from images that it had not seen."""
    with computing_with(threads(best, settings)):
        checked = trial.tried(best, data, Budget(), seed)
    assert checked.val_logits is not None
    network = _fitted(best, data, checked.val_logits, on=settings.refit, seed=seed)
    degrees = float(network.get_buffer("temperature"))
    metrics = {**trial.metrics(checked, data), "temperature": degrees}
    return Final(network, checked.history, metrics, checked.val_logits / degrees)


def _fitted(
    best: Candidate, data: Data, val_logits: Float32[np.ndarray, "n k"], *, on: str, seed: int
) -> Network:
    """See refit.refitted; fitted once for the same settings and images, as the memo keeps it."""

    def fitted() -> memo.Arrays:
        how: dict[str, Any] = {"symmetry": data.symmetry, "policy": data.policy, "seed": seed}
        network, _ = refit.refitted(best, data.train, data.val, val_logits, on=on, **how)
        return {name: value.cpu().numpy() for name, value in network.state_dict().items()}

    asked = {"trial": trial.key(best, data, Budget(), seed), "on": on}
    state = memo.once("refits", memo.key(asked, val_logits, code=[refit.__name__]), fitted)
    network = build(
        best,
        n_classes=data.train.targets.shape[1],
        size_px=data.train[0].shape[0],
        symmetry=data.symmetry,
        blank=True,
    )
    network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return network.eval()


def _judged(data: Data, settings: Tune, item: tuple[Candidate, int]) -> float:
    """The metric of a candidate with a seed; NaN where the training diverged."""
    candidate, seed = item
    with computing_with(threads(candidate, settings)):
        outcome = trial.tried(candidate, data, Budget(), seed)
    if outcome.val_logits is None:
        return float("nan")
    return trial.metrics(outcome, data)[f"val/{settings.metric}"]


def _spread(values: list[float]) -> str:
    return f"{np.nanmean(values):.3g} ({np.nanmin(values):.3g} to {np.nanmax(values):.3g})"
