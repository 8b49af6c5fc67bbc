"""params.yaml over conf/: what is turned wins, and every slip is named before any work."""

import json
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from omegaconf import OmegaConf

from pipeline import FieldmarkError, config
from pipeline.config import schema


def turn(text: str) -> None:
    """Replace a section of params.yaml by the line that begins with its name."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    lines = {name: f"{name}: {json.dumps(node)}" for name, node in params.items()}
    lines[text.split(":")[0]] = text
    Path("params.yaml").write_text("\n".join(lines.values()) + "\n")


@pytest.mark.usefixtures("project")
def test_params_yaml_overrides_conf() -> None:
    before = config.load().fit
    turn("fit: {use: default, lr: 0.5}")
    after = config.load().fit
    assert (after.lr, after.epochs) == (0.5, before.epochs)


@pytest.mark.usefixtures("project")
def test_the_defence_reaches_every_candidate() -> None:
    turn("defense: {use: fast, radius: 8.0}")
    candidates = config.load("candidates").candidates.values()
    assert {(each.defense.kind, each.defense.radius) for each in candidates} == {("fast", 8.0)}


@pytest.mark.usefixtures("project")
def test_a_defence_with_a_setting_of_another_one_is_a_slip() -> None:
    turn("defense: {use: noise, radius: 8.0}")
    with pytest.raises(FieldmarkError, match="defense: .*kind noise has no radius; it has sigma"):
        config.load()


@pytest.mark.usefixtures("project")
def test_use_selects_another_file_of_the_group() -> None:
    turn("embedding: {use: resnet50}")
    assert config.load().embedding.extractor["name"] == "resnet50.a1_in1k"


@pytest.mark.usefixtures("project")
def test_a_section_can_be_replaced_by_a_file_of_ones_own() -> None:
    Path("conf/fit/mine.yaml").write_text(
        Path("conf/fit/default.yaml").read_text().replace("lr: 0.001", "lr: 0.25")
    )
    turn("fit: {use: mine}")
    assert config.load().fit.lr == 0.25


@pytest.mark.usefixtures("project")
def test_a_file_that_is_renamed_is_no_longer_found() -> None:
    """Though files that have not changed are not read again."""
    config.load()
    Path("conf/fit/default.yaml").rename("conf/fit/usual.yaml")
    with pytest.raises(FieldmarkError, match="there is no conf/fit/default.yaml"):
        config.load()


@pytest.mark.usefixtures("project")
def test_a_stage_sees_only_what_it_declares() -> None:
    cfg = config.load("seed", "ingest")
    with pytest.raises(AttributeError, match="'fit' is not among the stage's params"):
        _ = cfg.fit


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fit: {use: default, lrr: 0.1}", "params.yaml: fit.lrr: unknown key; did you mean lr"),
        ("fit: {use: default, lr: fast}", "params.yaml: fit.lr: .*number.*'fast'"),
        ("fit: {use: default, lr: -1}", "params.yaml: fit.lr: .*greater than 0"),
        (
            "fit: {use: defalt}",
            "params.yaml: fit.use: there is no conf/fit/defalt.yaml; did you mean default",
        ),
        ("fit: default", "params.yaml: fit: write `fit: {use: FILE}`"),
        ("tunee: {use: default}", "params.yaml: tunee: unknown key; did you mean tune"),
        ("seed: many", "params.yaml: seed: .*integer"),
        (
            "label_check: {use: default, fractions: {tests: 0.2}}",
            "label_check.fractions.tests: .*did you mean test",
        ),
        ("label_check: {use: default, fractions: {test: 0.5}}", "must add up to 1"),
        (
            "candidates: {lite0: {use: efficientnet_lite0, head: {hiden: 3}}}",
            "params.yaml: candidates.lite0.head.hiden: .*did you mean hidden",
        ),
        (
            "candidates: {lite0: {use: efficientnet_lite0, fit: {lrr: 3}}}",
            "params.yaml: candidates.lite0.fit.lrr: .*did you mean lr",
        ),
        (
            "candidates: {lite0: {use: efficientnet_lite0, name: mine}}",
            "params.yaml: candidates.lite0.name: unknown key; ",
        ),
        (
            "candidates: {lite0: {use: efficientnet_lite0, space: {fit.lr: {low: 2.0, high: 1.0}}}}",
            "low must be below high",
        ),
        (
            "candidates: {mine: {use: smal_cnn}}",
            "params.yaml: candidates.mine.use: there is no conf/candidate/smal_cnn.yaml; "
            "did you mean small_cnn",
        ),
        ("candidates: {mine: hog}", "params.yaml: candidates.mine: write `mine: {use: FILE}`"),
        ("candidates: {a.b: {use: hog}}", "params.yaml: candidates: 'a.b' is no name; use letters"),
        ("candidates: {}", "params.yaml: candidates: name one at least, as in `candidates: {lite0"),
        ("candidates: [hog]", "params.yaml: candidates: name one at least"),
        ("embedding: {use: efficientnet}", "there is no conf/candidate/efficientnet.yaml"),
        ("augment: {use: no_up, symmetry: d5}", "augment.symmetry: .*'none', 'flip' or 'd4'"),
        (
            "candidates: {mine: {use: small_cnn, head: {kind: svm}}}",
            "params.yaml over conf/candidate/small_cnn.yaml: candidates.mine: .*head.kind svm needs "
            "frozen: true",
        ),
        (
            "serving: {use: default, formats: [JPEG, HEIC]}",
            "params.yaml: serving.formats.1: .*'HEIC'",
        ),
        ("images: ~/photos", f"params.yaml: images: .*~ .*write {Path.home()}/photos"),
        ("ingest: {use: elpv", "params.yaml: not valid YAML"),
    ],
    ids=lambda value: value if ":" in value and "use" in value else "",
)
@pytest.mark.usefixtures("project")
def test_a_slip_in_params_is_named(line: str, said: str) -> None:
    turn(line)
    with pytest.raises(FieldmarkError, match=said):
        config.load()


@pytest.mark.usefixtures("project")
def test_a_slip_in_conf_names_that_file() -> None:
    file = Path("conf/fit/default.yaml")
    file.write_text(file.read_text().replace("epochs:", "epoch:"))
    with pytest.raises(FieldmarkError, match=r"conf/fit/default.yaml: epochs?: "):
        config.load()


@pytest.mark.usefixtures("project")
def test_a_missing_section_says_how_to_write_it() -> None:
    params = "name: fieldmark\nseed: 0\nimages: data/images\nblur_faces: false\n"
    Path("params.yaml").write_text(params)
    with pytest.raises(
        FieldmarkError, match=re.escape("write for example `ingest: {use: default}`")
    ):
        config.load()


@pytest.mark.usefixtures("project")
def test_a_name_that_a_registry_cannot_hold_is_refused_before_anything_runs() -> None:
    turn("name: my birds/2")
    with pytest.raises(FieldmarkError, match="params.yaml: name: .*not 'my birds/2'"):
        config.load()
    with pytest.raises(FieldmarkError, match="params.yaml: name: "):
        config.project()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "ingest: {use: elpv, source: {treshold: 0.4}}",
            "params.yaml: ingest.source.treshold.*did you mean threshold",
        ),
        ("ingest: {use: elpv, source: {threshold: half}}", "ingest.source.threshold: .*number"),
        (
            "ingest: {use: elpv, source: {_target_: os.system}}",
            "params.yaml: ingest.source: _target_: os.system: .*a function `read`",
        ),
        (
            "ingest: {use: elpv, source: {_target_: pipeline.sources.packaged.read_elvp}}",
            "did you mean read_elpv",
        ),
        (
            "candidates: {lite0: {use: efficientnet_lite0, extractor: {tap: [1]}}}",
            "params.yaml: candidates.lite0.extractor.tap: .*did you mean taps",
        ),
        (
            "augment: {use: photo, policy: [{_target_: albumentations.Affine, scal: 2}]}",
            r"params.yaml: augment.policy\[0\].scal: .*did you mean scale",
        ),
        (
            "augment: {use: photo, policy: [{_target_: albumentations.Afine}]}",
            "did you mean Affine",
        ),
    ],
    ids=lambda value: value if "use" in value else "",
)
@pytest.mark.usefixtures("project")
def test_a_slip_in_what_a_target_takes_is_named(line: str, said: str) -> None:
    turn(line)
    with pytest.raises(FieldmarkError, match=said):
        config.check_targets(config.load())


@pytest.mark.parametrize("file", sorted(Path("conf").glob("*/*.yaml")), ids=str)
@pytest.mark.usefixtures("project")
def test_every_file_of_conf_composes_and_fits_its_targets(file: Path) -> None:
    sections = [section for section, group in config.groups().items() if group == file.parent.name]
    turn(f"{sections[0]}: {{use: {file.stem}}}")
    if file.parent.name == "candidate":
        turn(f"candidates: {{mine: {{use: {file.stem}}}}}")
    cfg = config.load()
    config.check_targets(cfg)
    assert getattr(cfg, sections[0]) is not None


@pytest.mark.usefixtures("project")
def test_no_value_stands_both_in_conf_and_in_params() -> None:
    turned = OmegaConf.to_container(OmegaConf.load("params.yaml"))
    assert isinstance(turned, dict)
    sections = {name: node for name, node in turned.items() if isinstance(node, dict)}
    sections |= sections.pop("candidates")
    assert sections == {name: {"use": node["use"]} for name, node in sections.items()}


@pytest.mark.usefixtures("project")
def test_a_check_is_done_again_after_any_change_of_the_configuration() -> None:
    config.check()
    file = Path("conf/augment/photo.yaml")
    file.write_text(file.read_text().replace("limit", "limits").replace("sigma", "sigmas"))
    turn("augment: {use: photo}")
    with pytest.raises(
        FieldmarkError, match="conf/augment/photo.yaml: .*sigmas: unknown key; did you mean sigma"
    ):
        config.check()


def test_outside_a_project_the_command_says_where_to_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FieldmarkError,
        match="params.yaml is missing; run the command in the folder that holds dvc.yaml",
    ):
        config.check()


def test_without_a_git_repository_make_says_what_to_do_before_it_installs_anything(
    tmp_path: Path,
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = subprocess.run(
        ["make", "repro"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "git init" in done.stdout and done.returncode != 0
    assert not (tmp_path / ".venv").exists()


def test_a_rebuild_ends_with_what_it_reached() -> None:
    command = ["make", "--no-print-directory", "--dry-run", "--old-file=.venv/ready", "repro"]
    last = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    assert last == "fieldmark result"


@pytest.mark.usefixtures("project")
def test_a_section_that_is_none_is_named_with_the_nearest() -> None:
    with pytest.raises(FieldmarkError, match="evalute: unknown key; did you mean evaluate"):
        config.load("evalute")


LAYERS = ("conf/fit", "the candidate's file", "fit: in params.yaml", "candidates.NAME.fit")


@pytest.mark.parametrize(("weaker", "stronger"), list(combinations(range(4), 2)))
@pytest.mark.usefixtures("project")
def test_what_a_person_turned_wins_over_any_default(weaker: int, stronger: int) -> None:
    rates = {layer: 0.1 * (layer + 1) for layer in (weaker, stronger)}
    defaults, file = Path("conf/fit/default.yaml"), Path("conf/candidate/hog.yaml")
    if 0 in rates:
        defaults.write_text(defaults.read_text().replace("lr: 0.001", f"lr: {rates[0]}"))
    if 1 in rates:
        file.write_text(file.read_text().replace("fit: {}", f"fit: {{lr: {rates[1]}}}"))
    if 2 in rates:
        turn(f"fit: {{use: default, lr: {rates[2]}}}")
    if 3 in rates:
        turn(f"candidates: {{mine: {{use: hog, fit: {{lr: {rates[3]}}}}}}}")
    else:
        turn("candidates: {mine: {use: hog}}")
    made = config.load().candidates["mine"]
    assert made.fit.lr == rates[stronger], f"{LAYERS[stronger]} wins over {LAYERS[weaker]}"
    assert made.fit.epochs == config.load().fit.epochs, "what nobody turned is that of conf/fit"


@pytest.mark.usefixtures("project")
def test_a_candidate_is_added_by_one_file_and_named_by_its_user() -> None:
    text = Path("conf/candidate/hog.yaml").read_text()
    Path("conf/candidate/fine.yaml").write_text(text.replace("cell_px: 16", "cell_px: 8"))
    turn("candidates: {coarse: {use: hog}, fine: {use: fine, head: {C: 0.5}}}")
    coarse, fine = config.load().candidates.values()
    assert (coarse.name, coarse.extractor["cell_px"], coarse.head.C) == ("coarse", 16, 0.0002)
    assert (fine.name, fine.extractor["cell_px"], fine.head.C) == ("fine", 8, 0.5)


def test_a_candidate_may_change_every_setting_of_conf_fit() -> None:
    assert schema.FitChanges.model_fields.keys() == schema.Fit.model_fields.keys()


@pytest.mark.usefixtures("project")
def test_a_slip_in_a_name_to_search_is_found_before_any_work() -> None:
    turn("candidates: {a: {use: efficientnet_lite0, space: {fit.lrr: {low: 0.1, high: 1.0}}}}")
    with pytest.raises(
        FieldmarkError,
        match=r"candidates.a.*space: there is no fit.lrr to search; there are .*fit.lr,",
    ):
        config.load()


@pytest.mark.usefixtures("project")
def test_what_a_target_asks_of_the_user_is_said_without_hydras_wrapping() -> None:
    turn("embedding: {use: resnet50, extractor: {weights: nowhere.pth}}")
    with pytest.raises(
        FieldmarkError, match=r"extractor.weights: 'nowhere.pth' is neither a file nor"
    ):
        config.build(config.load().embedding.extractor, "candidate")


def test_ctrl_c_while_the_configuration_is_imported_shows_no_traceback() -> None:
    code = """
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.config":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.argv = ["fieldmark", "config"]
from pipeline.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.usefixtures("project")
def test_a_copy_of_the_project_runs_its_own_code() -> None:
    """DVC records the hash of the copy's code for a queued experiment."""
    file = Path("pipeline/cli.py")
    file.write_text("raise SystemExit('the copy')\n" + file.read_text())
    command = Path(sys.executable).parent / "fieldmark"
    done = subprocess.run([command, "config"], capture_output=True, text=True, check=False)
    assert "the copy" in done.stderr


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "images", ["", ".", "..", "data", "data/ingest", "data/export/plots", "./data/"]
)
def test_images_that_hold_what_stages_write_or_lie_in_it_are_refused(images: str) -> None:
    """DVC calls it a loop, or an unexpected error."""
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(re.sub("(?m)^images:.*", f'images: "{images}"', text))
    with pytest.raises(FieldmarkError, match="^params.yaml: images: .*what stages write"):
        config.check_images()
