"""The regions that answers rest on: what a map names, and whether maps can be believed.

Two checks of the method itself. Maps must change when the network's weights are shuffled (Adebayo et
al., Sanity Checks for Saliency Maps, NeurIPS 2018). And blurring the box that a map names must cost
the answer more than blurring a box of that size anywhere. It is blurred, and not covered by one
colour as for the map, so that the same pictures do not confirm themselves.

Where the images have boxes, the strongest cell should meet them (the pointing game of Zhang et al.,
Top-down Neural Attention, ECCV 2016). Axes: n images, g cells per side, s side in pixels.
"""

import json
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from scipy import ndimage, stats
from scipy.special import expit

from pipeline.evaluation import alterations, intervals, proportions, tables
from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.measuring import Answers
from pipeline.evaluation.metrics import Labels, Probs
from pipeline.evaluation.occlusion import FAINT, Box, edges
from pipeline.evaluation.proportions import LEVEL

NAMED = 0.5  # of the strongest effect: cells with as much, beside the strongest, are the region
ANYWHERE = 5  # boxes of the same size at random places in each photo
COLUMNS = ["name", "label", "predicted", "confidence", "top", "left", "bottom", "right"]
COLUMNS += ["drop", "drop_anywhere", "hurts_more", "correlation", "in_box", "in_box_by_chance"]
BOX = ("x", "y", "w", "h")  # columns of the metadata, in pixels of the upright original
DROPS = {"drop": "where the box is blurred", "drop_anywhere": "where as much is elsewhere"}
RESAMPLES = 2000
Map = Float[np.ndarray, "g g"]


class Looked(NamedTuple):
    """maps: of the network, and shuffled: of one whose weights are in random order, NaN where that was
    not made. whole: log-odds of the answer to the image, blurred: to the image with its box blurred, and with ANYWHERE others; NaN
    where the map names no box.
    """

    maps: Float32[np.ndarray, "n g g"]
    shuffled: Float32[np.ndarray, "n g g"]
    whole: Float32[np.ndarray, " n"]
    blurred: Float32[np.ndarray, "n v"]


_NONE = np.zeros((0, 1, 1), np.float32)
NOTHING = Looked(_NONE, _NONE, _NONE[:, 0, 0], np.zeros((0, 1 + ANYWHERE), np.float32))


def chosen(
    labels: Labels, probs: Probs, mistakes: int, right: int, seed: int
) -> Int64[np.ndarray, " m"]:
    """Positions of the first mistakes that the report shows, and of right answers drawn at random,
    each class by its share.
    """
    correct = np.flatnonzero(probs.argmax(axis=1) == labels)
    some = correct[alterations.sample(labels[correct], right, seed)]
    return np.concatenate([tables.surest_mistakes(labels, probs, mistakes), some])


def region(effect: Map) -> Bool[np.ndarray, "g g"]:
    """The strongest cell, and those that hang together with it and have NAMED of its effect.

    As Zhou et al. (CVPR 2016, section 3.2) get a box from a map. Empty where no cell stands out.
    """
    strongest = np.unravel_index(effect.argmax(), effect.shape)
    if not effect[strongest] > FAINT:
        return np.zeros(effect.shape, bool)
    parts, _ = ndimage.label(effect >= NAMED * effect[strongest])
    return np.asarray(parts == parts[strongest])


def box(effect: Map, side_px: int) -> Box | None:
    """The box around the region, in pixels; None where no cell stands out, or where the box would be
    the whole photo, which names nothing.
    """
    rows, columns = np.nonzero(region(effect))
    if not len(rows):
        return None
    at = edges(side_px, len(effect)).tolist()
    named = at[rows.min()], at[columns.min()], at[rows.max() + 1], at[columns.max() + 1]
    return None if named == (0, 0, side_px, side_px) else named


def blurred(image: UInt8[np.ndarray, "s s 3"], named: Box) -> UInt8[np.ndarray, "s s 3"]:
    """The image with a box so blurred that only its colours are left."""
    top, left, bottom, right = named
    result = image.copy()
    side = len(image) // 3
    result[top:bottom, left:right] = cv2.blur(image, (side, side))[top:bottom, left:right]
    return result


def anywhere(named: Box, side_px: int, random: np.random.Generator) -> list[Box]:
    """ANYWHERE boxes of that size at random places."""
    height, width = named[2] - named[0], named[3] - named[1]
    tops = random.integers(0, side_px - height + 1, ANYWHERE).tolist()
    lefts = random.integers(0, side_px - width + 1, ANYWHERE).tolist()
    return [(top, left, top + height, left + width) for top, left in zip(tops, lefts, strict=True)]


def correlation(one: Map, other: Map) -> float:
    """The rank correlation of two maps (Spearman); 0 where one of them is flat, NaN where the other
    was not made.
    """
    if np.isnan(other).any():
        return np.nan
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(stats.spearmanr(one.ravel(), other.ravel()).statistic)


def given_boxes(rows: pd.DataFrame, fit: str, side_px: int) -> Float64[np.ndarray, "n 4"]:
    """top, left, bottom, right of each image's box in pixels of its square; NaN where it has none.

    fit: how the square was made, as in pixels/squares.
    """
    metadata = pd.DataFrame([json.loads(text) for text in rows["metadata"]], index=rows.index)
    x, y, w, h = (
        pd.to_numeric(metadata.get(name, pd.Series(np.nan, rows.index)), errors="coerce").to_numpy(
            np.float64
        )
        for name in BOX
    )
    width, height = (rows[name].to_numpy(np.float64) for name in ("width", "height"))
    short, long = np.minimum(width, height), np.maximum(width, height)
    across, down = {
        "stretch": (side_px / width, side_px / height),
        "crop": (side_px / short, side_px / short),
        "pad": (side_px / long, side_px / long),
    }[fit]
    # cut off or added at the left and at the top; nothing where it is stretched
    left, top = (side_px - width * across) / 2, (side_px - height * down) / 2
    boxes = np.stack([y * down + top, x * across + left, (y + h) * down + top, 0 * x], axis=1)
    boxes[:, 3] = (x + w) * across + left
    boxes = boxes.clip(0, side_px)
    seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # also not where w or h is NaN
    boxes[~seen] = np.nan
    return boxes


def points_within(
    effect: Map, given: Float64[np.ndarray, " 4"], side_px: int
) -> tuple[float, float]:
    """Whether the strongest cell meets the box, since a map tells no finer, and what share of all
    cells does; NaN without a box, and where no cell stands out.
    """
    if np.isnan(given).any() or not effect.max() > FAINT:
        return np.nan, np.nan
    at, (top, left, bottom, right) = edges(side_px, len(effect)), given
    rows, columns = (
        (at[:-1] < high) & (at[1:] > low) for low, high in ((top, bottom), (left, right))
    )
    meets = rows[:, None] & columns
    return float(meets[np.unravel_index(effect.argmax(), effect.shape)]), float(meets.mean())


def table(looked: Looked, test: Answers, which: Int64[np.ndarray, " n"], fit: str) -> pd.DataFrame:
    """COLUMNS, one row per image. which: their positions among the test images."""
    rows, names, probs = test.rows.iloc[which], np.array(test.classes, object), test.probs[which]
    side_px = test.images[0].shape[0]
    boxes = [box(effect, side_px) or (np.nan,) * 4 for effect in looked.maps]
    named, others = looked.blurred[:, :1], looked.blurred[:, 1:]
    given = given_boxes(rows, fit, side_px)
    pairs = zip(looked.maps, given, strict=True)
    within = [points_within(effect, its, side_px) for effect, its in pairs]
    pairs = zip(looked.maps, looked.shuffled, strict=True)
    columns = [
        *(rows["name"], names[test.labels[which]], names[probs.argmax(axis=1)], probs.max(axis=1)),
        *np.array(boxes, float).reshape(-1, 4).T,
        *(expit(looked.whole) - expit(each).mean(axis=1) for each in (named, others)),
        np.where(np.isnan(named[:, 0]), np.nan, (named < others).mean(axis=1)),
        [correlation(*maps) for maps in pairs],
        *np.array(within, float).reshape(-1, 2).T,
    ]
    return pd.DataFrame(dict(zip(COLUMNS, map(list, columns), strict=True)))


def figures(table: pd.DataFrame) -> Figures:
    """regions/...: the two checks over all images of the table, and the pointing game over the right
    answers, since only these were drawn at random. table: COLUMNS.
    """
    boxed = table[table["drop"].notna()]
    right = table[(table["label"] == table["predicted"]) & table["in_box"].notna()]
    found = {
        "shuffled": _mean(
            table["correlation"].dropna(),
            "Spearman; weights in random order",
            "rank correlation of maps with those after the network's weights were shuffled",
        ),
        "deletion": _mean(
            boxed["hurts_more"],
            f"over {ANYWHERE} boxes of the same size at random places in each image",
            "share of places where blurring as much costs the answer less than in the box; chance: 0.5",
        ),
        **{
            name: _mean(boxed[name], "boxes blurred", f"fall of the probability {where}")
            for name, where in DROPS.items()
        },
        "in_box": None
        if right.empty
        else proportions.figure(
            right["in_box"].to_numpy(bool),
            "pointing game, by cells of the map; right answers drawn at random",
            "share of right answers whose strongest cell meets the box of the thing",
        ),
        "in_box_by_chance": _mean(
            right["in_box_by_chance"],
            "the same images",
            "share of all cells that meet the box of the thing",
        ),
    }
    return {f"regions/{name}": figure for name, figure in found.items() if figure}


def _mean(column: pd.Series, method: str, meaning: str) -> Figure | None:
    if column.empty:
        return None
    values = column.to_numpy(np.float64)
    weights = intervals.resamples(len(values), RESAMPLES, seed=0)
    draws = np.concatenate([(some * values).mean(axis=1) for some in weights])
    low, high = intervals.percentiles(float(values.mean()), draws, LEVEL)
    return Figure(
        value=float(values.mean()),
        n=len(values),
        method=f"mean; {method}; bootstrap over images, {LEVEL:.0%}",
        meaning=meaning,
        low=low,
        high=high,
    )
