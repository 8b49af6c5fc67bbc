"""What a network answers to corrupted images, on the fastest engine.

The answers to each kind are kept by the memo as soon as they are there, so that a killed run goes on
with the next kind.
"""

from collections.abc import Iterator

import numpy as np
from torch import nn
from tqdm import tqdm

from pipeline.compute import parallel
from pipeline.features import engine, identity
from pipeline.robustness.corruptions.kinds import KINDS, corrupted
from pipeline.storage import memo

CODE = ("pipeline.robustness.corruptions.answers",)
LIBRARIES = ("numpy", "opencv-python-headless", "openvino")
CLEAN = "no corruption"


def predicted(
    module: nn.Module, images: np.ndarray, severities: list[int], seed: int
) -> dict[str, np.ndarray]:
    """Predicted classes (severities, images) of each kind and of the clean images."""
    weights = identity.fingerprint(module)
    keys = {
        kind: memo.key(
            {"kind": kind, "severities": severities, "seed": seed, "weights": weights},
            images,
            code=CODE,
            libraries=LIBRARIES,
        )
        for kind in (CLEAN, *KINDS)
    }
    kept = {kind: memo.get("robustness", key) for kind, key in keys.items()}
    answers = {kind: stored["values"] for kind, stored in kept.items() if stored}
    for kind, values in _computed(module, images, severities, seed, keys.keys() - answers.keys()):
        memo.put("robustness", keys[kind], {"values": values})
        answers[kind] = values
    return {kind: answers[kind] for kind in keys}


def _computed(
    module: nn.Module, images: np.ndarray, severities: list[int], seed: int, missing: set[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Each missing kind with its answers, all in one stream: preparing the engine takes seconds."""
    kinds = [kind for kind in (CLEAN, *KINDS) if kind in missing]
    jobs = [
        (kind, severity, range(start, min(start + engine.BATCH, len(images))))
        for kind in kinds
        for severity in ([0] if kind == CLEAN else severities)
        for start in range(0, len(images), engine.BATCH)
    ]
    if not jobs:
        return

    def batch(job: tuple[str, int, range]) -> np.ndarray:
        kind, severity, rows = job
        if kind == CLEAN:
            return images[list(rows)]
        return np.stack([corrupted(images[i], kind, severity, seed + i) for i in rows])

    parts: list[np.ndarray] = []
    outputs = engine.run(module, parallel.in_order(batch, jobs), images.shape[1])
    outputs = iter(tqdm(outputs, "corruptions", len(jobs), unit="batch", mininterval=1))
    for i, ((kind, _, _), output) in enumerate(zip(jobs, outputs, strict=True)):
        parts.append(output.argmax(1))
        if i + 1 == len(jobs) or jobs[i + 1][0] != kind:
            yield kind, np.concatenate(parts).reshape(-1, len(images))
            parts = []
