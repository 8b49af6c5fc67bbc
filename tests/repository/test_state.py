"""What is on record of the code, in repositories as people have them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from programs import succeed
from repositories import commit_all, git, into_sub_folder, owned_by_another
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli
from pipeline.commands import stages
from pipeline.promotion import gates
from pipeline.repository import state
from pipeline.runs import provenance

MINE = "conf/tune/mine.yaml"


def select_mine(project: Path) -> None:
    """A tuning of one's own, in use; params.yaml is committed, the file itself is not."""
    shutil.copy(project / "conf/tune/default.yaml", project / MINE)
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("tune: {use: default}", "tune: {use: mine}"))
    git(project, "commit", "--quiet", "--all", "--message", "tuning")


def test_a_project_as_committed_is_clean(project: Path) -> None:
    (project / "dvc.lock").write_text("rebuilt: true\n")
    (project / "notes.txt").write_text("not of the pipeline\n")
    shutil.copy(project / "conf/tune/default.yaml", project / MINE)  # not in use
    for name in (
        ".features.py.swp",
        "features.py~",
        "__pycache__/x.pyc",
        ".ipynb_checkpoints/x.py",
    ):
        (project / "pipeline" / name).parent.mkdir(exist_ok=True)
        (project / "pipeline" / name).touch()
    head = git(project, "rev-parse", "HEAD")
    assert state.tags() == {"git.commit": head, "git.dirty": "false"}


@pytest.mark.parametrize("ignored", [False, True])
def test_a_file_of_conf_in_use_that_is_in_no_commit_is_an_edit(
    ignored: bool, project: Path
) -> None:
    if ignored:
        (project / ".gitignore").write_text((project / ".gitignore").read_text() + "mine.yaml\n")
        commit_all(project)
    select_mine(project)
    tags = state.tags()
    assert (tags["git.dirty"], tags["git.uncommitted"]) == ("true", f"{MINE} (in no commit)")
    git(project, "add", "--force", MINE)
    assert state.tags()["git.uncommitted"] == f"{MINE} (in no commit)"
    commit_all(project)
    assert state.tags()["git.dirty"] == "false"


@pytest.mark.parametrize("group", ["serving", "promotion"])
def test_so_is_one_that_only_runs_beside_the_pipeline(group: str, project: Path) -> None:
    """A checkout without it has no configuration at all."""
    shutil.copy(project / f"conf/{group}/default.yaml", project / f"conf/{group}/mine.yaml")
    params = project / "params.yaml"
    params.write_text(
        params.read_text().replace(f"{group}: {{use: default}}", f"{group}: {{use: mine}}")
    )
    git(project, "commit", "--quiet", "--all", "--message", "beside")
    assert f"conf/{group}/mine.yaml (in no commit)" in state.tags()["git.uncommitted"]


def test_so_is_a_candidate_of_ones_own(project: Path) -> None:
    shutil.copy(project / "conf/candidate/hog.yaml", project / "conf/candidate/mine.yaml")
    assert state.tags()["git.dirty"] == "false"  # nobody has named it yet
    params = project / "params.yaml"
    params.write_text(
        params.read_text().replace("candidates:\n", "candidates:\n  a: {use: mine}\n")
    )
    git(project, "commit", "--quiet", "--all", "--message", "mine")
    assert state.tags()["git.uncommitted"] == "conf/candidate/mine.yaml (in no commit)"


@pytest.mark.parametrize(
    "name", ["pipeline/features/mine.py", "pipeline/mine/__init__.py", "data/decisions/ada.csv"]
)
@pytest.mark.parametrize("ignored", [False, True])
def test_a_module_or_a_decision_that_is_in_no_commit_is_an_edit(
    ignored: bool, name: str, project: Path
) -> None:
    if ignored:
        (project / ".git/info/exclude").write_text(f"/{name}\n")
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_text("by = 'Ada'\n")
    assert state.tags()["git.uncommitted"] == f"{name} (in no commit)"


def test_edits_staged_or_not_and_deletions_are_named_by_their_path_in_the_project(
    project: Path,
) -> None:
    (project / "params.yaml").write_text((project / "params.yaml").read_text() + "# mine\n")
    (project / "pipeline/cli.py").rename(project / "pipeline/command line.py")
    git(project, "add", "pipeline")
    (project / "conf/tune/default.yaml").unlink()
    assert state.tags()["git.uncommitted"].split(", ") == [
        "conf/tune/default.yaml",
        "params.yaml",
        "pipeline/cli.py",
        "pipeline/command line.py (in no commit)",
    ]


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_an_edit_that_git_was_told_to_overlook_is_none_the_less_one(
    flag: str, project: Path
) -> None:
    git(project, "update-index", flag, "params.yaml")
    assert state.tags()["git.dirty"] == "false"
    (project / "params.yaml").write_text((project / "params.yaml").read_text() + "# mine\n")
    assert git(project, "status", "--porcelain") == ""
    assert state.tags()["git.uncommitted"] == "params.yaml"


def test_an_edit_of_the_same_size_and_time_is_one(project: Path) -> None:
    """As DVC writes a queued experiment's params.yaml."""
    params = project / "params.yaml"
    git(project, "config", "core.trustctime", "false")
    os.utime(params, (1.6e9, 1.6e9))
    git(project, "update-index", "--refresh")
    params.write_text(params.read_text().replace("seed: 0", "seed: 5"))
    os.utime(params, (1.6e9, 1.6e9))
    assert git(project, "status", "--porcelain") == ""
    assert state.tags()["git.uncommitted"] == "params.yaml"


def test_many_edits_are_counted_and_a_name_that_is_no_text_goes_on_record(project: Path) -> None:
    for i in range(7):
        Path(os.fsdecode(b"pipeline/caf\xe9%d.py" % i)).touch()
    listed = state.tags()["git.uncommitted"]
    assert listed.startswith("pipeline/caf\\xe90.py (in no commit), ") and listed.endswith("2 more")
    listed.encode()


def test_a_merge_that_is_not_finished_is_an_edit(project: Path) -> None:
    start = git(project, "rev-parse", "HEAD")
    for branch, seed in (("ada", 1), ("zoe", 2)):
        git(project, "checkout", "--quiet", "-b", branch, start)
        (project / "conf/tune/default.yaml").write_text(f"trials: {seed}\n")
        commit_all(project)
    subprocess.run(
        ["git", "merge", "--quiet", "ada"], cwd=project, check=False, capture_output=True
    )
    assert state.tags()["git.uncommitted"] == "conf/tune/default.yaml"


def test_a_repository_without_a_commit_is_not_clean(project: Path) -> None:
    shutil.rmtree(project / ".git")
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    assert (state.tags()["git.commit"], state.tags()["git.dirty"]) == ("none", "true")


@pytest.mark.parametrize("edited", [False, True])
def test_a_folder_of_another_owner_is_neither_clean_nor_edited_but_unknown(
    edited: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if edited:
        (project / "dvc.yaml").write_text("stages: {}\n")
    owned_by_another(project, monkeypatch)
    tags = state.tags()
    assert (tags["git.commit"], tags["git.dirty"]) == ("unknown", "unknown")
    advice = f"git config --global --add safe.directory {project}"
    assert tags["git.unknown"].endswith(advice)
    assert gates._commit(tags).advice.startswith(tags["git.unknown"])
    assert not gates._commit(tags).passed


def test_it_is_said_before_anything_is_built(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned_by_another(project, monkeypatch)
    done = CliRunner().invoke(cli.app, ["config", "--check"])
    assert isinstance(done.exception, FieldmarkError)
    assert "safe.directory" in str(done.exception)
    with pytest.raises(FieldmarkError, match="safe.directory"):
        stages.run("ingest")  # DVC leaves the check out where params.yaml has not changed
    assert not (project / "data/ingest").exists()


def test_the_advice_works_also_without_a_home(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `docker run -u 12345`."""
    owned_by_another(project, monkeypatch)
    monkeypatch.setenv("HOME", "/nowhere")
    advice = state.tags()["git.unknown"].split("if you trust it: ")[1]
    assert advice.startswith("export HOME=/tmp; ")
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    command = advice.replace("/tmp;", f"{tmp_path};")
    subprocess.run(command, shell=True, cwd=project, check=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state.tags()["git.dirty"] == "false"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda git_folder: (git_folder / "index").write_bytes(b"cut off"), "index file"),
        (lambda git_folder: (git_folder / "HEAD").write_bytes(b""), "not a git repository"),
        (lambda git_folder: (git_folder / "config").write_bytes(b"[cor"), "bad config"),
    ],
    ids=["index", "HEAD", "config"],
)
def test_a_damaged_repository_is_unknown_with_gits_reason(
    damage: object, reason: str, project: Path
) -> None:
    damage(project / ".git")  # type: ignore[operator]
    assert state.tags()["git.dirty"] == "unknown" and reason in state.tags()["git.unknown"]
    with pytest.raises(FieldmarkError, match=reason):
        state.check()


def test_a_worktree_whose_repository_is_not_mounted_is_unknown(project: Path) -> None:
    shutil.rmtree(project / ".git")
    (project / ".git").write_text("gitdir: /elsewhere/.git/worktrees/project\n")
    assert "not a git repository" in state.tags()["git.unknown"]
    with pytest.raises(FieldmarkError, match="git does not answer"):
        state.check()


def test_without_git_the_message_says_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project))
    assert state.tags()["git.dirty"] == "unknown"
    with pytest.raises(FieldmarkError, match="install git"):
        state.check()


def test_a_folder_in_no_repository_is_unknown_and_dvcs_to_refuse(project: Path) -> None:
    shutil.rmtree(project / ".git")
    tags = state.tags()
    assert (tags["git.commit"], tags["git.dirty"]) == ("none", "unknown")
    assert "git init" in gates._commit(tags).advice
    state.check()


def test_the_gate_names_the_file_that_is_in_no_commit(project: Path) -> None:
    select_mine(project)
    gate = gates._commit(state.tags())
    assert not gate.passed and MINE in gate.advice and "git add --force" in gate.advice
    assert gate.advice.endswith(gates.AGAIN)


@pytest.mark.parametrize("dirty", ["false", "unknown"])
@pytest.mark.parametrize("commit", ["none", "unknown"])
def test_no_commit_never_passes_the_gate(commit: str, dirty: str) -> None:
    assert not gates._commit({"git.commit": commit, "git.dirty": dirty}).passed


def test_tables_and_reports_tell_unknown_from_clean() -> None:
    tags = {"git.commit": "0123456789"}
    assert [provenance.mark({**tags, "git.dirty": d}) for d in ("false", "true", "unknown")] == [
        "0123456",
        "0123456+",
        "0123456?",
    ]
    assert provenance.in_words({**tags, "git.dirty": "unknown"}).endswith(
        "(unknown whether edited)"
    )


def test_in_a_sub_folder_of_a_repository_only_the_project_counts(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = into_sub_folder(project, monkeypatch)
    (inside.parent.parent / "other.txt").write_text("edited by another team\n")
    (inside.parent.parent / "conf").mkdir()
    (inside.parent.parent / "conf" / "theirs.yaml").write_text("{}\n")
    head = git(inside, "rev-parse", "HEAD")
    assert state.tags() == {"git.commit": head, "git.dirty": "false"}
    select_mine(inside)
    (inside / "dvc.yaml").write_text("stages: {}\n")
    assert state.tags()["git.uncommitted"] == f"dvc.yaml, {MINE} (in no commit)"


def dry_run(folder: Path) -> subprocess.CompletedProcess[str]:
    """What `make repro` checks itself, without the environment, and then would run."""
    shutil.copy(ROOT / "Makefile", folder)
    command = ["make", "--no-print-directory", "repository"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_make_goes_on_in_a_sub_folder_and_in_a_worktree(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = into_sub_folder(project, monkeypatch)
    assert dry_run(inside).returncode == 0
    git(inside, "worktree", "add", "--quiet", str(inside.parent / "second"))
    assert dry_run(inside.parent / "second" / "vision work" / "fieldmark").returncode == 0


def test_make_says_how_to_trust_a_folder_of_another_owner_and_not_to_make_it_a_repository(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned_by_another(project, monkeypatch)
    done = dry_run(project)
    assert done.returncode != 0 and f"safe.directory {project}" in done.stdout
    assert "git init" not in done.stdout


@pytest.mark.slow
def test_dvc_works_in_a_sub_folder_of_a_repository(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = into_sub_folder(project, monkeypatch)
    for command in ("dvc repro config", "dvc status config"):
        done = succeed(inside, inside, *command.split())
    assert done.stdout == "config:\n\talways changed\n"  # and nothing else
