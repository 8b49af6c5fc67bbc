"""What a configuration from a stranger may call: nothing but what its section is for, at any depth,
and nothing runs before all of it is known to be allowed.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import FieldmarkError, config
from pipeline.config import targets
from pipeline.stages import ingest

DELETING = [  # each would delete, write or run something, or load code, if it were called
    "os.remove",
    "builtins.eval",
    "pipeline.storage.store.whole",
    "pipeline.runs.runner._fresh",
    "pipeline.runs.runner.shutil.rmtree",
    "pipeline.feedback.inbox.take_back",
    "pipeline.feedback.inbox.accept",
    "pipeline.serving.keys.new",
    "pipeline.sources.ledger.shutil.rmtree",
    "pipeline.sources.ledger.opened",
    "pipeline.sources.address.os.remove",
    "pipeline.features.cache.write_features",
    "pipeline.config.targets.importlib.import_module",
    "pipeline.cli.main",
    "albumentations.save",
    "albumentations.load",
    "albumentations.from_dict",
    "albumentations.core.serialization.save",
    "albumentations.core.composition.Compose",
    "albumentations.check_version.fetch_version_info",
]
SOURCE = {"_target_": "pipeline.sources.folder.read", "images": "x"}
MODEL = {"_target_": "pipeline.features.hog.HOG", "input_px": 16}
FLIP = {"_target_": "albumentations.HorizontalFlip", "p": 1.0}
GOOD = {"ingest": SOURCE, "candidate": MODEL, "augment": FLIP}


def at_depth(evil: dict[str, Any], depth: str, group: str = "ingest") -> dict[str, Any]:
    return {
        "itself": evil,
        "argument": {"unlabelled": evil},
        "list": {"unlabelled": ["a", evil]},
        "list in a list": {"unlabelled": [[{"deeper": (1, evil)}]]},
        "below an allowed one": {"transforms": [{**GOOD[group], "p": evil}]},
    }[depth]


@pytest.mark.parametrize("group", GOOD)
@pytest.mark.parametrize("name", DELETING)
def test_no_section_calls_anything_that_deletes_writes_or_runs(group: str, name: str) -> None:
    with pytest.raises(FieldmarkError, match="what may be called from this section is"):
        config.build({**GOOD[group], "_target_": name}, group)


@pytest.mark.parametrize("group", GOOD)
@pytest.mark.parametrize(
    "depth", ["itself", "argument", "list", "list in a list", "below an allowed one"]
)
@pytest.mark.parametrize("name", ["os.remove", "pipeline.feedback.inbox.take_back"])
def test_a_node_that_would_delete_a_file_is_refused_at_any_depth(
    group: str, depth: str, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "photo.png"
    file.write_text("mine")
    evil = {"_target_": name, "path": str(file), "id": "photo", "folder": str(tmp_path)}
    with pytest.raises(FieldmarkError, match=f"_target_: {name}: what may be called"):
        config.build({**GOOD[group], **at_depth(evil, depth, group)}, group)
    assert file.exists()


@pytest.mark.parametrize("key", ["_args_", "_partial_", "_recursive_", "_convert_", "_call_"])
@pytest.mark.parametrize("depth", ["itself", "argument", "list in a list"])
def test_keys_that_only_hydra_knows_are_refused_at_any_depth(key: str, depth: str) -> None:
    node = {**SOURCE, **at_depth({key: ["os.remove"]}, depth)}
    with pytest.raises(FieldmarkError, match=f"{key} is not a key of a node"):
        config.build(node, "ingest")


@pytest.mark.parametrize(
    "name", ["${oc.env:HOME}", ["os", "remove"], None, 3, "pipeline.sources.folder.read\n", ""]
)
def test_what_is_no_plain_name_is_refused(name: Any) -> None:
    with pytest.raises(FieldmarkError, match="what may be called from this section is"):
        config.build({**SOURCE, "_target_": name}, "ingest")


def test_an_interpolation_stays_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "mine")
    source = {"_target_": "pipeline.sources.folder.read", "images": "${oc.env:SECRET}"}
    with pytest.raises(FieldmarkError, match=r"\$\{oc.env:SECRET\}"):
        list(config.build(source, "ingest"))


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("ingest", "pipeline.sources.video.read_images"),  # no such function
        ("candidate", "pipeline.features.cache.Path"),  # imported there, and no extractor
        ("candidate", "pipeline.features.backbones.Tensor"),
        ("augment", "albumentations.Lambdas"),
    ],
)
def test_a_name_of_the_right_form_must_be_of_the_right_kind(group: str, name: str) -> None:
    with pytest.raises(FieldmarkError, match="has no|is not"):
        config.build({**GOOD[group], "_target_": name}, group)


def test_nothing_is_imported_before_all_names_are_allowed() -> None:
    node = {"_target_": "pipeline.sources.never_there.read", "x": [{"_target_": "os.remove"}]}
    with pytest.raises(FieldmarkError, match="os.remove"):
        config.build(node, "ingest")


@given(
    name=st.text(max_size=30)
    | st.from_regex(r"(pipeline|albumentations|os)(\.\w+){1,4}", fullmatch=True)
)
def test_whatever_the_name_only_sources_extractors_and_transforms_pass(name: str) -> None:
    before = set(sys.modules)
    try:
        targets.check_name({"_target_": name}, "ingest")
    except FieldmarkError:
        assert set(sys.modules) == before
    else:
        assert name.startswith("pipeline.sources.") and ".read" in name


def test_augmentations_may_hold_augmentations() -> None:
    node = {"_target_": "albumentations.OneOf", "transforms": [FLIP, FLIP], "p": 1.0}
    assert len(config.build(node, "augment").transforms) == 2


@pytest.mark.parametrize(
    "line",
    [
        "ingest: {use: folder, source: {unlabelled: {_target_: os.remove, path: photo.png}}}",
        "ingest: {use: folder, source: {unlabelled: [{_target_: pipeline.feedback.inbox.take_back, "
        "id: photo, folder: .}]}}",
        "ingest: {use: folder, source: {_target_: pipeline.feedback.inbox.take_back, id: photo, "
        "folder: .}}",
        "ingest: {use: folder, source: {_args_: [photo.png]}}",
    ],
)
def test_a_strangers_params_delete_nothing_by_check(line: str, project: Path) -> None:
    Path("photo.png").write_text("mine")
    params = Path("params.yaml").read_text().splitlines()
    key = line.split(":")[0]
    kept = [old for old in params if not old.startswith(f"{key}:")]
    Path("params.yaml").write_text("\n".join([*kept, line, ""]))
    with pytest.raises(FieldmarkError, match="ingest.source"):
        config.check_targets(config.load())
    with pytest.raises(FieldmarkError, match="_target_"):
        ingest.check(config.load(), images=Path("data/images"))
    assert Path("photo.png").exists()
