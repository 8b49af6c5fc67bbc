"""An old commit, checked out into a scratch folder that belongs to one process.

`.fieldmark/reproduce/NAME` holds the worktree and whatever must lie beside it. Its process holds
`NAME.lock` as long as it lives. The next process removes the folder of a killed one.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from pipeline import FieldmarkError, config
from pipeline.repository import git

KEPT = "kept"  # a file of this name marks a scratch folder that stays


def scratch_root() -> Path:
    return config.home() / ".fieldmark" / "reproduce"


@contextmanager
def checked_out(commit: str, *, above: int = 0, keep: bool = False) -> Iterator[Path]:
    """The project's folder in a worktree of this commit; removed afterwards unless `keep`.

    above: how many levels of the scratch folder lie above the worktree, for a path such as
    ../photos. Raises FieldmarkError where the commit is not here or git cannot check it out.
    """
    inside = git.ask("rev-parse", "--show-prefix")  # the sub-folder of a larger repository
    if git.answer("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") is None:
        raise FieldmarkError(f"commit {commit} is not in this repository; `git fetch` it first")
    scratch, lock = _own_folder(commit)
    try:
        place = scratch.joinpath(*["above"] * above, "worktree")
        _add(place, commit, inside)
        yield place / inside
    finally:
        if keep:
            (scratch / KEPT).touch()
            print(f"kept: {place / inside} (`rm -r {scratch}` removes it)")
        else:
            _remove(scratch)
        lock.release()


def _own_folder(commit: str) -> tuple[Path, BaseFileLock]:
    """A new scratch folder and its lock, held; removes the folders of ended processes."""
    root = scratch_root()
    config.made(root)
    # Nobody sweeps the new folder before it is locked.
    with FileLock(root / "all.lock"):
        for lock_file in root.glob("*.lock"):
            if lock_file.stem != "all":
                _sweep(lock_file.with_suffix(""), lock_file)
        scratch = Path(tempfile.mkdtemp(prefix=f"{commit[:12]}-", dir=root))
        lock = FileLock(_lock_file(scratch))
        lock.acquire()
        return scratch, lock


def _sweep(scratch: Path, lock_file: Path) -> None:
    try:
        with FileLock(lock_file, timeout=0):
            if not (scratch / KEPT).exists():
                _remove(scratch)
    except Timeout:
        pass  # its process is alive


def _lock_file(scratch: Path) -> Path:
    return scratch.with_name(f"{scratch.name}.lock")


def _remove(scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    git.answer("worktree", "prune")
    _lock_file(scratch).unlink(missing_ok=True)


def _add(place: Path, commit: str, inside: str) -> None:
    process = git.run("worktree", "add", "--detach", str(place), commit)
    if process.returncode:
        last = (process.stderr.splitlines() or ["no reason given"])[-1]
        raise FieldmarkError(f"git could not check out {commit} into {place}: {last}")
    if not (place / inside / "dvc.yaml").exists():
        raise FieldmarkError(f"commit {commit} holds no {inside}dvc.yaml, so nothing can be run")
