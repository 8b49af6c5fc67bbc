"""What a file carries beside its pixels: orientation, place, camera."""

import numpy as np
from PIL import ExifTags, Image

# Pillow's names of what is neither pixels nor EXIF; the texts of a PNG are separate.
BESIDE_PIXELS = {"xmp", "XML:com.adobe.xmp", "photoshop", "comment"}
SIDEWAYS = {5, 6, 7, 8}


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, where it is missing or invalid.

    Pillow turns a TIFF itself, and then drops the tag.
    """
    stated = _exif(image).get(ExifTags.Base.Orientation, 1)
    return stated if stated in range(1, 9) else 1


def as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """A view of upright pixels (h, w, ...) with the rows and columns of the file.

    What is written into it stands upright.
    """
    turned = upright.swapaxes(0, 1) if orientation in SIDEWAYS else upright
    rows = slice(None, None, -1 if orientation in {3, 4, 6, 7} else 1)
    columns = slice(None, None, -1 if orientation in {2, 3, 7, 8} else 1)
    return turned[rows, columns]


def has_gps(image: Image.Image) -> bool:
    """Whether it carries the place where it was taken."""
    try:
        return bool(_exif(image).get_ifd(ExifTags.IFD.GPSInfo))
    except Exception:  # an unreadable EXIF block reveals no place
        return False


def has_metadata(image: Image.Image) -> bool:
    """Whether it carries metadata other than orientation and place."""
    return bool(
        BESIDE_PIXELS & image.info.keys()
        or getattr(image, "text", None)
        or set(_exif(image)) - {ExifTags.Base.Orientation, ExifTags.Base.GPSInfo}
    )


def camera(image: Image.Image) -> str:
    """The camera's model, "" for unknown."""
    return str(_exif(image).get(ExifTags.Base.Model, "")).strip("\0 ")


def _exif(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except Exception:  # a broken EXIF block does not spoil the pixels
        return Image.Exif()
