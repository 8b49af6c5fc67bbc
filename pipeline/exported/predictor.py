"""An exported folder as a function of a photo, in Python, without a server and without torch.

from pipeline.exported.predictor import Predictor
predict = Predictor("data/export")
print(predict("photo.jpg").label)
"""

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from pipeline import FieldmarkError
from pipeline.exported import model

PNG_MODES = {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"}  # others are converted to RGB first
Photo = str | Path | bytes | np.ndarray | Image.Image


class Prediction(NamedTuple):
    """What the model says of one photo.

    `probabilities` has every class, the likeliest first. `abstained`: the model is not sure enough
    to answer. `strange`: the photo is unlike those it learned from, by `strangeness`. `members`: the
    classes of its conformal set; None where the folder has no sets.
    """

    label: str
    probabilities: dict[str, float]
    abstained: bool
    strange: bool
    strangeness: float
    members: list[str] | None


class Predictor:
    """Predicts one photo per call; threads may call it at once."""

    def __init__(self, folder: str | Path) -> None:
        """Load an exported folder; FieldmarkError where a file of it is missing or damaged."""
        self.model = model.load(Path(folder), few_images=True)

    def __call__(self, photo: Photo) -> Prediction:
        """The prediction for a photo of any size, prepared as in training.

        photo: a file's path or bytes, RGB pixels uint8 (h, w, 3), grey ones (h, w), or a picture of
        Pillow. OpenCV reads BGR: pass `pixels[..., ::-1]`. Raises BadImage, a ValueError, for what
        is no image, and FieldmarkError for a path or an array that cannot be used.
        """
        outputs = self.model.predict(self.model.prepare(_read(photo))[None])
        verdict = self.model.judge(outputs, len(self.model.classes))
        return Prediction(
            verdict.top[0][0],
            dict(verdict.top),
            verdict.abstain,
            verdict.ood,
            verdict.ood_score,
            verdict.members,
        )


def _read(photo: Photo) -> bytes | np.ndarray:
    if isinstance(photo, Image.Image):
        return _encoded(photo)
    if isinstance(photo, np.ndarray):
        return _rgb(photo)
    if isinstance(photo, bytes):
        return photo
    try:
        return Path(photo).read_bytes()
    except OSError as error:
        raise FieldmarkError(f"{photo}: cannot be read: {error.strerror}") from error


def _rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)):
        raise FieldmarkError(
            f"pixels must be uint8 of shape (h, w, 3), RGB, or (h, w), grey, not {pixels.dtype} of "
            f"shape {pixels.shape}"
        )
    if not pixels.size:
        raise FieldmarkError("an array without pixels is no photo")
    rgb = np.stack([pixels] * 3, axis=2) if pixels.ndim == 2 else pixels
    return np.ascontiguousarray(rgb)


def _encoded(picture: Image.Image) -> bytes:
    """A PNG of it, so that transparency and 16 bits are treated as in a file."""
    upright, buffer = ImageOps.exif_transpose(picture), BytesIO()
    lossless = upright if upright.mode in PNG_MODES else upright.convert("RGB")
    lossless.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
