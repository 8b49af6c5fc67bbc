"""Does a window of images have the distribution of the reference? An exact permutation test.

It has six statistics: Kolmogorov-Smirnov for brightness, sharpness, confidence and strangeness,
chi-square for the predicted classes, and the energy distance of the embedding sketches (Szekely and
Rizzo 2013). Their p-values come from the same random permutations of window and reference. The
smallest p-value is compared with the smallest one of each permutation (Westfall and Young 1993,
algorithm 2.5: minP). So the chance of any false alarm is the level, at any sample size and for any
dependence between the six. The test assumes that images are independent of each other.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

NUMBERS = ("brightness", "sharpness", "confidence", "ood")
TESTS = (*NUMBERS, "classes", "sketch")
CHUNK = 2000  # permutations in memory
FIRST_LOOK = 500  # permutations, which are enough for most windows
DOUBTFUL = 0.1
PERMUTATIONS = 10  # times 1 / level; the smallest adjusted p-value of six tests is about 6 / n


def p_values(
    reference: pd.DataFrame, window: pd.DataFrame, *, level: float, seed: int
) -> dict[str, float]:
    """The adjusted p-value of each test; one at or below the level is an alarm.

    Without drift, a share `level` of windows has an alarm. Both frames have the columns of NUMBERS,
    `predicted` and `sketch_0`, `sketch_1`, …, without missing values. There are enough permutations
    to resolve the level. A window that looks ordinary after FIRST_LOOK of them gets no more: its
    p-value is coarse but above DOUBTFUL, and alarms only become rarer. Raises ValueError for a level
    below 1e-5.
    """
    if level < 1e-5:
        raise ValueError("a level below 1e-5 would take millions of permutations")
    random = np.random.default_rng(seed)
    few = _adjusted(_statistics(reference, window, FIRST_LOOK, random))
    if min(few.values()) > max(DOUBTFUL, level):
        return few
    return _adjusted(_statistics(reference, window, round(PERMUTATIONS / level), random))


def _statistics(
    reference: pd.DataFrame, window: pd.DataFrame, n_permutations: int, random: np.random.Generator
) -> Float[np.ndarray, "b t"]:
    """The six statistics: of the data in row 0, then of each permutation."""
    both = pd.concat([reference, window], ignore_index=True)
    measures = _measures(both)
    rows = []
    for start in range(0, n_permutations, CHUNK):
        deals = _deals(len(both), len(window), min(CHUNK, n_permutations - start), random)
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
    """Random permutations: which `n_window` rows fall into the window."""
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
    # the number of permutations with a statistic at least as large, including itself
    each = np.stack(as_large, axis=1)
    smallest = np.sort(each.min(axis=1))
    at_most = np.searchsorted(smallest, each[0], side="right")
    return dict(zip(TESTS, (at_most / n).tolist(), strict=True))
