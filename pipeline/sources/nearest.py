"""For a name that is on no disk, the file that was probably meant."""

import os
import unicodedata
from difflib import get_close_matches
from functools import cached_property

from pipeline.sources.layout import printable

MAX_FILES = 50_000  # listed: a fraction of a second
MAX_COMPARED, MAX_GUESSES = 1000, 20  # a comparison takes milliseconds per name


class Nearest:
    """The files below the folder of a listing, listed once, when the first name is missing."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._n_guesses = 0

    def hint(self, place: str) -> str:
        """The end of the message that `place` is missing; "" where nothing resembles it."""
        path = place.removeprefix(f"{self._folder}/").replace("\\", "/")
        base = path.rpartition("/")[2]
        near = self._names.get(_key(base)) or self._stems.get(_key(base))
        if near is None and "." in base:
            near = self._stems.get(_key(base.rpartition(".")[0]))
        near = near or self._guess(path)
        if near is None:
            return ""
        before, middle, behind = near.partition(path)
        settings = [
            f"{key}: {value}"
            for key, value in (("path_prefix", before), ("path_suffix", behind))
            if value
        ]
        if not middle or not settings or (before and not before.endswith("/")):
            return f"; the nearest is {printable(near)}"
        return f"; there is {printable(near)}: set {', '.join(settings)} in ingest.source"

    @cached_property
    def _files(self) -> list[str]:
        """Relative to the folder, as they are spelled on disk."""
        files: list[str] = []
        for folder, folders, names in os.walk(self._folder):
            folders.sort()
            inside = os.path.relpath(folder, self._folder)
            files += [name if inside == "." else f"{inside}/{name}" for name in sorted(names)]
            if len(files) >= MAX_FILES:
                break
        return files[:MAX_FILES]

    @cached_property
    def _names(self) -> dict[str, str]:
        return {_key(file.rpartition("/")[2]): file for file in reversed(self._files)}

    @cached_property
    def _stems(self) -> dict[str, str]:
        stems = ((file.rpartition("/")[2].rpartition("."), file) for file in reversed(self._files))
        return {_key(stem): file for (stem, _, _), file in stems if stem}

    def _guess(self, path: str) -> str | None:
        """The file of the same folder with the most similar name; for the first few names only."""
        self._n_guesses += 1
        if self._n_guesses > MAX_GUESSES:
            return None
        folder = path.rpartition("/")[0]
        beside = [file for file in self._files if file.rpartition("/")[0] == folder]
        return next(iter(get_close_matches(path, beside[:MAX_COMPARED], 1, 0.7)), None)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
