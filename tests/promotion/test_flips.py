"""Which answers flipped between two versions, and what of the difference the data explains."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.promotion import flips

ROWS = pd.DataFrame(
    {
        "id": [*"abcde"],
        "name": [f"{name}.png" for name in "abcde"],
        "label": ["ant", "ant", *["bee"] * 3],
    }
)
ONE = np.array(["ant", "bee", "bee", "ant", "wasp"], dtype=object)
OTHER = np.array(["ant", "ant", "ant", "wasp", "wasp"], dtype=object)
TITLES = {"one": "3", "other": "4"}


def frame(rows: dict[str, tuple[str, str]]) -> pd.DataFrame:
    data = [(id, *rest) for id, rest in rows.items()]
    return pd.DataFrame(data, columns=["id", "label", "split"])


def test_answers_that_differ_are_named_by_who_is_right() -> None:
    flipped = flips.flips(ROWS, ONE, OTHER)
    assert dict(zip(flipped["name"], flipped["way"], strict=True)) == {
        "b.png": "gained",
        "c.png": "lost",
        "d.png": "both wrong",
    }
    assert flips.in_words(flipped, 5, TITLES) == [
        "1 of 5: only version 4 is right (b.png)",
        "1 of 5: only version 3 is right (c.png)",
        "1 of 5: both are wrong, in different ways (d.png)",
    ]


def test_the_page_shows_each_flipped_picture_and_no_name_becomes_markup() -> None:
    rows = ROWS.assign(name="<script>alert(1)</script>")
    page = flips.page(flips.flips(rows, ONE, OTHER), np.zeros((5, 8, 8, 3), np.uint8), TITLES)
    assert page.count('<img src="data:image/webp;base64,') == 3
    assert "<script>" not in page and "version 4: ant" in page


def test_images_and_labels_that_came_went_and_changed_are_counted() -> None:
    before = frame(
        {"a": ("ant", "train"), "b": ("ant", "test"), "c": ("", "train"), "d": ("bee", "val")}
    )
    after = frame(
        {"a": ("bee", "test"), "b": ("ant", "test"), "c": ("bee", "train"), "e": ("bee", "val")}
    )
    assert flips.changes(before, after) == [
        "data since then: 1 images came, 1 images went, 1 labels changed, 1 images got a label",
        "changed labels: ant to bee 1",
    ]
    assert flips.changes(before, before) == ["data since then: the same images and labels"]
    assert flips.learned_from(before, after) == 2


def test_the_difference_is_split_between_the_model_and_the_test_images() -> None:
    lines = flips.explained(before=0.9, on_the_same=0.84, after=0.88, learned=2)
    assert "+0.040 by the model, and -0.060 by other test images" in lines[0]
    assert lines[1].startswith("the old version learned from 2 of today's test images")


def test_the_table_of_a_version_is_found_in_dvcs_cache_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flips, "CACHE", tmp_path)
    rows = frame({"a": ("ant", "train")})

    def keep(data: bytes, suffix: str = "") -> str:
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() + suffix
        (tmp_path / md5[:2]).mkdir(exist_ok=True)
        (tmp_path / md5[:2] / md5[2:]).write_bytes(data)
        return md5

    listing = json.dumps([{"md5": keep(rows.to_parquet()), "relpath": "table.parquet"}])
    found = flips.labelled({"data.label-check": keep(listing.encode(), ".dir")})
    assert found is not None
    pd.testing.assert_frame_equal(found, rows, check_dtype=False)
    assert flips.labelled({"data.label-check": "0" * 32 + ".dir"}) is None
    assert flips.labelled({}) is None
