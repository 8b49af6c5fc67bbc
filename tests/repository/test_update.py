"""An old clone with photos, values and results of its own, and a Fieldmark that went on since."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, copy_project
from omegaconf import OmegaConf
from programs import succeed
from repositories import commit_all, git

PARAMS = {
    "seed: 0": "seed: 7",
    "images: data/images ": "images: ../my photos ",
    "tune: {use: default}": "tune: {use: default, trials: 5}",
    "ingest: {use: elpv} ": "ingest: {use: folder} ",
}
NEWER = {
    "images: data/images  ": "images: data/images # newer ",
    "tune: {use: default}": "tune: {use: default, startup_trials: 3}",
    "ingest: {use: elpv} ": "ingest: {use: digits} ",
    "# What runs beside": "# What runs, newly said, beside",
}


def rewrite(file: Path, changes: dict[str, str]) -> None:
    text = file.read_text()
    assert [old for old in changes if old not in text] == []
    for old, new in changes.items():
        text = text.replace(old, new)
    file.write_text(text)


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """Fieldmark's repository as it was when it was cloned."""
    folder = copy_project(tmp_path / "upstream")
    for name in (".gitattributes", "dvc.lock"):
        shutil.copy(ROOT / name, folder)
    commit_all(folder, "with the lock of the default data")
    return folder


@pytest.fixture
def clone(upstream: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The clone with values of its own and a lock that a rebuild wrote, in no commit yet; the
    working folder.
    """
    folder = upstream.parent / "my project"
    git(upstream, "clone", "--quiet", str(upstream), str(folder))
    for key, value in {"user.name": "Ada", "user.email": "ada@example.org"}.items():
        git(folder, "config", key, value)
    rewrite(folder / "params.yaml", PARAMS)
    lock = (folder / "dvc.lock").read_text()
    (folder / "dvc.lock").write_text(lock.replace("md5: ", "md5: 0a"))
    (folder / "notes.txt").write_text("in no commit, and never to be\n")
    monkeypatch.chdir(folder)
    return folder


def publish(upstream: Path) -> None:
    """A newer Fieldmark: other results, values, defaults, code and files."""
    rewrite(upstream / "params.yaml", NEWER)
    lock = (upstream / "dvc.lock").read_text()
    (upstream / "dvc.lock").write_text(lock.replace("md5: ", "md5: 0b"))
    rewrite(upstream / "conf/tune/default.yaml", {"trials: 12": "trials: 13"})
    (upstream / "pipeline/newer.py").write_text('"""New."""\n')
    (upstream / "pipeline/runs/lineage.py").write_text('"""Rewritten."""\n')
    commit_all(upstream, "newer")


def update(folder: Path, *source: str) -> subprocess.CompletedProcess[str]:
    """What `make update` runs first."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline.repository.update", *source],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )


def assert_updated_with_my_values(folder: Path) -> None:
    params = OmegaConf.to_container(OmegaConf.load(folder / "params.yaml"))
    assert isinstance(params, dict)
    assert (params["seed"], params["images"], params["ingest"]) == (
        7,
        "../my photos",
        {"use": "folder"},
    )
    assert params["tune"] == {"use": "default", "trials": 5, "startup_trials": 3}
    assert "# What runs, newly said, beside" in (folder / "params.yaml").read_text()
    lock = (folder / "dvc.lock").read_text()
    assert "md5: 0a" in lock and "md5: 0b" not in lock
    assert (folder / "pipeline/newer.py").exists()
    assert "trials: 13" in (folder / "conf/tune/default.yaml").read_text()
    assert git(folder, "stash", "list") == ""
    assert git(folder, "ls-files", "--unmerged") == ""


def state(folder: Path) -> tuple[str, ...]:
    """All that must be as it was after an update that could not be made."""
    files = ("params.yaml", "dvc.lock", "README.md", "pipeline/cli.py")
    texts = [(folder / name).read_text() for name in files if (folder / name).exists()]
    ask = ("rev-parse HEAD", "status --porcelain", "stash list")
    return (*texts, *(git(folder, *question.split()) for question in ask))


@pytest.mark.parametrize("committed", [False, True], ids=["edits", "commits"])
def test_one_command_brings_what_is_new_and_keeps_what_is_mine(
    committed: bool, clone: Path, upstream: Path
) -> None:
    if committed:
        git(clone, "commit", "--quiet", "--all", "--message", "mine")
    publish(upstream)
    done = update(clone)
    assert done.returncode == 0, done.stderr
    assert_updated_with_my_values(clone)
    assert "params.yaml: ingest.use: folder stays; upstream now has digits" in done.stdout
    edits = "" if committed else " M dvc.lock\n M params.yaml\n"
    assert git(clone, "status", "--porcelain") == (edits + "?? notes.txt").strip()


@pytest.mark.slow
def test_afterwards_the_configuration_is_in_order_and_dvc_knows_what_is_stale(
    clone: Path, upstream: Path
) -> None:
    publish(upstream)
    (clone.parent / "my photos" / "cat").mkdir(parents=True)
    assert update(clone).returncode == 0
    for command in ("fieldmark config --check", "dvc repro config", "dvc status"):
        done = succeed(clone, clone, *command.split(), PYTHONPATH=str(clone))
    assert "tune:" in done.stdout and "config:\n\talways changed\n" in done.stdout


@pytest.mark.parametrize("way", ["--no-rebase", "--rebase"])
def test_a_later_git_pull_does_the_same(way: str, clone: Path, upstream: Path) -> None:
    assert "nothing newer" in update(clone).stdout
    git(clone, "commit", "--quiet", "--all", "--message", "mine")
    publish(upstream)
    git(clone, "pull", "--quiet", "--no-edit", way)
    assert_updated_with_my_values(clone)


@pytest.mark.parametrize(
    ("committed", "remedy"), [(False, "commit your edits"), (True, "git merge ")]
)
def test_what_only_a_person_can_settle_is_named_and_everything_is_as_it_was(
    committed: bool, remedy: str, clone: Path, upstream: Path
) -> None:
    rewrite(clone / "pipeline/cli.py", {"The command": "My command"})
    if committed:
        git(clone, "commit", "--quiet", "--all", "--message", "mine")
        rewrite(clone / "params.yaml", {"seed: 7": "seed: 9"})
    before = state(clone)
    rewrite(upstream / "pipeline/cli.py", {"The command": "The newer command"})
    publish(upstream)
    done = update(clone)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "both changed pipeline/cli.py, so nothing was updated" in done.stderr
    assert remedy in done.stderr and state(clone) == before


def test_a_file_of_mine_in_the_way_of_a_new_one_is_left_as_it_is(
    clone: Path, upstream: Path
) -> None:
    (clone / "pipeline/newer.py").write_text("mine\n")
    before = state(clone)
    publish(upstream)
    done = update(clone)
    assert done.returncode == 1 and "pipeline/newer.py" in done.stderr
    assert state(clone) == before and (clone / "pipeline/newer.py").read_text() == "mine\n"


def test_a_lock_that_i_removed_stays_away(clone: Path, upstream: Path) -> None:
    (clone / "dvc.lock").unlink()
    publish(upstream)
    assert update(clone).returncode == 0
    assert not (clone / "dvc.lock").exists() and "trials: 5" in (clone / "params.yaml").read_text()
    assert git(clone, "diff", "HEAD", "--name-only").split() == ["dvc.lock", "params.yaml"]
    assert git(clone, "stash", "list") == ""


def test_keys_that_upstream_removed_go_away_and_are_named(clone: Path, upstream: Path) -> None:
    rewrite(clone / "params.yaml", {"monitor: {use: default}": "monitor: {use: default, hours: 1}"})
    rewrite(upstream / "params.yaml", {"monitor: {use: default}\n": ""})
    publish(upstream)
    done = update(clone)
    assert "params.yaml: monitor: gone upstream, so left out; was" in done.stdout
    assert "monitor" not in OmegaConf.load(clone / "params.yaml")


def test_a_default_that_both_sides_changed_stays_mine(clone: Path, upstream: Path) -> None:
    rewrite(clone / "conf/tune/default.yaml", {"trials: 12": "trials: 50"})
    publish(upstream)
    done = update(clone)
    assert "conf/tune/default.yaml: trials: 50 stays; upstream now has 13" in done.stdout
    assert "trials: 50" in (clone / "conf/tune/default.yaml").read_text()


def test_values_that_are_no_yaml_are_a_conflict_like_any_other(clone: Path, upstream: Path) -> None:
    (clone / "params.yaml").write_text("seed: [\n")
    before = state(clone)
    publish(upstream)
    done = update(clone)
    assert "both changed params.yaml" in done.stderr and state(clone) == before


@pytest.mark.parametrize(
    ("prepare", "source", "advice"),
    [
        ("checkout --quiet -b alone", (), "make update FROM="),
        ("checkout --quiet --detach", (), "make update FROM="),
        ("remote set-url origin /nowhere", (), "git fetch failed: "),
        ("status", ("/nowhere", "main"), "git fetch failed: "),
    ],
)
def test_where_there_is_nothing_to_merge_with_the_message_says_what_to_do(
    prepare: str, source: tuple[str, ...], advice: str, clone: Path
) -> None:
    git(clone, *prepare.split())
    before = state(clone)
    done = update(clone, *source)
    assert done.returncode == 1 and advice in done.stderr and state(clone) == before


def test_an_update_in_the_middle_of_a_merge_is_refused(clone: Path, upstream: Path) -> None:
    git(clone, "commit", "--quiet", "--all", "--message", "mine")
    publish(upstream)
    git(clone, "fetch", "--quiet")
    git(clone, "merge", "--quiet", "--no-commit", "-s", "ours", "origin/HEAD")
    assert "a merge or rebase is under way" in update(clone).stderr


def test_a_commit_without_a_name_is_refused_before_anything_happens(
    clone: Path, upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(clone, "commit", "--quiet", "--all", "--message", "mine")
    publish(upstream)
    git(clone, "config", "--unset", "user.email")
    git(clone, "config", "user.useConfigOnly", "true")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    before = state(clone)
    assert "git config user.email ADDRESS" in update(clone).stderr and state(clone) == before


def test_another_branch_or_repository_can_be_named(clone: Path, upstream: Path) -> None:
    git(clone, "checkout", "--quiet", "-b", "alone")
    publish(upstream)
    done = update(clone, str(upstream), git(upstream, "branch", "--show-current"))
    assert done.returncode == 0, done.stderr
    assert_updated_with_my_values(clone)


def test_in_a_sub_folder_of_a_repository_a_newer_fieldmark_goes_there(
    upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `git subtree add` puts it there."""
    whole = upstream.parent / "everything"
    whole.mkdir()
    git(whole, "init", "--quiet")
    (whole / "params.yaml").write_text("another: team's\n")
    commit_all(whole)
    branch = git(upstream, "branch", "--show-current")
    git(whole, "fetch", "--quiet", str(upstream), branch)
    ours = ("merge", "--quiet", "-s", "ours", "--no-commit", "--allow-unrelated-histories")
    git(whole, *ours, "FETCH_HEAD")
    git(whole, "read-tree", "--prefix=vision work/", "-u", "FETCH_HEAD")
    git(whole, "commit", "--quiet", "--message", "Fieldmark")
    for key, value in {"user.name": "Ada", "user.email": "ada@example.org"}.items():
        git(whole, "config", key, value)
    inside = whole / "vision work"
    rewrite(inside / "params.yaml", PARAMS)
    (inside / "dvc.lock").write_text((inside / "dvc.lock").read_text().replace("md5: ", "md5: 0a"))
    commit_all(whole, "mine")
    rewrite(inside / "params.yaml", {"seed: 7": "seed: 8"})
    publish(upstream)
    done = update(inside, str(upstream), branch)
    assert done.returncode == 0, done.stderr
    rewrite(inside / "params.yaml", {"seed: 8": "seed: 7"})
    assert_updated_with_my_values(inside)
    assert (whole / "params.yaml").read_text() == "another: team's\n"
    assert not (whole / "pipeline").exists()


def test_make_update_checks_what_came_of_it() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/ready", "update"]
    listed = subprocess.run(
        [*command, "FROM=here main"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    update_at, check_at = (
        listed.index(step) for step in ("repository.update here main", "fieldmark config --check")
    )
    assert update_at < check_at
