"""The model that answers, and the thread that looks for a better one: loaded and tried beside, then
put in its place.

A version that fails its checks is refused and stays so until another one is named; the old one goes
on. A registry that cannot be reached is no reason to stop either.
"""

import ctypes
import gc
import logging
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from pipeline import FieldmarkError
from pipeline.exported import model
from pipeline.exported.model import Model
from pipeline.serving.answers import Refused

log = logging.getLogger(__name__)
UNDER_WAY_S = 2.0


@runtime_checkable
class Source(Protocol):
    """Where versions come from."""

    def current(self) -> str:
        """What names the version to serve now."""

    def load(self, version: str) -> Model:
        """That version; raises FieldmarkError where it is broken, anything else where it cannot be
        had just now.
        """


class Folder:
    """An exported folder, served anew when its files change."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._last = self._settled = ""

    def current(self) -> str:
        """A hash of the files once it was the same at two looks in turn: before, they may still be
        being written.

        Raises FieldmarkError where one is missing.
        """
        seen = model.fingerprint(self._folder)
        if seen == self._last or not self._settled:
            self._settled = seen
        self._last = seen
        return self._settled

    def load(self, version: str) -> Model:
        """Raises FieldmarkError where they are broken, OSError where they changed meanwhile."""
        made = model.load(self._folder, name=self._name, version=version[:12])
        if model.fingerprint(self._folder) != version:
            raise OSError("the folder is being written")
        return made


class Registry:
    """A version of the registered model, or whichever one the alias `production` names."""

    def __init__(self, name: str, version: str = "", alias: str = "production") -> None:
        self._name, self._version, self._alias = name, version, alias

    def current(self) -> str:
        """Raises FieldmarkError where the alias names none."""
        from pipeline.runs import tracking

        version = self._version or tracking.alias_version(self._name, self._alias)
        if not version:
            raise FieldmarkError(
                f"no version of {self._name} has the alias {self._alias}; promote one, or name "
                f"a version instead"
            )
        return version

    def load(self, version: str) -> Model:
        """Downloaded to a folder that is gone once the engine has read it; raises FieldmarkError
        where it is broken, or some of it is missing.
        """
        from pipeline.runs import tracking

        with tempfile.TemporaryDirectory(prefix="fieldmark-serve-") as to:
            files = tracking.download(f"models:/{self._name}/{version}", Path(to))
            if missing := [name for name in model.FILES if not (files / name).exists()]:
                raise FieldmarkError(
                    f"{self._name} version {version} has no {', '.join(missing)} where MLflow "
                    f"keeps its files; take another version"
                )
            return model.load(files, name=self._name, version=version)


class Keeper:
    """Holds the model; `watch` keeps it up to date."""

    def __init__(self, source: Source, told: Callable[[str], None] = lambda event: None) -> None:
        """Loads the first version; raises FieldmarkError where that is not possible. `told` hears
        of events by name.
        """
        self._source, self._told = source, told
        self._version = source.current()
        self.model, self.since = source.load(self._version), time.time()
        self.refused: Refused | None = None
        self._stop = threading.Event()

    def watch(self, every_s: float) -> None:
        """Look for another version every so many seconds, in a thread of its own."""
        threading.Thread(target=self._work, args=(every_s,), name="swap", daemon=True).start()

    def stop(self) -> None:
        """No more looking; a load that is under way is not waited for."""
        self._stop.set()

    def look(self) -> None:
        """Look once; on return the version that is named is served or refused, if it could be
        had.
        """
        try:
            named = self._source.current()
        except (
            Exception
        ) as error:  # whatever a registry that is away, or a folder being written, comes up with
            self._away(error)
            return
        if named == self._version:
            self.refused = None
        elif self.refused is None or self.refused.version != named[:12]:
            self._take(named)

    def _take(self, named: str) -> None:
        start = time.perf_counter()
        try:
            made = self._source.load(named)
        except FieldmarkError as error:
            self._refuse(named, str(error))
        except Exception as error:  # not the version's fault: the next look tries again
            self._away(error)
        else:
            self._version, self.model, self.since, self.refused = named, made, time.time(), None
            self._told("swapped")
            log.warning(
                "now serving version %s, after %.1f s of loading beside",
                made.version,
                time.perf_counter() - start,
            )

    def _refuse(self, named: str, reason: str) -> None:
        self.refused = Refused(version=named[:12], reason=reason)
        self._told("refused")
        log.error("version %s is refused, %s goes on: %s", named[:12], self.model.version, reason)

    def _away(self, error: Exception) -> None:
        self._told("away")
        log.warning(
            "cannot look for a new version, %s goes on: %s",
            self.model.version,
            type(error).__name__,
        )

    def _work(self, every_s: float) -> None:
        while not self._stop.wait(every_s):
            before = self._version
            self.look()
            if self._version != before:
                self._stop.wait(UNDER_WAY_S)  # requests that still hold the old engine
                give_back()


def give_back() -> None:
    """Return the memory of a replaced engine to the system."""
    gc.collect()  # its own circle of references would keep it for long
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)  # glibc keeps what was freed: a third of the process, measured over twenty versions
