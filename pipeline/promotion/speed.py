"""The gate of latency. What export measured may be the fault of a busy machine, so a version that is
too slow on record is measured again, here and now, in turns with the one in production.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from mlflow.entities.model_registry import ModelVersion

from pipeline import FieldmarkError, one_line
from pipeline.compute import timing
from pipeline.compute.parallel import N_CORES
from pipeline.config.schema import Promotion
from pipeline.exported import engines
from pipeline.promotion import limits
from pipeline.promotion.limits import Gate
from pipeline.promotion.registry import NO_ANSWER
from pipeline.runs import tracking

TURNS, CALLS = 5, 8  # of the turns the quietest counts, as in compute/timing
BUSY = 0.5  # other programs that want to run, per core


@dataclass(frozen=True)
class Load:
    """How busy this machine is: programs that want to run, on average over the last minute."""

    programs: float

    @property
    def busy(self) -> bool:
        return self.programs > BUSY * N_CORES

    def __str__(self) -> str:
        return f"{self.programs:.1f} programs want to run on {N_CORES} cores"


def load_now() -> Load:
    """The load average of the last minute; 0 where the system does not tell."""
    return Load(os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0)


def gate(limit: Promotion, version: ModelVersion, production: ModelVersion | None) -> Gate:
    """Passes where export, or a measurement now, stays within max_latency_ms.

    On a busy machine, which can show no latency, it passes unless production, measured in turns, is
    faster by more than max_slowdown.
    """
    tags, most = version.tags, limit.max_latency_ms
    recorded = limits.figure("latency, ms", tags, "latency/p50_ms", at_most=most)
    if recorded.value is None or recorded.passed:
        return recorded
    load = load_now()
    try:
        now, *others = in_turns([version, *([production] if production else [])])
    except FieldmarkError as error:
        return replace(recorded, advice=f"it could not be measured again: {error}")
    again = replace(recorded, figure=f"{now:.3g} now, {recorded.figure} on record", value=now)
    beside = f"; production takes {others[0]:.3g} ms in turns with it" if others else ""
    if now <= most:
        return replace(again, passed=True, note=f"export measured on a busier machine{beside}")
    if not load.busy:
        return replace(again, advice=f"measured on this machine just now{beside}")
    told = f"this machine is busy ({load}), so it shows no latency{beside}"
    if others and now > limit.max_slowdown * others[0]:
        slower = f"{told}: {now / others[0]:.2f} times as slow, where {limit.max_slowdown:g} is the limit"
        return replace(again, advice=slower)
    return replace(again, passed=True, note=told)


def in_turns(versions: Sequence[ModelVersion]) -> list[float]:
    """Median milliseconds for one image of each version, with the engine that serving would pick.

    Raises FieldmarkError where a version's files are missing or do not run.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        loaded = [_load(each, folder / str(each.version)) for each in versions]
        medians = np.full((TURNS, len(loaded)), np.inf)
        for turn in range(TURNS):
            for i, (engine, image) in enumerate(loaded):
                times = timing.milliseconds(partial(engine.run, image), CALLS)
                medians[turn, i] = np.median(times)
        best: list[float] = medians.min(axis=0).tolist()
        return best


def _load(version: ModelVersion, to: Path) -> tuple[engines.Engine, np.ndarray]:
    try:
        to.mkdir()
        folder = tracking.download(f"models:/{version.name}/{version.version}", to)
        signature = json.loads((folder / "signature.json").read_text(encoding="utf-8"))
        shape = tuple(signature["inputs"][0]["shape"][1:])
        image = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
        return engines.faster(folder / "model.onnx", image, signature["classes"])[1], image
    except (*NO_ANSWER, KeyError, ValueError) as error:
        raise FieldmarkError(
            f"files of version {version.version} are missing ({one_line(error)})"
        ) from error
