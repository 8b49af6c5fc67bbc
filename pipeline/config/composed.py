"""The sections as the files of conf/ give them, before what params.yaml turns: Hydra composes."""

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.files import CANDIDATES, CONF, check_stands_alone
from pipeline.config.places import made

KEPT = Path(".fieldmark/composed.json")  # of the configuration that was found in order


def composed(used: Mapping[str, Path], version: str) -> dict[str, Any]:
    """The sections of these files, by name; candidates are below `candidates`.

    version: of all files (see files.digest). What `keep` has kept of it is read: Hydra takes longer
    to import than all stages need of it.
    """
    kept = _read()
    if kept.get("version") == version and kept.get("files") == _names(used):
        sections: dict[str, Any] = kept["sections"]
        return sections
    return _by_hydra(tuple(used.items()), version)


@lru_cache(maxsize=1)
def _by_hydra(used: tuple[tuple[str, Path], ...], version: str) -> dict[str, Any]:
    """version: the same files may have changed. Asked twice where `keep` follows `composed`."""
    for _, file in used:
        check_stands_alone(file)
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        overrides = [_override(place, file) for place, file in used]
        whole = OmegaConf.to_container(compose("config", overrides=overrides), resolve=True)
    assert isinstance(whole, dict)
    return {str(key): value for key, value in whole.items()}


def keep(used: Mapping[str, Path], version: str) -> None:
    """Keep the sections for the stages of a rebuild; not those that JSON would change."""
    sections = composed(used, version)
    text = json.dumps({"version": version, "files": _names(used), "sections": sections})
    if json.loads(text)["sections"] == sections:
        half = made(KEPT.parent) / f"{KEPT.name}.{os.getpid()}"
        half.write_text(text, encoding="utf-8")
        os.replace(half, KEPT)


def _read() -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or no longer whole: composed anew
        return {}
    return kept


def _names(used: Mapping[str, Path]) -> dict[str, str]:
    return {place: file.as_posix() for place, file in used.items()}


def _override(place: str, file: Path) -> str:
    group = file.parent.name
    added = "+" if place.startswith(f"{CANDIDATES}.") else ""  # not in the defaults list
    return f"{added}{group}{'' if place == group else f'@{place}'}={file.stem}"
