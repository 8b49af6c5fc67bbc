"""A newer Fieldmark in a project with photos, values and results of one's own.

It is a merge by git, with the driver of merging.py for params.yaml, conf/ and dvc.lock. Uncommitted
edits are stashed and restored. It succeeds, or leaves the project unchanged.
"""

import os
import shlex
import sys
from pathlib import Path
from subprocess import CompletedProcess

from pipeline import FieldmarkError
from pipeline.repository import git

UNFINISHED = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply")
LOCK = "dvc.lock"


def update(*source: str) -> None:
    """Merge what the branch follows, or a repository and a branch, and print the result.

    Raises FieldmarkError where there is nothing to merge with, or where both sides changed a file
    in a way that only a person can settle; the project is then unchanged.
    """
    _refuse_in_the_middle()
    install_driver()
    target, before = _fetch(*source), git.ask("rev-parse", "HEAD")
    if git.answer("merge-base", "--is-ancestor", target, before) is not None:
        print(f"nothing newer than {before[:7]}")
        return
    how = _how(target, before)
    edited = git.ask("status", "--porcelain", "--untracked-files=no") != ""
    lock_was_removed = not Path(LOCK).exists()
    try:
        if edited:
            git.ask("stash", "push", "--quiet", "--message", "before make update")
        _merge(target, how, edited)
        if edited:
            _bring_back(before, lock_was_removed)
    except KeyboardInterrupt as error:
        raise FieldmarkError(
            "interrupted; `git status` says where it stands, and `git stash list` whether your "
            "edits still wait there for `git stash pop`"
        ) from error
    n = git.ask("rev-list", "--count", f"{before}..{target}")
    print(
        f"updated from {before[:7]} by {n} commits to {git.ask('rev-parse', '--short=7', target)}"
    )


def install_driver() -> None:
    """Let git merge with merging.py in this clone; also for a later `git pull`."""
    top, python = git.ask("rev-parse", "--show-toplevel"), sys.executable
    if Path(python).is_relative_to(Path(top).resolve()):
        python = os.path.relpath(python, Path(top).resolve())  # the clone may be moved
    command = f"{shlex.quote(python)} -m {__package__}.merging %O %A %B %P"
    git.ask("config", "merge.fieldmark.name", "values by keys; dvc.lock stays one's own")
    git.ask("config", "merge.fieldmark.driver", command)


def _refuse_in_the_middle() -> None:
    for name in UNFINISHED:
        if Path(git.ask("rev-parse", "--git-path", name)).exists():
            raise FieldmarkError(
                "a merge or rebase is under way here; `git status` says how to end it"
            )


def _fetch(*source: str) -> str:
    """The newer commit."""
    if source:
        _must(git.run("fetch", "--quiet", *source), "fetch")
        return git.ask("rev-parse", "FETCH_HEAD")
    if git.answer("rev-parse", "--verify", "--quiet", "@{upstream}") is None:
        raise FieldmarkError(
            "this branch follows no other; name where Fieldmark comes from: "
            "make update FROM='ADDRESS BRANCH'"
        )
    _must(git.run("fetch", "--quiet"), "fetch")
    return git.ask("rev-parse", "@{upstream}")


def _how(target: str, before: str) -> list[str]:
    """Options of the merge. Raises FieldmarkError where it would fail."""
    if git.answer("merge-base", target, before) is None:
        raise FieldmarkError(
            f"{target[:7]} and this project share no history, so nobody can tell what you changed; "
            f"start from a clone, or add Fieldmark to a repository with `git subtree add`"
        )
    forward = git.answer("merge-base", "--is-ancestor", before, target) is not None
    if not forward and git.answer("var", "GIT_COMMITTER_IDENT") is None:
        raise FieldmarkError(
            "the update is a commit, and git does not know whose: "
            "git config user.name NAME; git config user.email ADDRESS"
        )
    inside = git.ask("rev-parse", "--show-prefix")
    own_tree = git.answer("cat-file", "-e", f"{target}:{inside}dvc.yaml") is None
    return ["-X", f"subtree={inside.rstrip('/')}"] if inside and own_tree else []


def _merge(target: str, how: list[str], edited: bool) -> None:
    process = git.run("merge", "--quiet", "--no-edit", "--ff", *how, target)
    _pass_on(process)
    if process.returncode:
        both = _unmerged()
        git.answer("merge", "--abort")
        if edited:
            git.ask("stash", "pop", "--quiet", "--index")
        raise FieldmarkError(_why(both, process, f"git merge {' '.join([*how, target[:10]])}"))


def _bring_back(before: str, lock_was_removed: bool) -> None:
    """Restore the stashed edits, or else everything as it was."""
    process = git.run("stash", "pop", "--quiet")
    _pass_on(process)
    if not process.returncode:
        return
    both = _unmerged()
    if lock_was_removed and both == [git.ask("rev-parse", "--show-prefix") + LOCK]:
        git.ask("reset", "--quiet", "--", LOCK)
        Path(LOCK).unlink(missing_ok=True)
        git.ask("stash", "drop", "--quiet")
        return
    git.ask("reset", "--quiet", "--hard", before)
    git.ask("stash", "pop", "--quiet", "--index")
    raise FieldmarkError(_why(both, process, "commit your edits, then: make update"))


def _unmerged() -> list[str]:
    listed = git.ask("diff", "--name-only", "--diff-filter=U", "-z")
    return [name for name in listed.split("\0") if name]


def _why(both: list[str], process: CompletedProcess[str], remedy: str) -> str:
    if both:
        return (
            f"you and the newer Fieldmark both changed {', '.join(both)}, so nothing was updated; "
            f"settle it by hand: {remedy}"
        )
    return f"nothing was updated: {_message(process)}"


def _pass_on(process: CompletedProcess[str]) -> None:
    """Print the decisions of the merge driver."""
    for line in process.stderr.splitlines():
        if line.startswith("fieldmark: "):
            print(line.removeprefix("fieldmark: "))


def _must(process: CompletedProcess[str], what: str) -> None:
    if process.returncode:
        raise FieldmarkError(f"git {what} failed: {_message(process)}")


def _message(process: CompletedProcess[str]) -> str:
    return " ".join(process.stderr.split())[:300] or "git gave no reason"


if __name__ == "__main__":
    try:
        update(*sys.argv[1:])
    except FieldmarkError as error:
        sys.exit(f"fieldmark: {error}")
