"""Values merged by keys: what I turned, what upstream changed, and the comments of both."""

import string
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pipeline.repository import blocks, merging

BASE = """\
# What you turned.
seed: 0
images: data/images        # a folder

tune: {use: default}       # how long
fit: {use: default, epochs: 3}
old: {use: default}

# Beside the pipeline.
serving: {use: default}
"""


def merged(mine: str, theirs: str, base: str = BASE) -> tuple[str, list[str]]:
    return merging.merge_texts(base, mine, theirs, None)


def values(text: str) -> Any:
    return OmegaConf.to_container(OmegaConf.create(text))


def test_what_i_turned_stays_and_what_is_new_comes_in_with_its_comments() -> None:
    mine = BASE.replace("images: data/images        # a folder", "images: /mine            # Ada's")
    theirs = BASE.replace("# a folder", "# a folder or archive").replace(
        "# Beside", "# Of the new stage.\nsegment: {use: default}  # masks\n\n# Beside"
    )
    text, notes = merged(mine, theirs)
    assert text == theirs.replace(
        "images: data/images        # a folder or archive", "images: /mine            # Ada's"
    )
    assert notes == []


def test_a_section_turned_by_both_sides_holds_the_keys_of_both() -> None:
    mine = BASE.replace("{use: default, epochs: 3}", "{use: default, epochs: 9}")
    theirs = BASE.replace("{use: default, epochs: 3}", "{use: default, epochs: 3, lr: 1e-3} # new")
    text, notes = merged(mine, theirs)
    assert "fit: {use: default, epochs: 9, lr: 0.001} # new\n" in text and notes == []


def test_a_key_turned_by_both_sides_stays_mine_and_that_is_said() -> None:
    text, notes = merged(BASE.replace("seed: 0", "seed: 1"), BASE.replace("seed: 0", "seed: 2"))
    assert text == BASE.replace("seed: 0", "seed: 1")
    assert notes == ["seed: 1 stays; upstream now has 2"]


@pytest.mark.parametrize("turned", ["", ", trials: 4"])
def test_what_upstream_removed_goes_away_and_that_is_said(turned: str) -> None:
    mine = BASE.replace("old: {use: default", f"old: {{use: default{turned}")
    text, notes = merged(mine, BASE.replace("old: {use: default}\n", ""))
    assert "old" not in values(text)
    assert notes[0].startswith("old: gone upstream") and ("trials" in notes[0]) == bool(turned)


def test_the_keys_i_turned_stay_with_the_file_they_were_chosen_for() -> None:
    mine = BASE.replace("epochs: 3", "epochs: 9")
    text, notes = merged(mine, BASE.replace("fit: {use: default", "fit: {use: quick"))
    assert values(text)["fit"] == {"use": "default", "epochs": 9}
    assert notes == ["fit.use: default stays; upstream now has quick"]
    untouched, _ = merged(BASE, BASE.replace("fit: {use: default", "fit: {use: quick"))
    assert values(untouched)["fit"]["use"] == "quick"


def test_what_i_added_or_removed_stays_so() -> None:
    mine = BASE.replace("fit: {use: default, epochs: 3}", "mine: 1\nfit: {use: default}")
    text, _ = merged(mine, BASE.replace("seed: 0", "seed: 2"))
    assert (
        values(text)["fit"] == {"use": "default"} and "default}       # how long\nmine: 1\n" in text
    )


def test_nested_blocks_lists_and_odd_keys_are_kept_as_they_stand() -> None:
    base = "# head\nspace:\n  # over two lines\n  lr: {low: 0.1}\n\n  px: [1, 2]\nlist:\n- a\n- b\n'a b': x\n"
    mine = base.replace("low: 0.1", "low: 0.3")
    theirs = base.replace("- b", "- c").replace("# head", "# new head")
    assert merged(mine, theirs, base)[0] == theirs.replace("low: 0.1", "low: 0.3")


def test_text_that_does_not_fall_into_blocks_keeps_its_values() -> None:
    base = "{seed: 0, tune: {use: default}}\n"
    text, notes = merged(base.replace("seed: 0", "seed: 1"), base.replace("default", "quick"), base)
    assert values(text) == {"seed": 1, "tune": {"use": "quick"}} and notes == ["comments are lost"]


def test_the_projects_own_files_fall_into_blocks() -> None:
    files = [ROOT / "params.yaml", *sorted((ROOT / "conf").glob("*/*.yaml"))]
    for file in files:
        text = file.read_text()
        parts = blocks.split(text)
        assert "".join(b.above + b.lines for b in parts.values()) == text, file
        assert {*parts} - {""} == {*values(text)}, file


KEYS = st.text(string.ascii_lowercase, min_size=1, max_size=2).filter(
    lambda key: key not in {"on", "no", "y", "n"}
)
SCALARS = st.one_of(
    st.integers(-9, 9), st.booleans(), st.text("ab #:'-ü", max_size=4), st.floats(0, 1)
)
SECTIONS = st.dictionaries(
    KEYS, st.one_of(SCALARS, st.dictionaries(KEYS, SCALARS, max_size=3)), max_size=4
)


@given(base=SECTIONS, mine=SECTIONS, theirs=SECTIONS, data=st.data())
def test_whatever_both_sides_wrote_a_merge_has_every_value_of_one_side_or_the_other(
    base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any], data: st.DataObject
) -> None:
    """And those that I alone turned, and those that upstream alone changed."""
    flow = data.draw(st.booleans())
    texts = [
        merging.safe_dump(side, default_flow_style=flow or None) for side in (base, mine, theirs)
    ]
    result = values(merging.merge_texts(*texts, None)[0])
    assert set(result) <= {*mine, *theirs}
    for key in {*base, *mine, *theirs}:
        sides = [side.get(key, merging.ABSENT) for side in (base, mine, theirs)]
        now = result.get(key, merging.ABSENT)
        if blocks.same(sides[0], sides[1]):
            assert blocks.same(now, sides[2])
        elif blocks.same(sides[0], sides[2]):
            assert blocks.same(now, sides[1])
