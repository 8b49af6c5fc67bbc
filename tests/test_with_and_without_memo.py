"""What is remembered changes no result, and a finished project computes only what is new."""

import os
import re
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from conftest import copy_built
from programs import succeed

pytestmark = pytest.mark.slow

MEASURED = {"export/metrics.json"}  # the latency of the exported file
# Where nothing is remembered, the costs of the candidates are measured anew, too.
COSTS = {
    "model-search/leaderboard.csv",
    "model-search/leaderboard.svg",
    "model-search/metrics.json",
    "evaluate/report.html",
}


def results(folder: Path) -> dict[str, str]:
    files = {
        path.relative_to(folder / "data").as_posix(): path
        for path in (folder / "data").glob("*/**/*")
        if path.is_file()
    }
    return {name: sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


def differing(one: Path, other: Path) -> set[str]:
    a, b = results(one), results(other)
    assert a.keys() == b.keys() and len(a) > 40
    return {name for name, content in a.items() if b[name] != content}


def repro(folder: Path, cache: Path, *arguments: str) -> str:
    done = succeed(folder, cache, "dvc", "repro", *arguments)
    return done.stdout + done.stderr


def trained(log: str) -> dict[str, bool]:
    """Of each candidate whether it was trained, on any rung."""
    of_candidate: dict[str, bool] = {}
    for part in re.split(r"^candidate ", log, flags=re.MULTILINE)[1:]:
        name = part.partition(":")[0]
        anew = "  remembered" not in part.splitlines()
        of_candidate[name] = anew or of_candidate.get(name, False)
    return of_candidate


def test_with_all_remembered_the_outputs_are_the_same_to_the_byte(
    built: Path, cache: Path, tmp_path: Path
) -> None:
    folder = copy_built(built, tmp_path / "project")
    log = repro(folder, cache, "--force")
    assert differing(folder, built) <= MEASURED
    assert trained(log) == {"lite0": False, "small_cnn": False, "hog": False}
    assert log.count("(remembered)") == 3  # trials of tune
    assert not re.search(r"(features|looks|scan):\s+\d+%", log), "nothing is described again"


def test_with_nothing_remembered_the_outputs_are_the_same_to_the_byte(
    built: Path, tmp_path: Path
) -> None:
    folder, cache = copy_built(built, tmp_path / "project"), tmp_path / "empty"
    (folder / ".fieldmark" / "studies.journal").unlink()
    log = repro(folder, cache, "--force")
    assert differing(folder, built) <= MEASURED | COSTS
    assert trained(log) == {"lite0": True, "small_cnn": True, "hog": True}
    described = Counter(
        (place.parent.name, key)
        for place in (cache / "features").rglob("*.npz")
        for key in np.load(place)["keys"].tolist()
    )
    assert set(described.values()) == {1}, "features of an image and view are computed once"
    assert "ingest" in os.listdir(cache)


def test_a_candidate_that_is_added_by_a_file_is_trained_alone(
    built: Path, cache: Path, tmp_path: Path
) -> None:
    folder = copy_built(built, tmp_path / "project")
    conf, params = folder / "conf" / "candidate", folder / "params.yaml"
    text = (conf / "hog.yaml").read_text()
    (conf / "mine.yaml").write_text(text.replace("C: 0.0002}", "C: 0.0003}"))
    added = "candidates:\n  mine: {use: mine, extractor: {input_px: 64}}\n"
    params.write_text(params.read_text().replace("candidates:\n", added))
    log = repro(folder, cache, "model-search")
    assert trained(log) == {"mine": True, "lite0": False, "small_cnn": False, "hog": False}
    (conf / "mine.yaml").write_text("# What it reached.\n" + (conf / "mine.yaml").read_text())
    log = repro(folder, cache, "model-search")
    assert "Running stage 'model-search'" in log and not any(trained(log).values())
