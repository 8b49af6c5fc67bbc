"""git, run in the working folder."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipeline import FieldmarkError

# Messages are parsed below, so they must be English. No command may wait for the index's lock.
ENVIRONMENT = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
TRUST = re.compile(r"git config --global --add safe\.directory .*")


def ask(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """The output of git, without the last line break.

    Raises FieldmarkError with what to do where git fails.
    """
    process = run(*arguments, environment=environment)
    if process.returncode:
        raise FieldmarkError(_advice(process.stderr))
    return process.stdout.removesuffix("\n")


def answer(*arguments: str) -> str | None:
    """The same, None where git fails."""
    process = run(*arguments)
    return None if process.returncode else process.stdout.removesuffix("\n")


def run(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run git, whatever its exit code; names that are not UTF-8 hold surrogates.

    Raises FieldmarkError where there is no git.
    """
    try:
        return subprocess.run(
            ["git", *arguments],
            env={**os.environ, **ENVIRONMENT, **(environment or {})},
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
    except OSError as error:
        raise FieldmarkError(
            f"git does not start ({error.strerror}), so no record would name the code that "
            f"ran; install git"
        ) from error


def in_repository() -> bool:
    """Whether the working folder lies in a repository, also in one that git refuses to read."""
    here = Path.cwd()
    return any((folder / ".git").exists() for folder in (here, *here.parents))


def _advice(stderr: str) -> str:
    """git's error in one line, with what to do."""
    if trust := TRUST.search(stderr):
        home = os.environ.get("HOME", "")
        first = "" if home and os.access(home, os.W_OK) else "export HOME=/tmp; "
        return (
            f"git does not answer, since another user owns this folder; "
            f"if you trust it: {first}{trust.group()}"
        )
    if not in_repository():
        return (
            "this folder is in no git repository, so no record would name the code that ran; "
            "clone Fieldmark, or: git init && git add --all && git commit --message start"
        )
    lines = [line for line in stderr.splitlines() if line.startswith(("fatal:", "error:"))]
    error = (lines or stderr.splitlines() or ["no reason given"])[0]
    return f"git does not answer ({error[:200]}); solve that first; `git status` shows it"
