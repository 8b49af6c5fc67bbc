"""Deals images to train, val and test: tied images together, every class and stratum in its share.

Within a stratum (label and stratum) the groups are ordered by a hash of seed and name; the first
ones are test, the next val, the rest train. So the order of files never matters, and a new image
moves only neighbours at the borders.
"""

from collections.abc import Hashable, Mapping
from fractions import Fraction
from hashlib import blake2b

import pandas as pd

from pipeline import FieldmarkError
from pipeline.config.schema import LabelCheck

# The most protected first: where members of one group were given to different splits, all go to the
# first of these.
PROTECTED = ("test", "val", "train")
# Who is served first where a class has fewer groups than there are splits.
NEEDED = ("train", "test", "val")

Share = dict[str, Fraction]
Counts = dict[str, int]


def dealt(
    rows: pd.DataFrame, together: pd.Series, feedback: pd.Series, settings: LabelCheck, *, seed: int
) -> tuple[pd.DataFrame, pd.Series]:
    """The rows with their split ("" for what is left out), and which were given a split that their
    group crosses.

    together: what is tied to what, feedback images among it; feedback: which images came as
    feedback. Raises FieldmarkError as check_leakage does.
    """
    used = (rows["decision"] != "drop") & (rows["label"] != "")
    rows = rows.assign(split="")
    leaks = leaking(rows[used]).reindex(rows.index, fill_value=False)
    check_leakage(rows[used], leaks[used], at_most=settings.max_leakage)
    own = rows[used & ~feedback]
    rows.loc[own.index, "split"] = deal(own, fractions=settings.fractions.model_dump(), seed=seed)
    rows.loc[used & feedback, "split"] = add(rows["split"], together, feedback)
    return rows, leaks


def n_leaking(rows: pd.DataFrame, leaks: pd.Series) -> float:
    """How many groups cross the splits that they were given to."""
    return float(rows.loc[leaks, "dup_group"].nunique())


def deal(rows: pd.DataFrame, *, fractions: Mapping[str, float], seed: int) -> pd.Series:
    """The split of each row, indexed as rows; reads dup_group, label, stratum and given_split.

    A group is in one split. What is given stays, and nothing is dealt to a test or val that was
    given; the fractions left are scaled up. Where all were given, as train/ and test/ of many data
    sets are, what is missing comes from those given to train. Of single images the whole is within
    1 of its fractions, and so is each stratum; larger groups can be off by two of the stratum's
    largest. A class has at least one group in each split that is dealt to, train before test before
    val where it has fewer; this comes before the fractions. "" is a class like any other.

    Raises FieldmarkError for unknown given splits.
    """
    share = _share(fractions, rows["given_split"])
    groups = _groups(rows)
    if (groups["given"] != "").all() and len(share) > 1:
        groups["given"] = groups["given"].where(groups["given"] != "train", "")
    groups["split"] = groups["given"]
    groups["order"] = [_hash(seed, name) for name in groups.index]
    groups = groups.sort_values("order")
    free = groups[groups["given"] == ""]
    quotas = _quotas(free.groupby("key")["size"].sum().to_dict(), share, seed)
    ahead = dict.fromkeys(share, 0)
    for key, stratum in free.groupby("key"):
        groups.loc[stratum.index, "split"] = _cut(stratum["size"].tolist(), quotas[key], ahead)
    for _, members in groups.groupby("label"):
        groups.loc[members.index, "split"] = _represented(
            members["split"], members["given"] == "", share
        )
    return rows["dup_group"].map(groups["split"]).astype(str).rename("split")


def add(split: pd.Series, together: pd.Series, feedback: pd.Series) -> pd.Series:
    """The split of each feedback image once all others have theirs: train, or "" where it is tied
    to a held-out one.

    They are the images on which a model failed or someone spoke up, so a test or val that held them
    would no longer stand for what the model meets; and the test set stays the same, so that
    versions can be compared.
    """
    held_out = set(together[split.isin(["test", "val"])])
    return together[feedback].isin(held_out).map({True: "", False: "train"})


def leaking(rows: pd.DataFrame) -> pd.Series:
    """Which rows were given a split while others of their group were given another, indexed as
    rows.
    """
    given = rows["given_split"] != ""
    n_splits = rows[given].groupby("dup_group")["given_split"].nunique()
    return given & rows["dup_group"].isin(n_splits.index[n_splits > 1])


def check_leakage(rows: pd.DataFrame, leaks: pd.Series, *, at_most: float) -> None:
    """Raises FieldmarkError where more than this share of the images with a given split is in
    `leaks` (see `leaking`).
    """
    given = int((rows["given_split"] != "").sum())
    if leaks.sum() > at_most * given:
        first, *_ = rows.loc[leaks].groupby("dup_group")["name"].apply(list)
        raise FieldmarkError(
            f"{int(leaks.sum())} of {given} images with a given split have a near-duplicate, "
            f"or one of their group, in another "
            f"split, for example {' and '.join(first[:2])}; label_check.max_leakage is "
            f"{at_most:g}: sort them out, leave the "
            "split to label-check (which keeps groups together), or raise the limit: what "
            "leaks is then moved to one split"
        )


def _share(fractions: Mapping[str, float], given: pd.Series) -> Share:
    """The splits that are dealt to, most protected first, with their exact parts of what is
    dealt.
    """
    if unknown := sorted(set(given) - {"", *PROTECTED}):
        raise FieldmarkError(
            f"Unknown given split {unknown[0]!r}; valid are {', '.join(NEEDED)} and nothing."
        )
    parts = {split: Fraction(str(fractions[split])) for split in PROTECTED}
    closed = set(given) & {"test", "val"}
    dealt = {split: part for split, part in parts.items() if part > 0 and split not in closed}
    whole = sum(dealt.values(), start=Fraction(0))
    return {split: part / whole for split, part in dealt.items()} or {"train": Fraction(1)}


def _groups(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a group: size in images, given split, and the label and stratum that most members
    have.
    """
    # The first name in the alphabet wins a tie, whatever the order of rows.
    kinds = rows.groupby(["dup_group", "label", "stratum"], as_index=False).size()
    kinds = kinds.sort_values(
        ["dup_group", "size", "label", "stratum"], ascending=[True, False, True, True]
    )
    groups = kinds.drop_duplicates("dup_group").set_index("dup_group")
    groups["size"] = rows.groupby("dup_group").size()
    groups["key"] = list(zip(groups["label"], groups["stratum"], strict=True))
    groups["given"] = ""
    for split in reversed(PROTECTED):
        groups.loc[
            groups.index.isin(rows.loc[rows["given_split"] == split, "dup_group"]), "given"
        ] = split
    return groups


def _hash(seed: int, name: object) -> str:
    return blake2b(f"{seed}:{name}".encode(errors="surrogatepass")).hexdigest()


def _quotas(sizes: dict[Hashable, int], share: Share, seed: int) -> dict[Hashable, Counts]:
    """Whole images for each stratum and split: each within 1 of its share, their sums the nearest
    to the fractions.

    Controlled rounding of a table (Cox 1987). After rounding down, at most one image a split is
    open in each stratum; giving it to the splits that lack most always works out (Gale and Ryser
    1957).
    """
    quotas = {
        key: {split: int(size * part) for split, part in share.items()}
        for key, size in sizes.items()
    }
    lacking = _rounded(sum(sizes.values()), share)
    for quota in quotas.values():
        lacking = {split: lacking[split] - quota[split] for split in share}
    # In the order of a hash, or else the first strata of the alphabet would get all that is rounded
    # up.
    for key in sorted(sizes, key=lambda key: _hash(seed, key)):
        left = sizes[key] - sum(quotas[key].values())
        for split in sorted(share, key=lambda split: -lacking[split])[:left]:
            quotas[key][split] += 1
            lacking[split] -= 1
    return quotas


def _rounded(total: int, share: Share) -> Counts:
    """Largest remainders."""
    counts = {split: int(total * part) for split, part in share.items()}
    left = total - sum(counts.values())
    for split in sorted(share, key=lambda split: counts[split] - total * share[split])[:left]:
        counts[split] += 1
    return counts


def _cut(sizes: list[int], quota: Counts, ahead: Counts) -> list[str]:
    """The split of each group of a stratum, in order; the last split takes what the others leave.

    ahead counts the images that each split has beyond its quotas so far, and is brought up to date:
    a group across a border goes to the side where the whole comes nearer to its fractions.
    """
    splits: list[str] = []
    for split in list(quota)[:-1]:
        missing = quota[split]
        for size in sizes[len(splits) :]:
            across = size > missing
            if missing <= 0 or (
                across and abs(ahead[split] + size - missing) >= abs(ahead[split] - missing)
            ):
                break
            splits.append(split)
            missing -= size
        ahead[split] -= missing
    return splits + [list(quota)[-1]] * (len(sizes) - len(splits))


def _represented(splits: pd.Series, free: pd.Series, share: Share) -> pd.Series:
    """The splits of one class's groups with as few free groups moved as give each split at least
    one.
    """
    splits = splits.copy()
    for split in NEEDED:
        donor = _donor(split, splits, free, share)
        if split in share and donor and not (splits == split).any():
            splits.loc[splits[free & (splits == donor)].index[-1]] = split
    return splits


def _donor(split: str, splits: pd.Series, free: pd.Series, share: Share) -> str:
    """Who can spare a group: the split with the most, or with its only one a split served later; ""
    for nobody.
    """
    able = [other for other in share if (free & (splits == other)).any()]
    rich = [other for other in able if (splits == other).sum() > 1]
    later = [
        other
        for other in reversed(NEEDED)
        if other in able and NEEDED.index(other) > NEEDED.index(split)
    ]
    return max(rich, key=lambda other: (splits == other).sum(), default=later[0] if later else "")
