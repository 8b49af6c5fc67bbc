"""Which commit the code in use is, and what of it is in no commit.

In use are dvc.yaml, params.yaml, the package, people's decisions, and the files of conf/ that
params.yaml selects. A file of these that git does not hold, ignored or not, counts as an edit: a
checkout of the commit would lack it. So does a tracked file with an edit, anywhere in the project
folder but in dvc.lock, which every rebuild writes.
"""

from pathlib import Path

from pipeline import FieldmarkError
from pipeline.config.compose import PARAMS, groups, read_yaml
from pipeline.repository import git

IN_USE = ("dvc.yaml", "params.yaml", "pipeline", "conf", "data/decisions")
NAMED = 5  # files on record by name; more are counted
CACHES = "__pycache__"


def tags() -> dict[str, str]:
    """`git.commit` ("none" before the first one), `git.dirty` (true, false or unknown), and where
    they apply `git.uncommitted` (which files) and `git.unknown` (why git does not answer).
    """
    try:
        return _known()
    except FieldmarkError as error:
        commit = "unknown" if git.in_repository() else "none"
        return {"git.commit": commit, "git.dirty": "unknown", "git.unknown": str(error)}


def check() -> None:
    """Raise FieldmarkError where there is a repository and git does not answer in it: what is built
    now would never pass the gate of a clean commit. A folder in no repository is DVC's to refuse.
    """
    if git.in_repository():
        _known()


def _known() -> dict[str, str]:
    commit, edited = _commit_and_edits()
    lacking, hidden = _unseen()
    files = [*sorted({*edited, *hidden}), *(f"{name} (not in git)" for name in sorted(lacking))]
    shown = ", ".join(files[:NAMED]) + (f" and {n} more" if (n := len(files) - NAMED) > 0 else "")
    known = {"git.commit": commit, "git.dirty": str(bool(files)).lower()}
    return known | ({"git.uncommitted": _printable(shown)} if files else {})


def _commit_and_edits() -> tuple[str, list[str]]:
    """The commit and the tracked files that are not as it holds them, relative to the working
    folder.
    """
    asked = ("--porcelain=v2", "--branch", "--no-renames", "--untracked-files=no", "-z")
    commit, paths = "none", []
    for line in git.ask("status", *asked, "--", ".", ":!dvc.lock").split("\0"):
        if line.startswith("# branch.oid ") and not line.endswith("(initial)"):
            commit = line.split(" ")[-1]
        elif line.startswith("1 "):
            paths.append(line.split(" ", 8)[8])
        elif line.startswith("u "):
            paths.append(line.split(" ", 10)[10])
    inside = git.ask("rev-parse", "--show-prefix") if paths else ""
    return commit, [path.removeprefix(inside) for path in paths]


def _unseen() -> tuple[list[str], list[str]]:
    """Of the files in use those that git does not hold, and those with an edit that git was told to
    overlook (`update-index --assume-unchanged`, `--skip-worktree`).
    """
    used, lacking, hidden = _conf_in_use(), [], []
    listed = git.ask("ls-files", "-v", "-z", "--others", "--cached", "--", *IN_USE)
    for line in filter(None, listed.split("\0")):
        letter, path = line.split(" ", 1)
        if letter == "?" and _counts(path, used):
            lacking.append(path)
        elif letter in "hSs" and Path(path).is_file() and _differs(path):
            hidden.append(path)
    return lacking, hidden


def _conf_in_use() -> set[str]:
    params = read_yaml(PARAMS)
    chosen = {f"conf/{group}/{params[name]['use']}.yaml" for name, group in groups().items()}
    return {"conf/config.yaml", *chosen}


def _counts(path: str, conf_in_use: set[str]) -> bool:
    """What editors and Python leave beside the code changes nothing."""
    if path.startswith("conf/"):
        return path in conf_in_use
    left_behind = path.endswith("~") or any(part.startswith(".") for part in path.split("/"))
    return not left_behind and CACHES not in path.split("/")


def _differs(path: str) -> bool:
    return git.answer("hash-object", "--", path) != git.answer("rev-parse", f"HEAD:./{path}")


def _printable(names: str) -> str:
    return names.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
