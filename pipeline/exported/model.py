"""An exported folder, ready to predict: checked, on the faster of two engines, with the
preprocessing it was trained with.

No torch, no tracking server: model.onnx, signature.json and thresholds.json are all it needs;
reference.parquet, where it is there, is kept for the monitor.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float32, UInt8
from pydantic import BaseModel, Field, ValidationError

from pipeline import FieldmarkError
from pipeline.compute.parallel import N_CORES
from pipeline.config import schema
from pipeline.exported.engines import Engine, onnx_runtime, openvino
from pipeline.exported.signature import SKETCH
from pipeline.pixels import images

T = TypeVar("T", bound=BaseModel)
FILES = (
    "model.onnx",
    "signature.json",
    "thresholds.json",
)  # without which there is nothing to serve
ROUNDS, WARM_IMAGES = 5, 4
SAME = 1e-3  # two engines that differ by more than this in a probability are not the same model


class Outputs(NamedTuple):
    """Of n images: calibrated probabilities, strangeness (bigger is stranger), and where they
    lie.
    """

    probs: Float32[np.ndarray, "n k"]
    ood: Float32[np.ndarray, " n"]
    sketch: Float32[np.ndarray, "n 16"]


class Verdict(NamedTuple):
    """What is said of an image: its likeliest classes with their probabilities, best first; whether
    to abstain; whether it is strange.
    """

    top: list[tuple[str, float]]
    abstain: bool
    ood: bool
    ood_score: float


class Steps(schema.Preprocess):
    """What images.square does to an image."""

    blur_faces: bool = False


class Signature(BaseModel):
    """What serving needs of signature.json."""

    classes: list[str] = Field(min_length=2)
    preprocess: Steps


class Abstain(BaseModel):
    """The confidence below which the model says nothing, and what that was chosen for."""

    confidence: float = Field(allow_inf_nan=False)
    target_risk: float | None = None


class Ood(BaseModel):
    """The score above which an image is strange."""

    score: float = Field(allow_inf_nan=False)


class Thresholds(BaseModel):
    """What serving needs of thresholds.json."""

    abstain: Abstain
    ood: Ood


class Engines(NamedTuple):
    """The same file, made for one call on all cores, which is soonest done, and for a call on each,
    which gets most done.
    """

    whole: Engine
    lane: Engine


class Model:
    """One version in memory; threads may call it at once."""

    def __init__(
        self,
        name: str,
        version: str,
        signature: Signature,
        thresholds: Thresholds,
        engines: Engines,
        reference: pd.DataFrame | None = None,
    ) -> None:
        self.name, self.version, self.reference = name, version, reference
        self.classes, self.preprocess, self.thresholds = (
            signature.classes,
            signature.preprocess,
            thresholds,
        )
        self.engine, self._lane = engines

    @property
    def size_px(self) -> int:
        """The side of the network's input, in pixels."""
        return self.preprocess.size_px

    def prepare(
        self,
        image: bytes | np.ndarray,
        *,
        max_pixels: int | None = None,
        formats: Sequence[str] = images.FORMATS,
    ) -> UInt8[np.ndarray, "s s 3"]:
        """A file's bytes, or RGB pixels uint8 (h, w, 3), as the preprocess stage would hand them
        over; raises BadImage.
        """
        pixels = (
            images.decode(image, max_pixels=max_pixels, formats=formats)
            if isinstance(image, bytes)
            else image
        )
        return images.square(pixels, **self.preprocess.model_dump())

    def predict(self, prepared: UInt8[np.ndarray, "n s s 3"], *, lane: bool = False) -> Outputs:
        """The outputs for images that `prepare` made, on all cores or in a `lane` of one; raises
        RuntimeError where the engine fails.
        """
        return Outputs(*(self._lane if lane else self.engine).run(prepared))

    def judge(self, outputs: Outputs, top: int) -> Verdict:
        """The verdict on the one image of the outputs (n = 1), by the thresholds; on a tie the
        earlier class comes first.
        """
        probs, score = outputs.probs[0], float(outputs.ood[0])
        best = [(self.classes[i], float(probs[i])) for i in np.argsort(-probs, kind="stable")[:top]]
        return Verdict(
            best,
            bool(probs.max() < self.thresholds.abstain.confidence),
            score > self.thresholds.ood.score,
            score,
        )


def load(folder: Path, *, name: str = "fieldmark", version: str = "") -> Model:
    """The exported folder as a model that has predicted already; without a version, a hash of its
    files stands for one.

    Raises FieldmarkError where a file is missing or damaged, or the model does not do what its
    signature says.
    """
    signature = _read(Signature, folder / "signature.json")
    thresholds = _read(Thresholds, folder / "thresholds.json")
    warm = _warm_images(signature.preprocess.size_px)
    engines, reference = (
        _engines(folder / "model.onnx", warm, signature.classes),
        _reference(folder / "reference.parquet"),
    )
    model = Model(
        name, version or fingerprint(folder)[:12], signature, thresholds, engines, reference
    )
    check(model, warm)
    return model


def fingerprint(folder: Path) -> str:
    """A hash of what `load` reads; raises FieldmarkError where a file is missing."""
    digest = hashlib.sha256()
    for file in FILES:
        digest.update(hashlib.sha256(_bytes(folder / file)).digest())
    return digest.hexdigest()


def check(model: Model, prepared: UInt8[np.ndarray, "n s s 3"]) -> None:
    """Raise FieldmarkError unless the outputs are chances of the classes, with a score and a sketch
    for every image.
    """
    n, k = len(prepared), len(model.classes)
    for lane in (False, True):
        probs, ood, sketch = model.predict(prepared, lane=lane)
        if probs.shape != (n, k) or ood.shape != (n,) or sketch.shape != (n, SKETCH):
            raise FieldmarkError(f"model.onnx: its outputs do not fit {k} classes; export it again")
        if not all(np.isfinite(output).all() for output in (probs, ood, sketch)):
            raise FieldmarkError("model.onnx: it answers with what is no number; export it again")
        if not np.allclose(probs.sum(1), 1, atol=1e-3) or probs.min() < 0:
            raise FieldmarkError(
                "model.onnx: its probabilities do not add up to 1; export it again"
            )


def _engines(file: Path, warm: np.ndarray, classes: Sequence[str]) -> Engines:
    """The faster engine, twice."""
    _bytes(file)
    make, whole = _faster(file, warm, classes)
    return Engines(
        whole, make(file, lanes=N_CORES)
    )  # only now that the slower one has been given up: each takes much memory


def _faster(
    file: Path, warm: np.ndarray, classes: Sequence[str]
) -> tuple[Callable[..., Engine], Engine]:
    """ONNX Runtime is the yardstick; OpenVINO is taken where it agrees and is faster."""
    try:
        ours = onnx_runtime(file)
        wanted = ours.run(warm)
    except Exception as error:  # ONNX Runtime raises a type of its own for each of its complaints
        raise FieldmarkError("model.onnx: ONNX Runtime cannot run it; export it again") from error
    if ours.classes not in (None, "\n".join(classes)):
        raise FieldmarkError(
            "signature.json: its classes are not those of model.onnx; export it again"
        )
    try:
        other = openvino(file)
        answer = other.run(warm)
    except RuntimeError:
        return onnx_runtime, ours  # an operator that OpenVINO does not know
    agrees = all(
        np.allclose(a, b, rtol=0.01, atol=SAME) for a, b in zip(answer, wanted, strict=True)
    )
    seconds = _seconds([ours, other], warm)
    return (openvino, other) if agrees and seconds[1] < seconds[0] else (onnx_runtime, ours)


def _seconds(engines: Sequence[Engine], warm: np.ndarray) -> list[float]:
    """The time of each for the same images one by one: the quietest of several rounds, taken in
    turns.
    """
    best = [float("inf")] * len(engines)
    for _ in range(ROUNDS):
        for i, engine in enumerate(engines):
            start = time.perf_counter()
            for image in warm:
                engine.run(image[None])
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def _warm_images(size_px: int) -> UInt8[np.ndarray, "n s s 3"]:
    return np.random.default_rng(0).integers(
        0, 256, (WARM_IMAGES, size_px, size_px, 3), dtype=np.uint8
    )


def _reference(file: Path) -> pd.DataFrame | None:
    """The validation images as the export stage recorded them; none in a folder of an older
    export.
    """
    try:
        return pd.read_parquet(file) if file.exists() else None
    except (OSError, ValueError) as error:
        raise FieldmarkError(f"{file.name}: damaged; export it again") from error


def _read(kind: type[T], file: Path) -> T:
    try:
        return kind.model_validate(json.loads(_bytes(file)))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise FieldmarkError(
            f"{file.name}: {where}: {error.errors()[0]['msg']}; export it again"
        ) from error
    except ValueError as error:
        raise FieldmarkError(f"{file.name}: not valid JSON; export it again") from error


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise FieldmarkError(
            f"{file}: cannot be read; name a folder that the export stage wrote"
        ) from error
