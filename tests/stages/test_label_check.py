import gc
import io
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from packing import write_images
from PIL import Image
from toys import HOG, candidate

from pipeline import FieldmarkError
from pipeline.compute import parallel
from pipeline.config import Config, schema
from pipeline.evaluation import caveats
from pipeline.labels import audit
from pipeline.report import reading
from pipeline.stages import ingest, label_check
from pipeline.storage import store, table

N = 60
TRUE = ["ant", "bee"] * (N // 2)
FLIPPED = [4, 15, 33]
COPY, ORIGINAL = 58, 10  # an image that is nearly the same as another
QUALITY = {
    "dark": 0.02,
    "bright": 0.99,
    "blur": 0.0,
    "low_information": 0.0,
    "odd_size": 10.0,
    "odd_aspect": 3.0,
}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty striped images of two classes in patches of light, three with the other label, and one
    that is another, a little brighter.
    """
    folder = tmp_path_factory.mktemp("ingest")
    stripes = np.tile(np.repeat([40, 160], 4), 4)
    bars = {"ant": np.tile(stripes, (32, 1)), "bee": np.tile(stripes[:, None], 32)}
    patches = (
        np.random.default_rng(1).integers(0, 60, (N, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    )
    pixels = (np.stack([bars[name] for name in TRUE])[..., None] + patches).astype(np.uint8)
    pixels[COPY] = pixels[ORIGINAL] + 3
    files = [png(image) for image in pixels]
    write_images(folder, [(f"i{i:02d}", file) for i, file in enumerate(files)], shard_bytes=10**6)
    given = [
        ("bee" if name == "ant" else "ant") if i in FLIPPED else name for i, name in enumerate(TRUE)
    ]
    blank = {
        name: ["" if kind == "str" else 32] * N for name, kind in table.INGEST_COLUMNS.items()
    } | {"metadata": ["{}"] * N, "weight": [1.0] * N}
    ids = [f"i{i:02d}" for i in range(N)]
    table.write(
        pd.DataFrame({**blank, "id": ids, "name": [f"{id}.png" for id in ids], "label": given}),
        folder,
    )
    return folder


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def configured(**changes: Any) -> Config:
    settings = {
        "size_px": 32,
        "errors": {"folds": 5, "C": 1.0, "max_fraction": 0.2},
        "duplicates": {"max_hamming": 4, "min_cosine": 0.999},
        "neighbours": 3,
        "audit": {"fractions": [0.1], "max_images": 50, "verified": None},
        "outliers": {"deviations": 3.0},
        "classes": {"min_images": 10, "max_imbalance": 10.0},
        "correlates": {"min_auc": 0.85, "ignore": []},
        "max_leakage": 0.2,
        "quality": QUALITY,
        "drop_suspects": False,
        "fractions": {"train": 0.6, "val": 0.2, "test": 0.2},
        **changes,
    }
    made = candidate({**HOG, "input_px": 32}).model_dump(exclude={"name", "members", "defense"})
    embedding = schema.CandidateFile.model_validate(made)
    return Config(
        seed=0,
        blur_faces=False,
        label_check=schema.LabelCheck.model_validate(settings),
        embedding=embedding,
    )


def run(
    ingested: Path, tmp_path: Path, decisions: str = "", **changes: Any
) -> tuple[dict[str, float], pd.DataFrame]:
    (tmp_path / "decisions").mkdir(exist_ok=True)
    (tmp_path / "decisions" / "labels.csv").write_text("id,decision,label,by,when\n" + decisions)
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    metrics = label_check.run(
        configured(**changes), ingest=ingested, decisions=tmp_path / "decisions", out=out
    )
    return metrics, table.read(out).set_index("id")


@pytest.fixture(autouse=True)
def _quick(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(shared_cache))
    monkeypatch.setattr(
        parallel, "apart", lambda function, *arguments: function(*arguments)
    )  # torch is here already


def flipped() -> set[str]:
    return {f"i{i:02d}" for i in FLIPPED}


def test_labels_that_were_flipped_are_doubted_and_the_true_ones_suggested(
    ingested: Path, tmp_path: Path
) -> None:
    metrics, rows = run(ingested, tmp_path)
    doubted = rows[rows["suspect"]]
    assert flipped() <= set(doubted.index)
    assert len(doubted) <= 6 and metrics["n_suspect_labels"] == len(doubted)
    assert [rows.loc[f"i{i:02d}", "suggested_label"] for i in FLIPPED] == [TRUE[i] for i in FLIPPED]
    assert set(pd.read_csv(tmp_path / "out" / "suspects.csv")["id"].head(3)) == flipped()


def test_near_duplicates_lie_in_one_split(ingested: Path, tmp_path: Path) -> None:
    _, rows = run(ingested, tmp_path)
    assert rows["dup_group"].nunique() < N
    assert rows.loc[f"i{COPY}", "dup_group"] == rows.loc[f"i{ORIGINAL}", "dup_group"]
    assert (rows.groupby("dup_group")["split"].nunique() == 1).all()


def test_what_a_person_decided_is_doubted_no_more(ingested: Path, tmp_path: Path) -> None:
    decisions = "i04,keep,,me,2026-01-01\ni15,relabel,ant,me,2026-01-01\ni33,drop,,me,2026-01-01\n"
    metrics, rows = run(ingested, tmp_path, decisions)
    assert not rows.loc[["i04", "i15"], "suspect"].any()
    assert (rows.loc["i04", "label"], rows.loc["i15", "label"]) == ("bee", "ant")
    assert rows.loc["i33", "split"] == ""
    assert metrics["n_decisions_applied"] == 3


def test_no_table_is_there_while_the_network_computes(
    ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing takes as much memory as the network: what grows with the number of images must not
    stand beside it.
    """
    beside: list[int] = []
    tables: list[weakref.ref[pd.DataFrame]] = []

    def read(folder: Path, read: Callable[[Path], pd.DataFrame] = table.read) -> pd.DataFrame:
        found = read(folder)
        tables.append(weakref.ref(found))
        return found

    def computed(function: Callable[..., Any], *arguments: Any) -> Any:
        gc.collect()
        beside.append(sum(one() is not None for one in tables))
        return function(*arguments)

    monkeypatch.setattr(table, "read", read)
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(parallel, "apart", computed)
    run(ingested, tmp_path)
    assert beside == [0]


def test_suspects_may_be_dropped_from_training_and_never_from_the_test(
    ingested: Path, tmp_path: Path
) -> None:
    _, kept = run(ingested, tmp_path)
    _, dropped = run(ingested, tmp_path, drop_suspects=True)
    suspect, test = kept["suspect"], kept["split"] == "test"
    assert (dropped["split"][test] == "test").all()
    left_out = (dropped["split"] == "") & (kept["split"] != "")
    assert left_out.sum() > 0 and not left_out[test].any()
    assert (dropped["split"][~left_out] == kept["split"][~left_out]).all()
    assert (left_out & suspect).sum() > left_out.sum() / 2


def test_every_class_is_in_every_split(ingested: Path, tmp_path: Path) -> None:
    _, rows = run(ingested, tmp_path)
    assert set(map(tuple, rows[["label", "split"]].to_numpy())) == {
        (a, b) for a in ("ant", "bee") for b in ("train", "val", "test")
    }


def test_the_same_images_give_the_same_bytes(ingested: Path, tmp_path: Path) -> None:
    run(ingested, tmp_path)
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    run(ingested, tmp_path)
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert "squares.npy" not in first


def test_how_good_the_search_is_stands_beside_what_it_found(ingested: Path, tmp_path: Path) -> None:
    metrics, _ = run(ingested, tmp_path)
    audited = pd.read_csv(tmp_path / "out" / "audit.csv")
    assert audited["n_planted"].tolist() == [5]  # 10 % of the sample of 50
    assert metrics["audit/average_precision_uniform_10"] == audited["average_precision"][0]


def test_the_pair_that_shows_most_is_there_with_both_pictures(
    ingested: Path, tmp_path: Path
) -> None:
    run(ingested, tmp_path)
    shown = pd.read_csv(tmp_path / "out" / "pairs.csv")
    assert {f"i{ORIGINAL}.png", f"i{COPY}.png"} in [
        {one["name"], one["other"]} for one in shown.to_dict("records")
    ]
    assert store.read_array(tmp_path / "out" / "pairs.npy").shape == (len(shown), 2, 32, 32, 3)


def test_a_listing_of_noisy_and_verified_labels_is_audited_against_the_real_errors(
    ingested: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = table.read(ingested).set_index("id")
    lines = []
    for i, (id, data) in enumerate(store.read_images(ingested)):
        (tmp_path / f"{id}.png").write_bytes(data)
        weight = "0" if i == 7 else ""
        lines.append(
            f"{id}.png,{rows.loc[id, 'label']},{TRUE[i] if i < 50 else ''},{weight}\n"
        )  # the last ten were not verified
    (tmp_path / "labels.csv").write_text("path,label,checked,weight\n" + "".join(lines))
    columns = dict(OmegaConf.load("conf/ingest/listing.yaml").source.items())
    source = Config(ingest=schema.Ingest(source=columns, max_megapixels=1.0))
    ingest.run(source, images=tmp_path, feedback=tmp_path / "none", out=tmp_path / "listed")
    metrics, checked = run(
        tmp_path / "listed",
        tmp_path,
        audit={"fractions": [], "max_images": 60, "verified": "checked"},
    )
    (real,) = pd.read_csv(tmp_path / "out" / "audit.csv").to_dict("records")
    assert (real["kind"], real["n_planted"], real["random_average_precision"]) == (
        "real",
        len(FLIPPED),
        len(FLIPPED) / 50,
    )
    assert real["average_precision"] == metrics["audit/average_precision_real_6"] > 0.9
    assert checked["weight"].tolist() == [0.0 if i == 7 else 1.0 for i in range(N)]
    monkeypatch.setattr(audit, "CHECKED", tmp_path / "out")
    audit.show(configured(), [0.1], "checked")
    assert f"{real['average_precision']:.3f}" in next(
        line for line in capsys.readouterr().out.splitlines() if "real" in line
    )


def test_a_graded_label_is_doubted_less_than_a_certain_one_that_is_as_wrong(
    ingested: Path, tmp_path: Path
) -> None:
    rows = table.read(ingested)
    graded, *certain = sorted(flipped())
    label, other = rows.set_index("id").loc[graded, "label"], TRUE[FLIPPED[0]]
    shutil.copytree(ingested, tmp_path / "graded")
    table.write(
        rows.assign(
            soft_label=[
                json.dumps({label: 0.6, other: 0.4}) if id == graded else "" for id in rows["id"]
            ]
        ),
        tmp_path / "graded",
    )
    _, checked = run(tmp_path / "graded", tmp_path)
    doubt = checked["suspect_score"]
    assert checked.loc[sorted(flipped()), "suspect"].all()
    assert (
        doubt[graded] == pytest.approx(0.6, abs=0.15) and doubt[certain].min() > doubt[graded] + 0.2
    )


def given_splits(ingested: Path, folder: Path, **splits: str) -> Path:
    """The same images, of which some came in a split."""
    shutil.copytree(ingested, folder)
    rows = table.read(ingested)
    table.write(rows.assign(given_split=[splits.get(id, "") for id in rows["id"]]), folder)
    return folder


def test_a_leak_is_counted_and_its_group_moved_together(ingested: Path, tmp_path: Path) -> None:
    source = given_splits(
        ingested, tmp_path / "source", **{f"i{COPY}": "train", f"i{ORIGINAL}": "test"}
    )
    metrics, rows = run(source, tmp_path, max_leakage=1.0)
    assert metrics["leaks"] == 1
    assert rows.loc[[f"i{COPY}", f"i{ORIGINAL}"], "split"].tolist() == ["test", "test"]
    assert pd.read_csv(tmp_path / "out" / "pairs.csv")["why"][0] == "given to different splits"


def test_too_much_leakage_stops(ingested: Path, tmp_path: Path) -> None:
    source = given_splits(
        ingested, tmp_path / "source", **{f"i{COPY}": "train", f"i{ORIGINAL}": "test"}
    )
    with pytest.raises(FieldmarkError, match="2 of 2 images with a given split"):
        run(source, tmp_path)


def test_small_classes_and_shortcuts_are_named(ingested: Path, tmp_path: Path) -> None:
    """All ants came as files of twice the size, and both classes are smaller than wanted."""
    source = tmp_path / "source"
    shutil.copytree(ingested, source)
    rows = table.read(ingested)
    table.write(
        rows.assign(width=[64 if label == "ant" else 32 for label in rows["label"]]), source
    )
    few = {"min_images": 32, "max_imbalance": 1.01}
    run(source, tmp_path, classes=few)
    found = pd.read_csv(tmp_path / "out" / "findings.csv", keep_default_na=False).set_index(
        "finding"
    )
    assert (
        "by size (AUC 1.00; right 100 %"
        in found.loc["classes told apart by one property alone", "note"]
    )
    assert found.loc["classes with few images", "note"].startswith("ant: 31; bee: 29; from")
    assert found.loc["classes far smaller than the largest", "note"] == "bee: 29"


def test_a_class_that_no_training_image_has_is_named(
    ingested: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(ingested, source)
    rows = table.read(ingested)
    rows.loc[:9, "given_split"] = ["test"] * 5 + ["val"] * 3 + ["test"] * 2
    rows.loc[10:, "given_split"] = "train"
    rows.loc[:4, "label"], rows.loc[5:9, "label"] = "hat", "=cap"
    rows.loc[10:11, "label"], rows.loc[10:11, "weight"] = "wig", 0.0
    table.write(rows, source)
    metrics, _ = run(source, tmp_path, max_leakage=1.0)
    named = "=cap: 2 test, 3 val; hat: 5 test; wig: 2 train with weight 0"
    assert f"classes without a training image: {named}" in capsys.readouterr().out
    assert metrics["n_classes_without_a_training_image"] == 3
    note = reading._label_check(tmp_path / "out").findings.set_index("finding")["note"]
    assert note["classes without a training image"] == named
    (tmp_path / "search.json").write_text('{"better_but_slow": [], "left_out": []}')
    winner = candidate({**HOG, "input_px": 32})
    said = caveats.caveats(rows.assign(suspect=False), winner, tmp_path / "out", tmp_path)
    assert f"The model cannot predict classes without a training image: {named}." in said


def test_where_every_class_has_training_images_nothing_is_said(
    ingested: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, _ = run(ingested, tmp_path)
    assert metrics["n_classes_without_a_training_image"] == 0
    assert "training image" not in capsys.readouterr().out


def with_feedback(ingested: Path, folder: Path, copies_of: list[str]) -> tuple[Path, str]:
    """A copy of the folder with near-copies of some images behind it, as feedback named f0, f1,
    ..., and the decisions that label them.

    Their ids come first in the alphabet of all ids, so that they would name a group if they could.
    """
    files, rows = dict(store.read_images(ingested)), table.read(ingested)
    lighter = [png(np.asarray(Image.open(io.BytesIO(files[id]))) + 2) for id in copies_of]
    added = {f"f{i}": file for i, file in enumerate(lighter)}
    write_images(folder, {**files, **added}.items(), shard_bytes=10**6)
    new = rows.tail(len(added)).assign(
        id=[*added], name=[*added], label="", metadata='{"origin": "feedback"}'
    )
    table.write(pd.concat([rows, new]), folder)
    return folder, "".join(
        f"{id},relabel,{'ant' if i % 2 else 'bee'},me,2026-01-01\n" for i, id in enumerate(added)
    )


def test_feedback_is_trained_on_unless_it_is_like_a_held_out_image_and_moves_no_other(
    ingested: Path, tmp_path: Path
) -> None:
    _, before = run(ingested, tmp_path)
    like = {
        split: before.index[
            (before["split"] == split) & ~before["dup_group"].duplicated(keep=False)
        ][0]
        for split in ("train", "val", "test")
    }
    folder, decided = with_feedback(ingested, tmp_path / "more", [*like.values()])
    metrics, after = run(folder, folder, decided)
    assert after["split"].tail(3).tolist() == ["train", "", ""]
    assert after.loc[before.index, ["split", "dup_group"]].equals(before[["split", "dup_group"]])
    assert after["dup_group"].tail(3).tolist() == before.loc[[*like.values()], "dup_group"].tolist()
    assert (
        metrics["n_feedback_images"],
        metrics["n_feedback_images_left_out_as_they_are_like_held_out_ones"],
    ) == (3, 2)


def test_feedback_whose_acceptance_was_taken_back_is_used_for_nothing(
    ingested: Path, tmp_path: Path
) -> None:
    folder, decided = with_feedback(ingested, tmp_path / "more", ["i20"])
    _, rows = run(folder, tmp_path, decided + "f0,withdraw,,me,2026-01-02\n")
    assert rows.loc["f0", ["label", "split"]].tolist() == ["", ""]
