"""An exported folder, ready to predict: checked, on the faster of two engines.

It preprocesses images as training did. It needs neither torch nor a tracking server, only
model.onnx, signature.json and thresholds.json. The monitor uses reference.parquet if it exists.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float32, UInt8
from pydantic import BaseModel, Field, ValidationError

from pipeline import FieldmarkError
from pipeline.config import schema
from pipeline.evaluation import conformal
from pipeline.exported import engines
from pipeline.exported.engines import Engines
from pipeline.exported.signature import SKETCH
from pipeline.exported.thresholds import Thresholds
from pipeline.pixels import images

T = TypeVar("T", bound=BaseModel)
FILES = ("model.onnx", "signature.json", "thresholds.json")  # serving needs all of them
WARM_IMAGES = 4


class Outputs(NamedTuple):
    """Of n images: calibrated probabilities, out-of-distribution score and feature sketch.

    A bigger score means a stranger image.
    """

    probs: Float32[np.ndarray, "n k"]
    ood: Float32[np.ndarray, " n"]
    sketch: Float32[np.ndarray, "n 16"]


class Verdict(NamedTuple):
    """The judgement of one image: `top` has the likeliest classes and their probabilities.

    `abstain` and `ood` say whether the model abstains, and whether the image is strange. `members`:
    the classes of the conformal set, likeliest first; None where the folder has no sets.
    """

    top: list[tuple[str, float]]
    abstain: bool
    ood: bool
    ood_score: float
    members: list[str] | None


class Steps(schema.Preprocess):
    """What images.square does to an image."""

    blur_faces: bool = False


class Signature(BaseModel):
    """What serving needs of signature.json."""

    classes: list[str] = Field(min_length=2)
    preprocess: Steps


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
        """A file's bytes, or RGB pixels uint8 (h, w, 3), preprocessed as in the preprocess stage.

        Raises BadImage.
        """
        pixels = (
            images.decode(image, max_pixels=max_pixels, formats=formats)
            if isinstance(image, bytes)
            else image
        )
        return images.square(pixels, **self.preprocess.model_dump())

    def predict(self, prepared: UInt8[np.ndarray, "n s s 3"], *, lane: bool = False) -> Outputs:
        """The outputs for images that `prepare` returned, on all cores or, in a `lane`, on one.

        Raises RuntimeError where the engine fails.
        """
        return Outputs(*(self._lane if lane else self.engine).run(prepared))

    def judge(self, outputs: Outputs, top: int) -> Verdict:
        """The verdict on the one image of the outputs (n = 1), by the thresholds.

        On a tie the earlier class comes first.
        """
        probs, score = outputs.probs[0], float(outputs.ood[0])
        order = np.argsort(-probs, kind="stable")
        return Verdict(
            [(self.classes[i], float(probs[i])) for i in order[:top]],
            bool(probs.max() < self.thresholds.abstain.confidence),
            score > self.thresholds.ood.score,
            score,
            self._members(probs, order),
        )

    def _members(self, probs: np.ndarray, order: np.ndarray) -> list[str] | None:
        sets = self.thresholds.sets
        if sets is None:
            return None
        inside = conformal.members(probs[None], sets.least_probability)[0]
        return [self.classes[i] for i in order if inside[i]]


def load(
    folder: Path, *, name: str = "fieldmark", version: str = "", few_images: bool = False
) -> Model:
    """The exported folder as a model that has already predicted once.

    The default version is a hash of its files. For `few_images` it does not measure which engine is
    faster, and leaves out the reference for drift. Raises FieldmarkError where a file is missing or
    damaged, or where the model contradicts its signature.
    """
    signature = _read(Signature, folder / "signature.json")
    thresholds = _read(Thresholds, folder / "thresholds.json")
    warm = _warm_images(signature.preprocess.size_px)[: 1 if few_images else WARM_IMAGES]
    _bytes(folder / "model.onnx")  # a clear message where it cannot be read
    run = engines.load_one if few_images else engines.load
    model = Model(
        name,
        version or fingerprint(folder)[:12],
        signature,
        thresholds,
        run(folder / "model.onnx", warm, signature.classes),
        None if few_images else _reference(folder / "reference.parquet"),
    )
    check(model, warm)
    return model


def fingerprint(folder: Path) -> str:
    """A hash of the files that `load` reads; raises FieldmarkError where one is missing."""
    digest = hashlib.sha256()
    for file in FILES:
        digest.update(hashlib.sha256(_bytes(folder / file)).digest())
    return digest.hexdigest()


def check(model: Model, prepared: UInt8[np.ndarray, "n s s 3"]) -> None:
    """Raise FieldmarkError unless every image gets class probabilities, a score and a sketch."""
    n, k = len(prepared), len(model.classes)
    sets = model.thresholds.sets
    for lane in (False, True):
        probs, ood, sketch = model.predict(prepared, lane=lane)
        if probs.shape != (n, k) or ood.shape != (n,) or sketch.shape != (n, SKETCH):
            raise FieldmarkError(f"model.onnx: its outputs do not fit {k} classes; export it again")
        if not all(np.isfinite(output).all() for output in (probs, ood, sketch)):
            raise FieldmarkError("model.onnx: an output is not a finite number; export it again")
        if not np.allclose(probs.sum(1), 1, atol=1e-3) or probs.min() < 0:
            raise FieldmarkError(
                "model.onnx: its probabilities do not add up to 1; export it again"
            )
    if sets and len(sets.least_probability) != k:
        raise FieldmarkError(f"thresholds.json: its sets do not fit {k} classes; export it again")


def _warm_images(size_px: int) -> UInt8[np.ndarray, "n s s 3"]:
    return np.random.default_rng(0).integers(
        0, 256, (WARM_IMAGES, size_px, size_px, 3), dtype=np.uint8
    )


def _reference(file: Path) -> pd.DataFrame | None:
    """The validation images as the export stage recorded them; None in an older export."""
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
