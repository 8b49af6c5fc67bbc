"""Which commit the code in use is, and which of its files are in no commit.

In use are dvc.yaml, params.yaml, the package, people's decisions, and the files of conf/ that
params.yaml selects. Such a file that git does not hold, ignored or not, counts as an edit: a
checkout of the commit would lack it. So does a tracked file with an edit, anywhere in the project
folder, except dvc.lock, which every rebuild writes.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline import FieldmarkError
from pipeline.config.files import CANDIDATES, GROUP, PARAMS, groups, read_yaml
from pipeline.repository import git

IN_USE = ("dvc.yaml", "params.yaml", "pipeline", "conf", "data/decisions")
NAMED = 5  # files on record by name; more are counted
LACKING = "in no commit"
CACHES = "__pycache__"


def tags() -> dict[str, str]:
    """`git.commit` ("none" before the first one) and `git.dirty` (true, false or unknown).

    Where they apply, also `git.uncommitted` (which files) and `git.unknown` (why git fails).
    """
    try:
        return _read_tags()
    except FieldmarkError as error:
        commit = "unknown" if git.in_repository() else "none"
        return {"git.commit": commit, "git.dirty": "unknown", "git.unknown": str(error)}


def check() -> None:
    """Raise FieldmarkError where there is a repository and git fails in it.

    What is built now would never pass the gate of a clean commit. Outside a repository, DVC
    refuses.
    """
    if git.in_repository():
        _read_tags()


def to_commit() -> bool:
    """Whether git reports a tracked file of the project as edited, dvc.lock among them."""
    return bool(git.answer("status", "--porcelain", "--untracked-files=no", "--", "."))


def _read_tags() -> dict[str, str]:
    inside = git.ask("rev-parse", "--show-prefix")
    commit = git.answer("rev-parse", "--verify", "--quiet", "HEAD") or "none"
    edited, lacking = _compare(commit, inside)
    edited |= _status(inside) - lacking
    files = [*sorted(edited), *(f"{name} ({LACKING})" for name in sorted(lacking))]
    listed = ", ".join(files[:NAMED]) + (f" and {n} more" if (n := len(files) - NAMED) > 0 else "")
    result = {"git.commit": commit, "git.dirty": str(bool(files)).lower()}
    return result | ({"git.uncommitted": _printable(listed)} if files else {})


def _status(inside: str) -> set[str]:
    """The tracked files of the project that git reports as edited."""
    options = ("--porcelain=v2", "--no-renames", "--untracked-files=no", "-z")
    paths = set()
    for line in git.ask("status", *options, "--", ".", ":!dvc.lock").split("\0"):
        kind, fields = line[:2], line.split(" ", 10)
        if kind == "u ":
            paths.add(fields[10])
        elif kind == "1 ":
            paths.add(" ".join(fields[8:]))
    return {path.removeprefix(inside) for path in paths}


def _compare(commit: str, inside: str) -> tuple[set[str], set[str]]:
    """The files in use that differ from the commit, and those that it lacks.

    They are compared by content, with an index of our own. git's index takes a file for unchanged
    by its size and time, which a queued experiment's params.yaml passes, and can be told to ignore
    it (`update-index --assume-unchanged`, `--skip-worktree`).
    """
    with TemporaryDirectory() as folder:
        own = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        if git.answer("rev-parse", "--verify", "--quiet", f"{commit}:{inside}") is not None:
            prefix = [f"--prefix={inside}"] if inside else []
            git.ask("read-tree", *prefix, f"{commit}:{inside}", environment=own)
        options = ("ls-files", "-t", "-z", "--others", "--modified", "--deleted")
        listed = git.ask(*options, "--", *IN_USE, environment=own)
    edited, lacking, used = set(), set(), _conf_in_use()
    for line in filter(None, listed.split("\0")):
        letter, path = line.split(" ", 1)
        if letter != "?":
            edited.add(path)
        elif _counts(path, used):
            lacking.add(path)
    return edited, lacking


def _conf_in_use() -> set[str]:
    params = read_yaml(PARAMS)
    chosen = {f"conf/{group}/{params[name]['use']}.yaml" for name, group in groups().items()}
    tried = {f"conf/{GROUP}/{node['use']}.yaml" for node in params[CANDIDATES].values()}
    return {"conf/config.yaml", *chosen, *tried}


def _counts(path: str, conf_in_use: set[str]) -> bool:
    """Whether a file changes results: files that editors and Python leave behind do not."""
    if path.startswith("conf/"):
        return path in conf_in_use
    left_behind = path.endswith("~") or any(part.startswith(".") for part in path.split("/"))
    return not left_behind and CACHES not in path.split("/")


def _printable(names: str) -> str:
    return names.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
