"""Real git repositories for tests: nothing of this account's own settings counts in them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

WHO = ("-c", "user.name=t", "-c", "user.email=t@example.org")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *WHO, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit_all(folder: Path, message: str = "all") -> str:
    """The new commit."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


def owned_by_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder as it looks when it is mounted into a container: git refuses to answer in it."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    if os.getuid() == 0:
        for path in (folder, folder / ".git"):
            os.chown(path, 12345, 12345)
    else:
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")


def into_sub_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as a sub-folder of a repository that holds other things, too; the working
    folder.
    """
    whole = project.parent / "everything"
    whole.mkdir()
    inside = whole / "vision work" / "fieldmark"
    inside.parent.mkdir()
    (whole / "other.txt").write_text("another team's\n")
    project.rename(inside)
    shutil.rmtree(inside / ".git")
    git(whole, "init", "--quiet", "--initial-branch", "main")
    commit_all(whole)
    monkeypatch.chdir(inside)
    return inside
