"""Where a project keeps what is no result."""

import os
from pathlib import Path


def home() -> Path:
    """The project folder, also from inside the temporary copies in which DVC runs queued
    experiments.
    """
    here = Path.cwd().resolve()
    return next(
        (p.parent.parent for p in here.parents if p.name == "tmp" and p.parent.name == ".dvc"), here
    )


def cache_folder() -> Path:
    """What is computed once for all runs; may be deleted at any time."""
    return Path(os.environ.get("FIELDMARK_CACHE", home() / ".fieldmark" / "cache"))
