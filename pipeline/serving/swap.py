"""The current model, and the thread that replaces it by a new version.

A new version is loaded and checked beside the current one. A version that fails its checks is
refused until another one is promoted; the old one stays in use. It also stays in use while the
registry cannot be reached.
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
        """The version to serve now."""

    def load(self, version: str) -> Model:
        """That version as a model.

        Raises FieldmarkError where it is broken, any other exception where it cannot be loaded now.
        """


class Folder:
    """An exported folder, loaded again when its files change."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._last = self._settled = ""

    def current(self) -> str:
        """A hash of the files, once it was the same in two checks: before, a file may be half written.

        Raises FieldmarkError where one is missing.
        """
        fingerprint = model.fingerprint(self._folder)
        if fingerprint == self._last or not self._settled:
            self._settled = fingerprint
        self._last = fingerprint
        return self._settled

    def load(self, version: str) -> Model:
        """Raises FieldmarkError where they are broken, OSError where they changed meanwhile."""
        loaded = model.load(self._folder, name=self._name, version=version[:12])
        if model.fingerprint(self._folder) != version:
            raise OSError("the folder is being written")
        return loaded


class Registry:
    """A version of the registered model, by default the one with the alias `production`."""

    def __init__(
        self,
        name: str,
        version: str = "",
        alias: str = "production",
        *,
        few_images: bool = False,
    ) -> None:
        """few_images: see exported.model.load."""
        self._name, self._version, self._alias = name, version, alias
        self._few_images = few_images

    def current(self) -> str:
        """Raises FieldmarkError where no version has the alias."""
        from pipeline.runs import tracking

        version = self._version or tracking.alias_version(self._name, self._alias)
        if not version:
            raise FieldmarkError(
                f"no version of {self._name} has the alias {self._alias}; promote one, or name "
                f"a version instead"
            )
        return version

    def load(self, version: str) -> Model:
        """The version, downloaded to a folder that is deleted once the engine has read it.

        Raises FieldmarkError where it is broken or incomplete.
        """
        from pipeline.runs import tracking

        with tempfile.TemporaryDirectory(prefix="fieldmark-serve-") as to:
            files = tracking.download(f"models:/{self._name}/{version}", Path(to))
            if missing := [name for name in model.FILES if not (files / name).exists()]:
                raise FieldmarkError(
                    f"{self._name} version {version} has no {', '.join(missing)} where MLflow "
                    f"keeps its files; take another version"
                )
            return model.load(files, name=self._name, version=version, few_images=self._few_images)


class CurrentModel:
    """Holds the model; `watch` keeps it up to date."""

    def __init__(
        self, source: Source, on_event: Callable[[str], None] = lambda event: None
    ) -> None:
        """Load the first version; raises FieldmarkError where that is not possible.

        `on_event` is called with the name of each event.
        """
        self._source, self._on_event = source, on_event
        self._version = source.current()
        self.model, self.since = source.load(self._version), time.time()
        self.refused: Refused | None = None
        self._stop = threading.Event()

    def watch(self, every_s: float) -> None:
        """Check for another version every `every_s` seconds, in a thread of its own."""
        threading.Thread(target=self._work, args=(every_s,), name="swap", daemon=True).start()

    def stop(self) -> None:
        """Stop checking; do not wait for a load that is under way."""
        self._stop.set()

    def look(self) -> None:
        """Check once; afterwards the version to serve is in use or refused, if it could be loaded."""
        try:
            version = self._source.current()
        # Any error: the registry may be away, or the folder half written.
        except Exception as error:
            self._away(error)
            return
        if version == self._version:
            self.refused = None
        elif self.refused is None or self.refused.version != version[:12]:
            self._swap(version)

    def _swap(self, version: str) -> None:
        start = time.perf_counter()
        try:
            loaded = self._source.load(version)
        except FieldmarkError as error:
            self._refuse(version, str(error))
        except Exception as error:  # not the version's fault: the next check tries again
            self._away(error)
        else:
            self._version, self.model, self.since = version, loaded, time.time()
            self.refused = None
            self._on_event("swapped")
            log.warning(
                "now serving version %s, loaded in %.1f s",
                loaded.version,
                time.perf_counter() - start,
            )

    def _refuse(self, version: str, reason: str) -> None:
        self.refused = Refused(version=version[:12], reason=reason)
        self._on_event("refused")
        log.error(
            "version %s is refused, %s stays in use: %s", version[:12], self.model.version, reason
        )

    def _away(self, error: Exception) -> None:
        self._on_event("away")
        log.warning(
            "cannot check for a new version, %s stays in use: %s",
            self.model.version,
            type(error).__name__,
        )

    def _work(self, every_s: float) -> None:
        while not self._stop.wait(every_s):
            before = self._version
            self.look()
            if self._version != before:
                self._stop.wait(UNDER_WAY_S)  # some requests still use the old engine
                give_back()


def give_back() -> None:
    """Return the memory of a replaced engine to the system."""
    gc.collect()  # the engine is part of a reference cycle, which would keep it for long
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)  # glibc keeps freed memory: a third of the process after twenty versions
