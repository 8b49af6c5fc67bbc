"""Do the images of a window come from where the reference came from? One test with an exact
false-alarm rate.

Six statistics are looked at: Kolmogorov and Smirnov's for brightness, sharpness, confidence and
strangeness, the chi-square of the predicted classes, and the energy distance of the embedding
sketches (Szekely and Rizzo 2013). Their p-values come from the same random re-deals of window and
reference; the smallest one is judged against the smallest one of each re-deal (Westfall and Young
1993, algorithm 2.5: minP), so that the chance of any false alarm is the level, at any sample size
and however the six depend on each other. What is assumed is that images are independent of each
other.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

NUMBERS = ("brightness", "sharpness", "confidence", "ood")
TESTS = (*NUMBERS, "classes", "sketch")
CHUNK = 2000  # re-deals held at once
FIRST_LOOK = 500  # re-deals that tell most windows from a suspicious one
DOUBTFUL = 0.1
REDEALS = 10  # times 1 / level: the smallest adjusted p-value of six tests is some 6 / re-deals


def p_values(
    reference: pd.DataFrame, window: pd.DataFrame, *, level: float, seed: int
) -> dict[str, float]:
    """The adjusted p-value of each test; an alarm where one is at most the level, by chance in a
    share `level` of windows.

    Both frames have the columns of NUMBERS, `predicted` and `sketch_0`, `sketch_1`, …; rows with
    gaps must be gone. There are enough re-deals to resolve the level, but a window that looks
    ordinary after a few of them gets no more, which only makes alarms rarer (its p-value is above
    DOUBTFUL, if coarse). Raises ValueError for a level below 1e-5.
    """
    if level < 1e-5:
        raise ValueError("a level below 1e-5 would take millions of re-deals")
    random = np.random.default_rng(seed)
    few = _adjusted(_statistics(reference, window, FIRST_LOOK, random))
    if min(few.values()) > max(DOUBTFUL, level):
        return few
    return _adjusted(_statistics(reference, window, round(REDEALS / level), random))


def _statistics(
    reference: pd.DataFrame, window: pd.DataFrame, n_redeals: int, random: np.random.Generator
) -> Float[np.ndarray, "b t"]:
    """The six statistics of the true deal in row 0, and of each re-deal."""
    both = pd.concat([reference, window], ignore_index=True)
    measures = _measures(both)
    rows = []
    for start in range(0, n_redeals, CHUNK):
        deals = _deals(len(both), len(window), min(CHUNK, n_redeals - start), random)
        if start == 0:
            deals[0] = np.arange(len(both)) >= len(reference)
        rows.append(np.stack([measure(deals) for measure in measures.values()], axis=1))
    return np.concatenate(rows)


def _measures(both: pd.DataFrame) -> Mapping[str, Any]:
    sketches = both[[name for name in both if str(name).startswith("sketch_")]].to_numpy(np.float32)
    measures: dict[str, Any] = {
        name: _kolmogorov_smirnov(both[name].to_numpy(float)) for name in NUMBERS
    }
    measures["classes"] = _chi_square(pd.factorize(both["predicted"])[0])
    measures["sketch"] = _energy(sketches)
    return measures


def _deals(
    n: int, n_window: int, times: int, random: np.random.Generator
) -> Bool[np.ndarray, "b n"]:
    """Which rows fall into the window, at random, `n_window` of them in each deal."""
    chosen = np.argpartition(random.random((times, n), dtype=np.float32), n_window - 1, axis=1)[
        :, :n_window
    ]
    deals = np.zeros((times, n), dtype=bool)
    np.put_along_axis(deals, chosen, True, axis=1)
    return deals


def _kolmogorov_smirnov(values: Float[np.ndarray, " n"]) -> Any:
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) > 0, True))  # ties count as one place

    def measure(deals: Bool[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        n, n_window = deals.shape[1], int(deals[0].sum())
        below = np.cumsum(deals[:, order], axis=1, dtype=np.int32)[:, ends].astype(np.float32)
        gaps: Float[np.ndarray, " b"] = np.abs(
            below * n - n_window * (ends + 1).astype(np.float32)
        ).max(axis=1)
        return gaps / np.float32(n_window * (n - n_window))

    return measure


def _chi_square(codes: Int[np.ndarray, " n"]) -> Any:
    one_hot = np.eye(int(codes.max()) + 1, dtype=np.float32)[codes]
    totals = one_hot.sum(axis=0)

    def measure(deals: Bool[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        share = np.float32(deals[0].mean())
        counts = deals.astype(np.float32) @ one_hot  # whole numbers, so ties are exact
        distances: Float[np.ndarray, " b"] = ((counts - share * totals) ** 2 / totals).sum(axis=1)
        return distances

    return measure


def _energy(points: Float[np.ndarray, "n d"]) -> Any:
    distances = cdist(points, points).astype(np.float32)

    def measure(deals: Bool[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        n, n_window = deals.shape[1], int(deals[0].sum())
        # weights that sum to 1 over the window and to -1 over the rest
        weights = np.where(deals, np.float32(1 / n_window), np.float32(-1 / (n - n_window)))
        energies: Float[np.ndarray, " b"] = -((weights @ distances) * weights).sum(axis=1)
        return energies

    return measure


def _adjusted(statistics: Float[np.ndarray, "b t"]) -> dict[str, float]:
    n = len(statistics)
    ranked = np.sort(statistics, axis=0)
    as_large = [
        n - np.searchsorted(ranked[:, t], statistics[:, t], side="left") for t in range(len(TESTS))
    ]
    each = np.stack(
        as_large, axis=1
    )  # of how many deals the statistic is at least as large; a deal counts itself
    smallest = np.sort(each.min(axis=1))
    at_most = np.searchsorted(smallest, each[0], side="right")
    return dict(zip(TESTS, (at_most / n).tolist(), strict=True))
