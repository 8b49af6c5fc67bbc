"""How often the model is right on parts of the test images, and where it is weaker for sure.

Axes: n images.
"""

import json
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from pipeline.evaluation.proportions import wilson

MOST_VALUES = 12  # a column of metadata with more distinct values gives no slices
FALSE_ALARMS = 0.05  # chance that any slice is named where the model is equally good on all
LABEL_FOLLOWS = 0.02  # a column that leaves less of the constant answer's errors is the label
THIRDS = {
    "brightness": "brightness_score",
    "contrast": "contrast_score",
    "sharpness": "blur_score",
}
COLUMNS = ["slice", "n", "accuracy", "low", "high", "elsewhere", "p", "weaker"]
Members = dict[str, Bool[np.ndarray, " n"]]


def columns(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of the table that are worth a slice.

    They are the source's metadata with few values, the format, label-check's findings, thirds of
    size, brightness, contrast and sharpness, how certain the label is, and whether there are
    near-duplicates. Columns from which the label follows are left out: see `label_columns`.
    """
    both = pd.concat([_given(rows), _measured(rows)], axis=1)
    return both.drop(columns=_following(both, rows["label"]))


def label_columns(rows: pd.DataFrame) -> list[str]:
    """The columns from which the label follows, such as the probability that it was made from."""
    return _following(_given(rows), rows["label"])


def slices(rows: pd.DataFrame, correct: Bool[np.ndarray, " n"], *, min_n: int) -> pd.DataFrame:
    """COLUMNS, worst slice first: single properties, and pairs that are weaker for sure.

    A slice is one value of one column, such as "dark = yes", or of two. Empty values and slices of
    fewer than `min_n` images are left out. low and high: the 95 % interval (Wilson 1927). p: of
    Fisher's exact test, one-sided, against all other images, after the correction for so many
    comparisons (Holm 1979), single properties and pairs apart, each at half of FALSE_ALARMS; a pair is compared
    with the rest of each of its two properties. weaker: whether the difference survives it.
    """
    every, n, right = members(rows), len(correct), int(correct.sum())
    single = _counts(every, correct, min_n)
    single["p"] = holm(_chance(single, right, n))
    parts = _pairs(single["slice"].tolist())
    both = {name: every[one] & every[other] for name, (one, other) in parts.items()}
    pairs = _counts(both, correct, min_n)
    pairs["p"] = holm(_chance_beside_parts(pairs, parts, single))
    table = pd.concat([single, pairs[pairs["p"] <= FALSE_ALARMS / 2]], ignore_index=True)
    return _described(table, right, n).sort_values(["accuracy", "slice"], ignore_index=True)


def too_small(rows: pd.DataFrame, *, min_n: int) -> list[str]:
    """The slices of single properties with too few images to judge, with their counts."""
    sizes = {name: int(member.sum()) for name, member in members(rows).items()}
    return [f"{name} ({n})" for name, n in sizes.items() if 0 < n < min_n]


def members(rows: pd.DataFrame) -> Members:
    """Which images each slice of a single property holds."""
    return {
        f"{column} = {value}": spelled.eq(value).to_numpy(dtype=bool)
        for column in rows.columns
        for spelled in [rows[column].astype(object).map(_spelled, na_action="ignore").fillna("")]
        for value in spelled.unique()
        if value
    }


def holm(p: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """p-values corrected for their number (Holm 1979): none below the level by chance alone."""
    order, m = np.argsort(p, kind="stable"), len(p)
    corrected = np.empty(m)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(m, 0, -1)))
    return corrected


def _given(rows: pd.DataFrame) -> pd.DataFrame:
    """What the source tells of each image, and label-check's yes and no."""
    metadata = pd.DataFrame([json.loads(text) for text in rows["metadata"]], index=rows.index)
    metadata = metadata.rename(
        columns={name: f"{name} (metadata)" for name in metadata if name in rows}
    )
    few = [column for column in metadata.columns if 1 < metadata[column].nunique() <= MOST_VALUES]
    findings = [
        column
        for column in rows.columns
        # Labels are doubted where a model disagrees, so that slice is weaker by its making.
        if column not in ("suspect", "less_suspect")
        and rows[column].dtype == bool
        and rows[column].any()
    ]
    formats = ["format"] if rows["format"].nunique() > 1 else []
    return pd.concat([metadata[few], rows[[*formats, *findings]]], axis=1)


def _measured(rows: pd.DataFrame) -> pd.DataFrame:
    """Thirds of what can be measured of an image, and what is known of its label."""
    numbers = {name: rows[key] for name, key in THIRDS.items() if key in rows}
    numbers["size"] = rows["width"].astype(float) * rows["height"]
    measured = {f"{name} (thirds)": _thirds(values) for name, values in numbers.items()}
    certain = rows["soft_label"].map(
        lambda text: max(json.loads(text, parse_int=float).values(), default=1.0) if text else 1.0
    )
    measured["certain label"] = certain.ge(0.9) if certain.lt(0.9).any() else None
    if "dup_group" in rows:
        twins = rows["dup_group"].map(rows["dup_group"].value_counts()).gt(1)
        measured["near-duplicate"] = twins if twins.any() else None
    kept = {name: values for name, values in measured.items() if values is not None}
    return pd.DataFrame(kept, index=rows.index)


def _thirds(values: pd.Series) -> pd.Series | None:
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    if not low < high:
        return None
    return pd.Series(
        np.select([values <= low, values > high], ["low", "high"], "middle"), values.index
    )


def _following(candidates: pd.DataFrame, labels: pd.Series) -> list[str]:
    errors = len(labels) - labels.value_counts().max()
    following = []
    for column in candidates.columns:
        counts = pd.crosstab(candidates[column].astype(str), labels)
        left = len(labels) - counts.max(axis=1).sum()
        if errors and len(counts) > 1 and left <= LABEL_FOLLOWS * errors:
            following.append(str(column))
    return following


def _pairs(names: list[str]) -> dict[str, tuple[str, str]]:
    """Values of two columns together, by the name of both; two of one column never meet."""
    return {
        f"{one}, {other}": (one, other)
        for one, other in combinations(names, 2)
        if one.rpartition(" = ")[0] != other.rpartition(" = ")[0]
    }


def _counts(slices_: Members, correct: Bool[np.ndarray, " n"], min_n: int) -> pd.DataFrame:
    """Columns slice, n, right; one row per slice with enough images."""
    counted = [
        (name, int(member.sum()), int(correct[member].sum())) for name, member in slices_.items()
    ]
    large = [row for row in counted if row[1] >= max(min_n, 1)]
    kinds = {"n": np.int64, "right": np.int64}
    return pd.DataFrame(large, columns=["slice", "n", "right"]).astype(kinds)


def _chance(
    part: pd.DataFrame, whole_right: int | np.ndarray, whole_n: int | np.ndarray
) -> Float[np.ndarray, " m"]:
    """The probability of so few right answers in a part, where it is no weaker than the rest."""
    from scipy.stats import hypergeom  # which takes a second

    right, n = part["right"].to_numpy(), part["n"].to_numpy()
    chance: Float[np.ndarray, " m"] = hypergeom.cdf(right, whole_n, whole_right, n)
    return chance.astype(np.float64)


def _chance_beside_parts(
    pairs: pd.DataFrame, parts: dict[str, tuple[str, str]], single: pd.DataFrame
) -> Float[np.ndarray, " m"]:
    """The same for pairs, each compared with the rest of both of its properties.

    The larger of the two counts, so that a pair is named only where it is worse than either.
    """
    known = single.set_index("slice")
    sides = [known.loc[[parts[name][i] for name in pairs["slice"]]] for i in (0, 1)]
    chances = [_chance(pairs, side["right"].to_numpy(), side["n"].to_numpy()) for side in sides]
    larger: Float[np.ndarray, " m"] = np.maximum(*chances)
    return larger


def _described(table: pd.DataFrame, all_right: int, all_n: int) -> pd.DataFrame:
    right, n = table["right"], table["n"]
    ends = [wilson(int(r), int(m)) for r, m in zip(right, n, strict=True)]
    accuracy, others = right / n, all_n - n
    table = table.assign(
        accuracy=accuracy,
        low=[low for low, _ in ends],
        high=[high for _, high in ends],
        elsewhere=((all_right - right) / others.clip(lower=1)).where(others > 0, accuracy),
        weaker=table["p"] <= FALSE_ALARMS / 2,
    )
    return table[COLUMNS]


def _spelled(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.3g}"
    return f"{value:.0f}" if isinstance(value, float) else str(value)
