"""An edit of any value, in conf/ or params.yaml, re-runs the stages that use it and no other."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SMOKE, copy_built
from dvc.repo import Repo
from programs import run, succeed

from pipeline import FieldmarkError, config

Place = tuple[str, ...]

STAGES = [
    "ingest",
    "label-check",
    "preprocess",
    "augment",
    "model-search",
    "tune",
    "evaluate",
    "export",
]
# Said here once more, so that dvc.yaml is compared with something.
USED_BY = {
    "name": {"evaluate", "export"},
    "seed": {*STAGES},
    "images": {"ingest"},
    "blur_faces": {"label-check", "preprocess", "export"},
    "ingest": {"ingest"},
    "label_check": {"label-check"},
    "embedding": {"label-check"},
    "preprocess": {"preprocess", "evaluate", "export"},
    "augment": {"augment"},
    "candidates": {"model-search"},
    "fit": {"model-search"},
    "defense": {"model-search"},
    "model_search": {"model-search"},
    "tune": {"tune", "evaluate"},
    "evaluate": {"evaluate"},
    "export": {"evaluate", "export"},
    # What runs beside the pipeline re-runs none of it.
    "promotion": set(),
    "serving": set(),
    "monitor": set(),
}
TURNED: dict[str, Any] = yaml.safe_load(SMOKE)
GROUPS = config.groups()
IN_USE = {
    section: Path("conf", group, f"{TURNED[section]['use']}.yaml")
    for section, group in GROUPS.items()
}
CANDIDATES = Path("conf/candidate")  # model-search depends on the whole folder


def places(node: Any) -> list[Place]:
    """Where every value below a node stands; a list is one value."""
    if not isinstance(node, dict):
        return [()]
    return [(str(key), *place) for key, inner in node.items() for place in places(inner)]


VALUES = {
    file: places(yaml.safe_load(file.read_text()))
    for file in sorted({*IN_USE.values(), *CANDIDATES.glob("*.yaml")})
}
IN_PARAMS = {
    **dict.fromkeys(config.PLAIN, [()]),
    **{section: VALUES[file] for section, file in IN_USE.items()},
    "candidates": [("lite0", *place) for place in VALUES[CANDIDATES / "efficientnet_lite0.yaml"]],
}
NOT_IN_USE = sorted({*Path("conf").glob("*/*.yaml")} - {*VALUES})


def every(found: Mapping[Any, Sequence[Place]]) -> list[Any]:
    """A case for each value of each file or section. DVC follows whole ones, so that where time is
    short one value stands for the rest.
    """
    return [
        pytest.param(
            within,
            place,
            marks=() if place is values[-1] else pytest.mark.slow,
            id=".".join([Path(within).stem, *place]),
        )
        for within, values in found.items()
        for place in values
    ]


def in_params(node: dict[str, Any], place: Place) -> dict[str, Any]:
    """params.yaml with another value in one place."""
    key, *rest = place
    return {**node, key: in_params(node.get(key, {}), tuple(rest)) if rest else "turned"}


def in_conf(text: str, place: Place) -> str:
    """A file of conf/ with another value in one place, and every other letter as it was."""
    node = yaml.compose(text)
    for key in place:
        node = next(value for name, value in node.value if name.value == key)
    return f"{text[: node.start_mark.index]}turned{text[node.end_mark.index :]}"


@contextmanager
def edited(file: Path, text: str) -> Iterator[None]:
    before = file.read_text()
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(before)


def changed(repo: Repo) -> set[str]:
    """The stages that `dvc repro` would run for what changed of their own; what follows from them
    is left aside, and the check.
    """
    with repo.lock:
        return {stage.name for stage in repo.index.stages if stage.outs and stage.status()}


@pytest.fixture(scope="module")
def folder(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rebuilt project in which `other` is a further file of each group, but for the candidates,
    whose folder is followed. Tests put back what they edit.
    """
    folder = copy_built(built, tmp_path_factory.mktemp("reruns") / "project")
    for file in (file for file in IN_USE.values() if file.parent != CANDIDATES):
        shutil.copy(folder / file, (folder / file).with_name("other.yaml"))
    return folder


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[Repo]:
    """DVC with dvc.yaml, dvc.lock and params.yaml read once: for edits of other files."""
    with Repo(folder) as repo:
        yield repo


def test_writing_the_same_values_another_way_reruns_nothing(folder: Path) -> None:
    with edited(folder / "params.yaml", yaml.safe_dump(TURNED)), Repo(folder) as repo:
        assert changed(repo) == set()


@pytest.mark.parametrize(("section", "place"), every(IN_PARAMS))
def test_a_value_turned_in_params_reruns_the_stages_that_use_its_section(
    section: str, place: Place, folder: Path
) -> None:
    with (
        edited(folder / "params.yaml", yaml.safe_dump(in_params(TURNED, (section, *place)))),
        Repo(folder) as repo,
    ):
        assert changed(repo) == USED_BY[section]


@pytest.mark.parametrize(("file", "place"), every(VALUES))
def test_a_value_edited_in_conf_reruns_the_stages_that_use_its_file(
    file: Path, place: Place, folder: Path, opened: Repo
) -> None:
    with edited(folder / file, in_conf((folder / file).read_text(), place)):
        of_folder = {"model-search"} if file.parent == CANDIDATES else set()
        assert changed(opened) == of_folder.union(
            *(USED_BY[name] for name, used in IN_USE.items() if used == file)
        )


@pytest.mark.parametrize("section", GROUPS)
def test_another_file_of_the_group_reruns_the_stages_that_use_the_section(
    section: str, folder: Path
) -> None:
    file = "hog" if IN_USE[section].parent == CANDIDATES else "other"
    other = {**TURNED, section: {**TURNED[section], "use": file}}
    with edited(folder / "params.yaml", yaml.safe_dump(other)), Repo(folder) as repo:
        assert changed(repo) == USED_BY[section]


@pytest.mark.parametrize("file", NOT_IN_USE, ids=str)
def test_an_edit_of_a_file_that_is_not_in_use_reruns_nothing(
    file: Path, folder: Path, opened: Repo
) -> None:
    with edited(folder / file, "max_megapixels: 1\n"):
        assert changed(opened) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "conf/fit/default.yaml",
            "lr: 0.001",
            "lr: ${oc.env:LR}",
            "conf/fit/default.yaml: .*write the value itself",
        ),
        (
            "conf/fit/default.yaml",
            "lr: 0.001",
            "defaults: [other]",
            "conf/fit/default.yaml: .*write all values here",
        ),
        (
            "conf/fit/default.yaml",
            "# How",
            "# @package _global_",
            "conf/fit/default.yaml: .*write all values here",
        ),
        (
            "conf/config.yaml",
            "defaults:",
            "fit: {lr: 0.1}\ndefaults:",
            "conf/config.yaml: fit: unknown key",
        ),
        (
            "params.yaml",
            "fit: {use: default}",
            "fit: {use: default, lr: '${export.parity_tolerance}'}",
            "params.yaml: .*write the value itself",
        ),
    ],
    ids=[
        "from the environment",
        "from another file",
        "into another section",
        "in the list of groups",
        "from another section",
    ],
)
def test_a_value_from_where_dvc_does_not_look_is_refused(
    file: str, old: str, new: str, said: str, project: Path
) -> None:
    """Otherwise it could change without a stage being run again."""
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new))
    with pytest.raises(FieldmarkError, match=said):
        config.load()


@pytest.fixture
def mine(built: Path, tmp_path: Path) -> Path:
    """A rebuilt project of one's own."""
    return copy_built(built, tmp_path / "mine")


def turn(folder: Path, section: str, **values: Any) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(
        yaml.safe_dump({**params, section: {**params[section], **values}})
    )


def repro(folder: Path, cache: Path, *arguments: str) -> dict[str, str]:
    """What `dvc repro` said of each stage that it came by, less the check: ran, is cached, or
    didn't change.
    """
    store = f"sqlite:///{cache / 'reruns.db'}"
    done = succeed(folder, cache, "dvc", "repro", *arguments, MLFLOW_TRACKING_URI=store)
    fates_by_stage = re.findall(
        r"^(?:Running stage|Stage) '([\w-]+)'(?: (is cached|didn't change))?",
        done.stdout,
        re.MULTILINE,
    )
    return {stage: what or "ran" for stage, what in fates_by_stage if stage in STAGES}


def fates(ran: str, *, until: str = "export") -> dict[str, str]:
    """The fate of every stage up to one, when no others ran."""
    return {
        stage: "ran" if stage in ran.split() else "didn't change"
        for stage in STAGES[: STAGES.index(until) + 1]
    }


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "tunee: {use: default}\n", "params.yaml: tunee: unknown key; did you mean tune"),
        (
            "fit: {use: default",
            "fit: {use: defalt",
            "params.yaml: fit.use: there is no conf/fit/defalt.yaml; did you mean default",
        ),
        pytest.param(
            "tune: {use: default",
            "tune: {use: default, trails: 3",
            "params.yaml: tune.trails: unknown key; did you mean trials",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "monitor: {use: default",
            "monitor: {use: default, hour: 3",
            "params.yaml: monitor.hour: unknown key; did you mean hours",
            marks=pytest.mark.slow,
        ),
        (
            "images: data/images",
            "images: data/imagse",
            "params.yaml: images: data/imagse is not there",
        ),
    ],
    ids=[
        "a section that no stage knows",
        "a file",
        "a key",
        "a key of what runs beside",
        "a place",
    ],
)
def test_a_slip_stops_repro_before_any_output_is_removed(
    old: str, new: str, said: str, mine: Path, cache: Path
) -> None:
    (mine / "params.yaml").write_text(SMOKE.replace(old, new, 1))
    before = sorted((mine / "data").iterdir())
    done = run(mine, cache, "dvc", "repro")
    assert done.returncode != 0 and said in done.stderr
    assert sorted((mine / "data").iterdir()) == before


@pytest.mark.slow
def test_a_larger_latency_budget_with_an_equal_winner_tunes_nothing(
    mine: Path, cache: Path
) -> None:
    """evaluate shows the leaderboard, so it runs; what it measures of the same model is the
    same.
    """
    turn(mine, "model_search", latency_budget_ms=2000)
    assert repro(mine, cache) == fates("model-search evaluate")


@pytest.mark.slow
def test_another_learning_rate_reruns_from_model_search_on_and_the_old_one_comes_from_the_cache(
    mine: Path, cache: Path
) -> None:
    before = (mine / "data" / "model-search" / "leaderboard.csv").read_text()
    turn(mine, "fit", lr=0.002)
    assert repro(mine, cache, "tune") == fates("model-search tune", until="tune")
    with Repo(mine) as repo:
        assert changed(repo) == {"evaluate", "export"}
    (mine / "params.yaml").write_text(SMOKE)
    back = {"model-search": "is cached", "tune": "is cached"}
    assert repro(mine, cache, "evaluate") == {**fates("", until="evaluate"), **back}
    assert (mine / "data" / "model-search" / "leaderboard.csv").read_text() == before


@pytest.mark.slow
def test_another_augmentation_policy_reruns_from_augment_on(mine: Path, cache: Path) -> None:
    turn(mine, "augment", use="none")
    assert repro(mine, cache, "augment") == fates("augment", until="augment")
    with Repo(mine) as repo:
        assert changed(repo) == {"model-search", "tune"}


@pytest.mark.slow
def test_another_data_set_reruns_everything(mine: Path, cache: Path) -> None:
    turn(mine, "ingest", use="digits", source={"per_class": 12})
    assert repro(mine, cache, "augment") == fates(
        "ingest label-check preprocess augment", until="augment"
    )
    with Repo(mine) as repo:
        assert changed(repo) == {"model-search", "tune", "evaluate", "export"}


@pytest.mark.parametrize(
    ("turned", "stage"),
    [
        ({"candidates": {"lite0": {"use": "resnet50"}}}, "model-search"),
        ({"embedding": {"use": "resnet50"}}, "label-check"),
    ],
    ids=["candidate", "embedding"],
)
def test_another_backbone_reruns_the_stage_that_uses_it(
    turned: dict[str, Any], stage: str, mine: Path, cache: Path
) -> None:
    for section, values in turned.items():
        turn(mine, section, **values)
    assert repro(mine, cache, "--dry") == fates(stage)
