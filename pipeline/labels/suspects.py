"""Labels that are probably wrong, by confident learning (Northcutt et al. 2021, arXiv 1911.00068).

Axes: n images, k classes.
"""

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from jaxtyping import Bool, Float, Float64, Int64

from pipeline.labels import noise, scores
from pipeline.labels.errors import Labelling, Labels

FIRST = 20  # that are named whatever is expected of them: what is expected is uncertain


def named(
    labelling: Labelling, pred_probs: Float[np.ndarray, "n k"], *, max_fraction: float
) -> pd.DataFrame:
    """One row per image: suspect, less_suspect, suspect_score, chance_wrong and suggested class.

    The score is how far the probabilities are from what was said: see scores.doubt. pred_probs must
    be out of fold. Confident learning names at most max_fraction of the images, the highest scores
    first (on a tie the earlier row). The first of them are suspects, as long as at least one in two
    is expected to be wrong (see noise), and never less than FIRST; the others are less suspect. A
    uniform row is neither, and its own label is suggested.
    """
    labels, shares = labelling.labels, labelling.shares
    if len(labels) == 0:
        return pd.DataFrame(
            {
                "suspect": np.zeros(0, bool),
                "less_suspect": np.zeros(0, bool),
                "suspect_score": np.zeros(0),
                "chance_wrong": np.zeros(0),
                "suggested": labels,
            }
        )
    informed = np.ptp(pred_probs, axis=1) > 0
    score = scores.doubt(labels, pred_probs, shares)
    issue = _issues(labels, pred_probs, informed)
    ranked = _ranked(issue, score)[: int(max_fraction * len(labels))]
    chance = np.zeros(len(labels))
    chance[informed] = noise.chance_wrong(labels[informed], pred_probs[informed])
    first = ranked[: _worth_a_look(chance[ranked])]
    return pd.DataFrame(
        {
            "suspect": np.isin(np.arange(len(labels)), first),
            "less_suspect": np.isin(np.arange(len(labels)), ranked[len(first) :]),
            "suspect_score": score,
            "chance_wrong": chance,
            "suggested": np.where(informed, pred_probs.argmax(axis=1), labels),
        }
    )


def _issues(
    labels: Labels, pred_probs: Float[np.ndarray, "n k"], informed: Bool[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    suspect = np.zeros(len(labels), dtype=bool)
    # cleanlab neither takes a single class nor judges the only image of one.
    present = np.flatnonzero(np.bincount(labels[informed]) > 1)
    if len(present) > 1:
        rows = np.flatnonzero(informed & np.isin(labels, present))
        numbered = np.searchsorted(present, labels[rows])
        # One process: forking after torch or OpenMP has started threads can hang.
        suspect[rows] = find_label_issues(numbered, pred_probs[np.ix_(rows, present)], n_jobs=1)
    return suspect


def _ranked(
    issue: Bool[np.ndarray, " n"], score: Float64[np.ndarray, " n"]
) -> Int64[np.ndarray, " r"]:
    ranked = np.argsort(-score, kind="stable")
    named: Int64[np.ndarray, " r"] = ranked[issue[ranked]]
    return named


def _worth_a_look(chances: Float64[np.ndarray, " r"]) -> int:
    """How many of the first have a mean chance of at least one in two."""
    means = chances.cumsum() / np.arange(1, len(chances) + 1)
    return max(FIRST, int(np.flatnonzero(means >= 0.5).max(initial=-1)) + 1)
