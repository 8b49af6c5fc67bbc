"""The deal: no leakage, exact shares, the same whatever the order of files."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline import FieldmarkError
from pipeline.labels.splits import add, check_leakage, deal, leaking

FRACTIONS = {"train": 0.6, "val": 0.15, "test": 0.25}
SPLITS = ["train", "val", "test"]

few = settings(max_examples=20)

fractions = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(
    lambda parts: {split: part / sum(parts) for split, part in zip(SPLITS, parts, strict=True)}
)


@st.composite
def tables(draw: st.DrawFn, given_splits: tuple[str, ...] = ("",)) -> pd.DataFrame:
    """Rows in groups of any size, whose members may differ in label and stratum."""
    size = draw(st.integers(0, 40))

    def column(values: st.SearchStrategy[str]) -> list[str]:
        return draw(st.lists(values, min_size=size, max_size=size))

    return pd.DataFrame(
        {
            "label": column(st.sampled_from("abc")),
            "stratum": column(st.sampled_from(["", "x"])),
            "dup_group": column(st.integers(0, 25).map(str)),
            "given_split": column(st.sampled_from(given_splits)),
        },
        dtype=str,
    )


def singles(n_by_stratum: dict[tuple[str, str], int]) -> pd.DataFrame:
    keys = [key for key, n in n_by_stratum.items() for _ in range(n)]
    rows = pd.DataFrame(keys, columns=["label", "stratum"], dtype=str)
    return rows.assign(dup_group=[f"{i:04}" for i in range(len(rows))], given_split="")


@given(
    rows=tables(given_splits=("", "", "train", "val", "test")),
    fractions=fractions,
    seed=st.integers(0, 9),
)
@few
def test_no_group_is_in_two_splits(
    rows: pd.DataFrame, fractions: dict[str, float], seed: int
) -> None:
    dealt = deal(rows, fractions=fractions, seed=seed)
    assert set(dealt) <= set(SPLITS)
    assert dealt.groupby(rows["dup_group"]).nunique().le(1).all()


@given(
    rows=tables(given_splits=("", "train", "val", "test")), random=st.randoms(use_true_random=False)
)
@few
def test_the_order_of_the_rows_never_matters(rows: pd.DataFrame, random: object) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    dealt = deal(rows, fractions=FRACTIONS, seed=0)
    shuffled = deal(rows.iloc[order], fractions=FRACTIONS, seed=0)
    pd.testing.assert_series_equal(shuffled.sort_index(), dealt)


@given(
    sizes=st.dictionaries(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz")),
        st.integers(21, 70),
        min_size=1,
        max_size=5,
    ),
    fractions=fractions,
    seed=st.integers(0, 9),
)
@few
def test_single_images_are_within_one_of_their_share_overall_and_in_each_stratum(
    sizes: dict[tuple[str, str], int], fractions: dict[str, float], seed: int
) -> None:
    fractions = {split: 0.05 + 0.85 * part for split, part in fractions.items()}
    rows = singles(sizes)
    dealt = pd.get_dummies(deal(rows, fractions=fractions, seed=seed), dtype=float)[SPLITS]
    share = np.array([fractions[split] for split in SPLITS])
    assert (abs(dealt.sum() - len(rows) * share) < 1).all()
    counts = dealt.groupby([rows["label"], rows["stratum"]]).sum()
    n = counts.sum(axis=1).to_numpy()[:, None]
    assert (abs(counts - n * share) < 1 + 1e-9).all(axis=None)


def test_2624_images_give_656_to_the_test_split() -> None:
    rows = singles(
        {("no", "mono"): 588, ("no", "poly"): 920, ("yes", "mono"): 486, ("yes", "poly"): 630}
    )
    dealt = deal(rows, fractions=FRACTIONS, seed=0).value_counts()
    assert dealt["test"] == 656
    assert dealt["val"] in (393, 394)


def test_many_strata_of_one_image_still_meet_the_fractions() -> None:
    rows = singles({("a", str(i)): 1 for i in range(100)})
    dealt = deal(rows, fractions=FRACTIONS, seed=0)
    assert dealt.value_counts().to_dict() == {"train": 60, "test": 25, "val": 15}
    assert dealt.iloc[:50].nunique() == 3


@given(sizes=st.lists(st.integers(1, 4), min_size=30, max_size=60), seed=st.integers(0, 9))
@few
def test_groups_of_several_images_stay_near_the_fractions(sizes: list[int], seed: int) -> None:
    labels = ["ab"[i % 2] for i, size in enumerate(sizes) for _ in range(size)]
    groups = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    rows = pd.DataFrame({"label": labels, "stratum": "", "dup_group": groups, "given_split": ""})
    dealt = deal(rows, fractions=FRACTIONS, seed=seed)
    assert abs((dealt == "test").sum() - 0.25 * len(rows)) <= 4
    assert abs((dealt == "val").sum() - 0.15 * len(rows)) <= 4


@given(n=st.integers(1, 9), seed=st.integers(0, 20), fractions=fractions)
@few
def test_a_small_class_is_in_as_many_splits_as_it_can_be(
    n: int, seed: int, fractions: dict[str, float]
) -> None:
    rows = singles({("rare", ""): n, ("common", ""): 30})
    dealt = deal(rows, fractions=fractions, seed=seed)
    expected = {1: {"train"}, 2: {"train", "test"}}
    assert set(dealt[rows["label"] == "rare"]) == expected.get(n, set(SPLITS))


@given(rows=tables(given_splits=("", "train", "val", "test")))
@few
def test_a_given_split_is_kept_unless_its_group_was_given_to_a_more_protected_one(
    rows: pd.DataFrame,
) -> None:
    assume((rows["given_split"] == "").groupby(rows["dup_group"]).all().any())
    dealt = deal(rows, fractions=FRACTIONS, seed=0)
    protection = {"": 0, "train": 1, "val": 2, "test": 3}
    most = rows["given_split"].map(protection).groupby(rows["dup_group"]).transform("max")
    assert dealt.map(protection)[most > 0].tolist() == most[most > 0].tolist()


@pytest.mark.parametrize("closed", ["val", "test"])
def test_nothing_is_dealt_to_a_split_that_was_given(closed: str) -> None:
    rows = singles({("a", ""): 30, ("b", ""): 30})
    rows.loc[::10, "given_split"] = closed
    dealt = deal(rows, fractions=FRACTIONS, seed=0)
    assert (dealt == closed).tolist() == (rows["given_split"] == closed).tolist()
    assert set(dealt) == set(SPLITS)


def test_when_test_and_val_are_given_all_else_trains() -> None:
    rows = singles({("a", ""): 10})
    rows.loc[[0, 1], "given_split"] = ["test", "val"]
    dealt = deal(rows, fractions=FRACTIONS, seed=0)
    assert dealt.tolist() == ["test", "val"] + ["train"] * 8


def test_given_train_rows_leave_the_other_splits_open() -> None:
    rows = singles({("a", ""): 40})
    rows.loc[:19, "given_split"] = "train"
    dealt = deal(rows, fractions=FRACTIONS, seed=0)
    assert dealt[20:].value_counts().to_dict() == {"train": 12, "test": 5, "val": 3}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["train", "test"], {"train": 32, "val": 8, "test": 20}),
        (["train", "val"], {"train": 28, "val": 20, "test": 12}),
        (["train"], {"train": 24, "val": 6, "test": 10}),
    ],
)
def test_a_split_that_is_missing_where_all_were_given_comes_from_train(
    given: list[str], expected: dict[str, int]
) -> None:
    """Most data sets come as train/ and test/, and nothing could be chosen by an empty val."""
    rows = singles({("a", ""): 10 + 10 * len(given), ("b", ""): 10 + 10 * len(given)})
    rows["given_split"] = "train"
    rows.loc[::3, "given_split"] = given[-1]
    dealt = deal(rows, fractions=FRACTIONS, seed=0)
    assert dealt.value_counts().to_dict() == expected
    assert given == ["train"] or set(dealt[::3]) == {given[-1]}


def test_a_group_given_to_two_splits_is_counted_as_a_leak() -> None:
    rows = singles({("a", ""): 6})
    rows["dup_group"] = list("ppqqrr")
    rows["given_split"] = ["train", "test", "val", "", "train", "train"]
    assert rows.loc[leaking(rows), "dup_group"].nunique() == 1
    assert (
        deal(rows, fractions=FRACTIONS, seed=0).tolist()
        == ["test"] * 2 + ["val"] * 2 + ["train"] * 2
    )


def given_twice(*members: tuple[str, str]) -> pd.DataFrame:
    rows = pd.DataFrame(members, columns=["dup_group", "given_split"], dtype=str)
    return rows.assign(name=[f"{i}.png" for i in range(len(rows))])


def test_only_what_was_given_to_several_splits_leaks() -> None:
    rows = given_twice(
        ("a", "train"),
        ("a", "test"),
        ("b", "train"),
        ("b", "train"),
        ("c", "test"),
        ("a", ""),
        ("", ""),
    )
    assert leaking(rows).tolist() == [True, True, False, False, False, False, False]


def test_above_the_limit_leakage_stops_and_an_example_is_named() -> None:
    rows = given_twice(("a", "train"), ("a", "test"), ("b", "train"), ("c", "test"))
    check_leakage(rows, leaking(rows), at_most=0.5)
    with pytest.raises(
        FieldmarkError, match=r"2 of 4 images .* 0.png and 1.png; label_check.max_leakage is 0.4"
    ):
        check_leakage(rows, leaking(rows), at_most=0.4)


def test_nothing_leaks_where_no_split_was_given() -> None:
    rows = given_twice(("a", ""), ("a", ""))
    check_leakage(rows, leaking(rows), at_most=0.0)


@given(n=st.integers(12, 60), seed=st.integers(0, 9))
@few
def test_a_new_image_moves_at_most_one_neighbour_at_each_border(n: int, seed: int) -> None:
    before = deal(singles({("a", ""): n}), fractions=FRACTIONS, seed=seed)
    after = deal(singles({("a", ""): n + 1}), fractions=FRACTIONS, seed=seed)
    assert (after[:n] != before).sum() <= 2


def test_another_seed_deals_otherwise_with_the_same_counts() -> None:
    rows = singles({("a", ""): 100})
    first, second = (deal(rows, fractions=FRACTIONS, seed=seed) for seed in (0, 1))
    assert first.tolist() != second.tolist()
    assert sorted(first) == sorted(second)


def test_a_fraction_of_zero_gets_nothing() -> None:
    rows = singles({("a", ""): 20})
    dealt = deal(rows, fractions={"train": 0.8, "val": 0.0, "test": 0.2}, seed=0)
    assert dealt.value_counts().to_dict() == {"train": 16, "test": 4}


def test_an_unknown_given_split_is_refused() -> None:
    with pytest.raises(FieldmarkError, match="'dev'"):
        deal(singles({("a", ""): 3}).assign(given_split="dev"), fractions=FRACTIONS, seed=0)


def test_feedback_goes_to_train_unless_it_is_tied_to_what_is_held_out() -> None:
    together = pd.Series(["a", "a", "b", "b", "c", "c", "d"])
    split = pd.Series(["test", "", "val", "", "train", "", ""])
    feedback = pd.Series([False, True, False, True, False, True, True])
    assert add(split, together, feedback).to_dict() == {1: "", 3: "", 5: "train", 6: "train"}
