"""Two registered versions on the same test images, each as it is served, in ONNX Runtime."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from pipeline import FieldmarkError, one_line
from pipeline.config import Config
from pipeline.promotion.registry import NO_ANSWER
from pipeline.runs import tracking
from pipeline.storage import store, table

TEST = Path("data/preprocess/test")
BATCH = 8
ANYWAY = "--force --why TEXT promotes it without a comparison"


@dataclass(frozen=True)
class Pair:
    """n images; only the new version is right on `gained`, only production on `lost`."""

    n: int
    gained: int
    lost: int

    @property
    def p_worse(self) -> float:
        """The chance of so many lost images, or more, if both versions were equally good.

        The exact McNemar test, one-sided (McNemar 1947).
        """
        from scipy.stats import binomtest  # which takes a second

        differing = self.gained + self.lost
        return (
            float(binomtest(self.lost, differing, alternative="greater").pvalue)
            if differing
            else 1.0
        )


@dataclass(frozen=True)
class Served:
    """A version's file, the classes it names and the preprocessing it was trained with."""

    title: str
    file: Path
    classes: list[str]
    preprocess: dict[str, Any]


class Answers(NamedTuple):
    """The table of the test images, and the class that each version names for each of them."""

    rows: pd.DataFrame
    images: np.ndarray
    new: np.ndarray
    old: np.ndarray

    @property
    def pair(self) -> Pair:
        """On how many images only one of the two is right."""
        labels = self.rows["label"].to_numpy(dtype=object)
        new, old = self.new == labels, self.old == labels
        return Pair(len(labels), int((new & ~old).sum()), int((old & ~new).sum()))


def compare(cfg: Config, version: ModelVersion, production: ModelVersion) -> Pair:
    """On how many of the test images in data/preprocess/test only one version is right.

    Raises FieldmarkError that says why they cannot be compared and what to do.
    """
    return answers(cfg, version, production).pair


def answers(cfg: Config, version: ModelVersion, production: ModelVersion) -> Answers:
    """What each version says of the test images in data/preprocess/test.

    Raises FieldmarkError that says why they cannot be compared and what to do.
    """
    if not (TEST / table.FILE).exists():
        raise FieldmarkError(
            f"there are no test images in {TEST}; `dvc repro preprocess` makes them, then "
            f"promote again"
        )
    rows = table.read(TEST)
    labels = rows["label"].to_numpy(dtype=object)
    images = store.read_array(TEST / "images.npy")
    if len(labels) == 0:
        raise FieldmarkError(
            f"there is no image in {TEST}; add labelled images and run `dvc repro`"
        )
    with tempfile.TemporaryDirectory() as folder:
        pair = [_fetch(one, Path(folder) / str(one.version)) for one in (version, production)]
        for served in pair:
            _check(
                served,
                cfg.preprocess.model_dump(mode="json") | {"blur_faces": cfg.blur_faces},
                set(labels),
            )
        if set(pair[0].classes) != set(pair[1].classes):
            differing = ", ".join(sorted(set(pair[0].classes) ^ set(pair[1].classes)))
            raise FieldmarkError(
                f"the two versions do not have the same classes ({differing}), so they cannot be "
                f"compared; {ANYWAY}"
            )
        new, old = (_predict(served, images) for served in pair)
    return Answers(rows, images, new, old)


def _fetch(version: ModelVersion, to: Path) -> Served:
    title = f"version {version.version}"
    try:
        to.mkdir()
        folder = tracking.download(f"models:/{version.name}/{version.version}", to)
        signature = json.loads((folder / "signature.json").read_text(encoding="utf-8"))
        return Served(
            title,
            folder / "model.onnx",
            signature["classes"],
            {"blur_faces": False, **signature["preprocess"]},
        )
    except (*NO_ANSWER, KeyError, ValueError) as error:
        raise FieldmarkError(
            f"some files of {title} are missing ({one_line(error)}); {ANYWAY}"
        ) from error


def _check(served: Served, preprocess: dict[str, Any], labels: set[str]) -> None:
    differing = sorted(key for key in preprocess if served.preprocess.get(key) != preprocess[key])
    if differing:
        there = ", ".join(
            f"{key} {served.preprocess.get(key)} there, {preprocess[key]} here" for key in differing
        )
        raise FieldmarkError(
            f"{served.title} takes other images than params.yaml prepares ({there}); "
            f"set `preprocess` as it was and run `dvc repro preprocess`, or {ANYWAY}"
        )
    if unknown := sorted(labels - set(served.classes)):
        raise FieldmarkError(
            f"{served.title} does not know the classes {', '.join(unknown)} of today's test "
            f"images; {ANYWAY}"
        )


def _predict(served: Served, images: np.ndarray) -> np.ndarray:
    """The class names (n,) of uint8 images (n, h, w, 3); the first one on a tie."""
    try:
        session = ort.InferenceSession(served.file, providers=["CPUExecutionProvider"])
        parts = [
            session.run(["probs"], {"images": np.stack(part)})[0]
            for part in store.chunks(images, BATCH)
        ]
    except Exception as error:  # ONNX Runtime's dozen exceptions have no common base
        raise FieldmarkError(
            f"{served.title} does not run on {TEST} ({one_line(error)}); run `dvc repro`, or "
            f"{ANYWAY}"
        ) from error
    names: np.ndarray = np.array(served.classes, dtype=object)[np.concatenate(parts).argmax(axis=1)]
    return names
