"""The files of the configuration: which one each section uses, and what stands in it.

DVC watches params.yaml and, of conf/, the files in use, so none may take a value from elsewhere.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline import FieldmarkError, one_line
from pipeline.config import messages

PARAMS = Path("params.yaml")
CONF = Path("conf")
CANDIDATES, GROUP = "candidates", "candidate"  # the section that is a mapping, and its files
EXAMPLE = "{lite0: {use: efficientnet_lite0}}"


def digest() -> str:
    """Of params.yaml and all files of conf/, with their names."""
    files = [file for file in [PARAMS, *sorted(CONF.rglob("*.yaml"))] if file.exists()]
    return hashlib.sha256(
        b"\0".join(part for file in files for part in (bytes(file), file.read_bytes()))
    ).hexdigest()


def files(params: Mapping[str, Any], *, given: Sequence[str] = ()) -> dict[str, Path]:
    """Section, or `candidates.NAME` -> the file of conf/ that params.yaml selects for it.

    given: sections whose file was named elsewhere, so that a slip is none of params.yaml. Raises
    FieldmarkError for a file that is not there.
    """
    own = params[CANDIDATES]
    if not isinstance(own, dict) or not own:
        raise FieldmarkError(
            f"{PARAMS}: {CANDIDATES}: name one at least, as in `{CANDIDATES}: "
            f"{EXAMPLE}`, with a file of {CONF / GROUP}/"
        )
    for name in own:
        if not re.fullmatch(r"\w[\w-]*", str(name), re.ASCII):
            raise FieldmarkError(
                f"{PARAMS}: {CANDIDATES}: {name!r} is no name; use letters, digits, _ and -"
            )
    places = {name: (group, params[name]) for name, group in groups().items()}
    places |= {f"{CANDIDATES}.{name}": (GROUP, node) for name, node in own.items()}
    return {
        place: _choice(place, group, node, "" if place in given else f"{PARAMS}: {place}.use: ")
        for place, (group, node) in places.items()
    }


def read_yaml(file: Path) -> dict[str, Any]:
    try:
        node = OmegaConf.load(file)
        values = OmegaConf.to_container(node, resolve=False)
    except FileNotFoundError as error:
        raise FieldmarkError(
            f"{file} is missing; run the command in the folder that holds dvc.yaml"
        ) from error
    except (YAMLError, OmegaConfBaseException) as error:
        raise FieldmarkError(f"{file}: not valid YAML: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise FieldmarkError(f"{file}: a mapping of sections was expected")
    if "${" in str(values):
        raise FieldmarkError(
            f"{file}: `${{...}}` takes a value from where DVC does not look; write the value itself"
        )
    return {str(key): value for key, value in values.items()}


def groups() -> dict[str, str]:
    """Section -> group, from the defaults list: `- tune: ???`, or `- candidate@embedding: ???` for
    a section that takes its file from another group.
    """
    node = read_yaml(CONF / "config.yaml")
    messages.check_names(
        node, ["defaults"], CONF / "config.yaml"
    )  # DVC does not look here: no stage depends on it
    entries = [next(iter(entry)) for entry in node["defaults"] if isinstance(entry, dict)]
    return {entry.split("@")[-1]: entry.split("@")[0] for entry in entries}


def _choice(place: str, group: str, node: Any, where: str) -> Path:
    if not isinstance(node, dict) or not isinstance(node.get("use"), str):
        name = place.rpartition(".")[-1]
        raise FieldmarkError(
            f"{PARAMS}: {place}: write `{name}: {{use: FILE}}`, with a file of {CONF / group}/"
        )
    known = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    file = CONF / group / f"{node['use']}.yaml"
    if node["use"] not in known:
        raise FieldmarkError(f"{where}there is no {file}; {messages.nearest(node['use'], known)}")
    return file


def check_stands_alone(file: Path) -> None:
    """Of a section's files DVC watches only the one in use, so that one may neither borrow from
    others nor lend.
    """
    if "defaults" in read_yaml(file) or "@package" in file.read_text(encoding="utf-8"):
        raise FieldmarkError(
            f"{file}: `defaults:` and `@package` reach into other files, unseen by DVC; write "
            f"all values here"
        )
