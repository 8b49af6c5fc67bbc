"""Trains one candidate: a head on features that are kept where the extractor is frozen, the whole
network where it is not.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from pipeline import FieldmarkError, config
from pipeline.compute import seeding
from pipeline.config.schema import Candidate
from pipeline.features import cache, engine, learning
from pipeline.features.stages import Lower, Upper
from pipeline.storage import memo, table
from pipeline.training import conditions, heads, logistic, solve
from pipeline.training.augmentation import Policy
from pipeline.training.defenses import distillation, reach
from pipeline.training.epochs import Epoch, OnEpoch, validation
from pipeline.training.network import Ensemble, Network, build, logits, mean_logits
from pipeline.training.samples import Samples
from pipeline.training.solve import Described

COMPUTED_BY = ("FIELDMARK_ACCELERATOR", "FIELDMARK_PRECISION")
# The kinds of head that are fitted by a solver, and by what; all others learn in steps.
AT_ONCE: Mapping[str, Callable[[nn.Sequential, Candidate, Described, int], Epoch]] = {
    "svm": solve.svm,
    "svm_rbf": solve.svm_rbf,
    "logistic": logistic.logistic,
}


@dataclass(frozen=True)
class Fitted:
    """A trained network, its epochs, and its logits of the validation images, when there are any.

    waiting_share: of the time of a training on images, in which it waited for them; NaN for others.
    """

    network: Network
    history: list[Epoch]
    val_logits: Float32[np.ndarray, "n k"] | None
    waiting_share: float = float("nan")


def fit(
    candidate: Candidate,
    train: Samples,
    val: Samples | None,
    *,
    symmetry: str,
    policy: Policy,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Fitted:
    """Train on `train`; `val` is only watched. The same seed and data give the same network on one
    machine.

    Weights count in the loss and in balanced class weights, not in validation. Raises
    FieldmarkError where all are 0, and Undefendable where the candidate's defence cannot be had.
    """
    if candidate.members:
        fits = [
            fit(member, train, val, symmetry=symmetry, policy=policy, seed=seed)
            for member in candidate.members
        ]
        return _joined(fits, val, on_epoch)
    reach.check_learns(candidate)
    train = _counting(train)
    network = _begun(candidate, train, symmetry, seed)
    if candidate.frozen:
        return _fit_head(candidate, network, train, val, seed, on_epoch)
    key = _key(candidate, network, train, val, policy, seed)
    if candidate.trained_stages:
        return _fit_stages(candidate, network, train, val, seed, on_epoch, key)
    return _fit_images(candidate, network, train, val, (symmetry, policy, seed), on_epoch, key)


def _begun(candidate: Candidate, train: Samples, symmetry: str, seed: int) -> Network:
    """The network before it is trained, with the random state that follows from the seed."""
    seeding.seed_all(seed)
    network = build(
        candidate, n_classes=train.targets.shape[1], size_px=train[0].shape[0], symmetry=symmetry
    )
    learning.learn(network.extractor, train, train.keys(), seed)
    return network


def _fit_images(
    candidate: Candidate,
    network: Network,
    train: Samples,
    val: Samples | None,
    how: tuple[str, Policy, int],
    on_epoch: OnEpoch | None,
    key: str,
) -> Fitted:
    from pipeline.training import loop  # with Lightning, which takes seconds to import

    symmetry, policy, seed = how
    settings, defense = candidate.fit, candidate.defense
    if defense.temperature:

        def teach() -> Network:
            loop.fit_network(network, settings, train, val, policy, seed, None, key, defense)
            return network.eval()

        targets = distillation.soft_targets(teach, train, defense.temperature, key)
        train = replace(train, targets=targets)
        network = _begun(candidate, train, symmetry, seed)
        key = _key(candidate, network, train, val, policy, seed)
    given = (network, settings, train, val, policy, seed)
    history, waited = loop.fit_network(*given, on_epoch, key, defense)
    return Fitted(network.eval(), history, logits(network, val) if val else None, waited)


def _joined(fits: list[Fitted], val: Samples | None, on_epoch: OnEpoch | None) -> Fitted:
    """Their average, which is judged once."""
    joined = Ensemble([fitted.network for fitted in fits]).eval()
    given = [torch.from_numpy(f.val_logits) for f in fits if f.val_logits is not None]
    val_logits = mean_logits(given).numpy() if given else None
    return Fitted(joined, _judged(val_logits, val, {}, on_epoch), val_logits)


def _judged(
    val_logits: np.ndarray | None, val: Samples | None, notes: Epoch, on_epoch: OnEpoch | None
) -> list[Epoch]:
    """The only epoch of what is not learned in steps, where there are validation images."""
    if val_logits is None or val is None:
        return []
    epoch = {"epoch": 0.0, **notes, **validation(val_logits, val.labels)}
    if on_epoch:
        on_epoch(epoch)
    return [epoch]


def _key(
    candidate: Candidate,
    network: Network,
    train: Samples,
    val: Samples | None,
    policy: Policy,
    seed: int,
) -> str:
    """Of all that decides on a training in steps, for its checkpoint: the network as it begins,
    images, settings, and how it is computed.
    """
    state = network.state_dict()
    asked = {
        "fit": candidate.fit.model_dump(),
        "defense": candidate.defense.model_dump(),
        "trained_stages": candidate.trained_stages,
        "printed": str(network),
        "names": [*state],
        "policy": policy.to_json(),
        "seed": seed,
        "symmetry": network.symmetry,
        "by": [engine.name(), *(os.environ.get(name, "") for name in COMPUTED_BY)],
    }
    watched = val.content() if val else []
    started = [value.numpy() for value in state.values()]
    code = (__name__, type(network.extractor).__module__)
    return memo.key(asked, *train.content(), *watched, *started, code=code, libraries=("torch",))


def _fit_head(
    candidate: Candidate,
    network: Network,
    train: Samples,
    val: Samples | None,
    seed: int,
    on_epoch: OnEpoch | None,
) -> Fitted:
    images = train + val if val else train
    both = cache.features(network.extractor, images, symmetry=network.symmetry, keys=images.keys())
    learned, watched = solve.parted(both, train, val)
    heads.standardise(network.head, learned.features)
    history: list[Epoch] = []
    notes = None
    if at_once := AT_ONCE.get(candidate.head.kind):
        with conditions.computing_with(1):  # several would mostly wait for each other
            notes = at_once(network.head.eval(), candidate, learned, seed)
    else:
        from pipeline.training import loop  # with Lightning, as above

        history = loop.fit_head(network.head, candidate.fit, learned, watched, seed, on_epoch)
    network.eval()
    val_logits = _head_logits(network, watched.features) if watched else None
    if notes is not None:
        history = _judged(val_logits, val, notes, on_epoch)
    return Fitted(network, history, val_logits)


def _fit_stages(
    candidate: Candidate,
    network: Network,
    train: Samples,
    val: Samples | None,
    seed: int,
    on_epoch: OnEpoch | None,
    checkpoint: str,
) -> Fitted:
    """The last stages and the head, on what the memo keeps of the stages below."""
    from pipeline.training import loop

    assert candidate.trained_stages
    images = train + val if val else train
    lower = Lower(network.extractor, candidate.trained_stages)
    upper = Upper(lower, train[0].shape[0])
    with TemporaryDirectory(dir=config.made(config.cache_folder())) as folder:
        kept = cache.exact(
            lower,
            images,
            Path(folder) / "kept.npy",
            symmetry=network.symmetry,
            keys=images.keys(),
            dtype=np.float16,
        )
        learned, watched = solve.parted(kept, train, val)
        heads.standardise(network.head, upper.of_kept(learned.features[:, :1]))
        history = loop.fit_stages(
            upper, network.head, candidate.fit, learned, watched, seed, on_epoch, checkpoint
        )
        network.eval()
        above = upper.of_kept(watched.features) if watched else None
    return Fitted(network, history, None if above is None else _head_logits(network, above))


def _counting(train: Samples) -> Samples:
    """The samples that count at all, with weights of a mean of 1."""
    if train.weights is None:
        return train
    if not train.weights.any():
        raise FieldmarkError(
            "all training images have the weight 0, so that there is nothing to learn from"
        )
    counting = train.take(np.flatnonzero(train.weights))
    return replace(counting, weights=table.relative(train.weights[train.weights > 0]))


def _head_logits(network: Network, features: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        head_logits: np.ndarray = network.head(torch.from_numpy(features).float()).mean(1).numpy()
    return head_logits
