"""`fieldmark forget`: photos leave images, outputs, caches, feedback and local runs.

Files of the person's own come last: a run that was killed finds the rest again. What is made from
photos is removed as whole folders, which `dvc repro` makes again without them.
"""

import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline import FieldmarkError, config
from pipeline.feedback import database, inbox
from pipeline.privacy import traces
from pipeline.repository import git
from pipeline.runs import stores
from pipeline.sources import address

ID = re.compile(r"[0-9a-f]{64}")
STORES = (Path("mlartifacts"), Path("mlruns"))
ARTIFACTS = "artifacts"
DECISIONS = Path("data/decisions/labels.csv")
DVC_CACHE = Path(".dvc/cache/files/md5")


def forget(photos: Sequence[str], *, yes: bool) -> str:
    """Remove photos, named by id or by file, or only list what would be removed; returns the account.

    Raises FieldmarkError for what is neither an id nor a file, and while `dvc` runs.
    """
    ids = {_id(photo) for photo in photos}
    images = config.load("images").images
    with _without_dvc():
        account = [f"photo {id}" for id in sorted(ids)]
        for path, what in _all(images, ids):
            account.append(f"{'removed' if yes else 'would remove'}: {path} ({what})")
            if yes:
                _remove(path)
        n_waiting = _from_inbox(ids, yes=yes)
    if n_waiting:
        verb = "removed" if yes else "would remove"
        account.append(f"{verb}: {n_waiting} of the feedback that waits in {inbox.FOLDER}")
    if len(account) == len(ids) and not n_waiting:
        account.append("nothing here holds them")
    after = "then: dvc repro" if yes else "nothing was changed; --yes removes it"
    return "\n".join([*account, "", "out of reach:", *_beyond(images, ids), "", after])


def _id(photo: str) -> str:
    if ID.fullmatch(photo):
        return photo
    if Path(photo).is_file():
        return traces.sha256(Path(photo))
    raise FieldmarkError(
        f"{photo}: neither a photo's file nor its id; the column id of data/ingest/table.parquet "
        f"and of the lists in data/label-check has 64 characters"
    )


def _all(images: str, ids: Collection[str]) -> Iterator[tuple[Path, str]]:
    """What is to be removed, in that order, each with what it is."""
    for folder in sorted(config.cache_folder().glob("*")):
        yield folder, "remembered results, computed again when needed"
    for folder in _unfinished():
        if traces.shows(folder, ids):
            yield folder, "an unfinished stage, or files on their way to a server"
    for file in traces.cached(DVC_CACHE, ids):
        yield file, "DVC's cache"
    for output in sorted({out for node in config.wiring().values() for out in node["outs"]}):
        if Path(output).is_dir() and traces.shows(Path(output), ids):
            yield Path(output), "a stage's output"
    for store in STORES:
        for folder in sorted(store.rglob(ARTIFACTS)) if store.is_dir() else []:
            if "models" not in folder.parts and traces.shows(folder, ids):
                yield folder, "files of a run in MLflow"
    own = [] if address.is_remote(images) else [Path(images)]
    for folder in [inbox.ACCEPTED, *own]:
        yield from ((file, "the photo") for file in traces.photos(folder, ids))


def _unfinished() -> Iterator[Path]:
    for name in ("partial", "pending", "reproduce"):
        folder = Path(config.STATE) / name
        yield from sorted(child for child in folder.glob("*") if child.is_dir())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _from_inbox(ids: Collection[str], *, yes: bool) -> int:
    """How many images that wait for a review are these photos, as they were sent or as stored."""
    file = inbox.FOLDER / inbox.FILE
    if not file.exists():
        return 0
    marks, values = ", ".join("?" * len(ids)), sorted(ids)
    query = f"SELECT upload FROM images WHERE id IN ({marks}) OR upload IN ({marks})"
    with database.opened(file) as db:
        with closing(db.execute(query, values * 2)) as rows:
            uploads = [upload for (upload,) in rows]
        if yes:
            with database.writing(db):
                for upload in uploads:
                    database.forget(db, upload)
    return len(uploads)


def _beyond(images: str, ids: Collection[str]) -> list[str]:
    """What a command on this machine cannot take back."""
    source = [f"{images}: the source itself, from where ingest would take it again"]
    is_folder = not address.is_remote(images) and Path(images).is_dir()
    named = (
        sum(DECISIONS.read_text(encoding="utf-8").count(id) for id in ids)
        if DECISIONS.exists()
        else 0
    )
    store = stores.address()
    server = [f"{stores.place(store)}: artifacts of its runs"] if stores.is_remote(store) else []
    remotes = (git.answer("remote") or "").split()
    return [
        *([] if is_folder else source),
        *(f"git remote {name}, and every clone" for name in remotes),
        *(f"DVC remote {name}" for name in _dvc_remotes()),
        *server,
        *([f"{DECISIONS}, and git's history of it: {named} lines name its hash"] if named else []),
        "models that learned from it: those registered stay until they are deleted in MLflow",
        "backups, other people's copies, and pages that were passed on",
    ]


def _dvc_remotes() -> list[str]:
    configs = [Path(".dvc/config"), Path(".dvc/config.local")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in configs if file.exists())
    return re.findall(r"""\['?remote "([^"]+)"'?\]""", text)


@contextmanager
def _without_dvc() -> Iterator[None]:
    """DVC's lock of the project, so that no stage writes what is being removed.

    While a stage runs, DVC gives that lock away and notes the process in its file `rwlock`.
    """
    folder, busy = Path(".dvc/tmp"), "`dvc` is at work in this folder; wait until it ends"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            notes = folder / "rwlock"
            text = notes.read_text(encoding="utf-8") if notes.exists() else ""
            if any(_lives(int(pid)) for pid in re.findall(r'"pid": *(\d+)', text)):
                raise FieldmarkError(busy)
            yield
    except Timeout as error:
        raise FieldmarkError(busy) from error


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another account's
    return True
