"""Labelling from nothing over the page's own HTTP interface: how many actions a person needs, and
how good the labels are.

The person knows the truth. An action is a click that takes an image out of a group, or a key that
labels what is left.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from programs import succeed
from projects import browser_of, write_project
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pipeline.labels import decisions
from pipeline.storage import store, table


class Labelled(NamedTuple):
    """What came of it: images in the order of labelling, and the actions that took."""

    ids: list[str]
    actions: int


def label(page: TestClient, truth: dict[str, str], n: int) -> Labelled:
    """Label n images or a few more, always what the page puts first."""
    ids: list[str] = []
    actions = 0
    while len(ids) < n:
        members = [
            one["id"] for one in page.get("/api/groups", params={"n": 1}).json()[0]["members"]
        ]
        most = Counter(truth[id] for id in members).most_common(1)[0][0]
        chosen = [id for id in members if truth[id] == most]
        said = page.post(
            "/api/decisions",
            json={"ids": chosen, "decision": "relabel", "label": most, "new": True},
        )
        assert said.status_code == 200
        page.app.state.learner.wait()  # type: ignore[attr-defined]
        ids += chosen
        actions += 1 + len(members) - len(chosen)
    return Labelled(ids, actions)


def test_a_person_labels_heaps_with_few_actions(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    classes, heaps = (np.repeat(random.normal(size=(n, 16)), 200 // n, axis=0) for n in (4, 20))
    embedding = 6 * classes + heaps + 0.2 * random.normal(size=(200, 16))
    folder = write_project(tmp_path, [""] * 200, [bytes([i]) for i in range(200)], {}, embedding)
    truth = {
        id: f"c{i // 50}" for i, id in enumerate(table.read(folder / "data" / "label-check")["id"])
    }
    page = browser_of(folder, "Ada")
    done = label(page, truth, 120)
    assert done.actions < 40
    said = decisions.read(folder / "data" / "decisions")
    assert dict(zip(said["id"], said["label"], strict=True)) == {id: truth[id] for id in done.ids}
    growth = page.get("/api/growth").json()
    assert growth["measured"][-1]["accuracy"] > 0.9


def held_out_accuracy(
    seen: np.ndarray, labels: np.ndarray, known: np.ndarray, held_out: np.ndarray
) -> float:
    scale = StandardScaler().fit(seen[known])
    model = LogisticRegression(C=0.001, max_iter=10_000).fit(
        scale.transform(seen[known]), labels[known]
    )
    return float(model.score(scale.transform(seen[held_out]), labels[held_out]))


@pytest.mark.benchmark
def test_five_hundred_digits_from_no_label(
    project: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("ingest: {use: elpv}", "ingest: {use: digits}"))
    succeed(project, cache, "dvc", "repro", "label-check")
    found = project / "data" / "label-check"
    rows, seen = table.read(found), np.array(store.read_array(found / "embedding.npy"), np.float32)
    held_out = np.random.default_rng(0).permutation(len(rows))[:1000]
    pool = np.setdiff1d(np.arange(len(rows)), held_out)
    unlabelled(found, rows, seen, pool)
    truth = dict(zip(rows["id"], rows["given_label"], strict=True))
    done = label(browser_of(project, "Ada"), truth, 500)
    place = {id: i for i, id in enumerate(rows["id"])}
    labels = rows["given_label"].to_numpy(str)
    ours = held_out_accuracy(seen, labels, np.array([place[id] for id in done.ids[:500]]), held_out)
    draws = [np.random.default_rng(seed).permutation(pool) for seed in range(5)]
    random = {
        n: [held_out_accuracy(seen, labels, draw[:n], held_out) for draw in draws]
        for n in (done.actions, 500)
    }
    with capsys.disabled():
        print(f"\n500 labels in {done.actions} actions: {ours:.1%}")
        for n, scores in random.items():
            print(
                f"{n} random labels in {n} actions: {np.mean(scores):.1%} ({min(scores):.1%} "
                f"to {max(scores):.1%})"
            )
    assert done.actions < 300
    assert ours > np.mean(random[500]) - 0.02


def unlabelled(found: Path, rows: pd.DataFrame, seen: np.ndarray, pool: np.ndarray) -> None:
    """Leave only the pool, and nothing of its labels."""
    blank = rows.iloc[pool].assign(label="", given_label="", suggested_label="", suspect=False)
    (found / "table.parquet").unlink()
    table.write(blank, found)
    np.save(found / "embedding.npy", seen[pool].astype(np.float16))
    np.save(found / "neighbours.npy", np.zeros((len(pool), 1), np.int32))
    pairs = pd.read_csv(found / "near_duplicates.csv")
    pairs[:0].to_csv(found / "near_duplicates.csv", index=False)
