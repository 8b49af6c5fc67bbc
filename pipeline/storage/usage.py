"""What `fieldmark cache` prints and deletes."""

import shutil
import time

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline import FieldmarkError, config
from pipeline.config import messages
from pipeline.storage import memo


def command(kind: str | None, *, clear: bool) -> None:
    """Print a kind, or all kinds; or delete them."""
    if clear:
        delete(kind)
    else:
        show(kind)


def kinds() -> dict[str, list[memo.File]]:
    """The files of each kind."""
    files_by_kind: dict[str, list[memo.File]] = {}
    for kind, file in memo.files():
        files_by_kind.setdefault(kind, []).append(file)
    return files_by_kind


def delete(kind: str | None = None) -> None:
    """Delete the results of a kind, or all; they are computed again when needed.

    Raises FieldmarkError for a kind without results.
    """
    present = _of(kind)
    for name in present:
        shutil.rmtree(config.cache_folder() / name, ignore_errors=True)


def show(kind: str | None = None) -> None:
    """Print one row per kind: files, size, last use.

    Raises FieldmarkError for a kind without results.
    """
    present = _of(kind)
    table = Table(
        "kind",
        "files",
        "MB",
        "last used",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        caption=f"of at most {memo.limit_bytes() / 1e9:g} GB (FIELDMARK_CACHE_GB)",
    )
    for name, files in present.items():
        used = time.localtime(max(file.used for file in files) / 1e9)
        size = sum(file.n_bytes for file in files) / 1e6
        last_use = time.strftime("%Y-%m-%d %H:%M", used)
        table.add_row(name, str(len(files)), f"{size:,.1f}", last_use)
    Console(highlight=False).print(table)


def _of(kind: str | None) -> dict[str, list[memo.File]]:
    present = kinds()
    if kind is None:
        return present
    if kind not in present:
        advice = messages.nearest(kind, sorted(present)) if present else "it is empty"
        raise FieldmarkError(f"the cache holds no {kind}; {advice}")
    return {kind: present[kind]}
