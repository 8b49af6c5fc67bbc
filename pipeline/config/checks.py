"""Everything that can be known to be wrong with the configuration before a stage runs."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline import FieldmarkError, redacted
from pipeline.config import messages
from pipeline.config.addresses import check_address, is_address
from pipeline.config.compose import Config, load, wiring
from pipeline.config.composed import keep
from pipeline.config.files import PARAMS, digest, files, read_yaml
from pipeline.config.places import made
from pipeline.config.targets import check_name, nodes, target

CHECKED = Path(".fieldmark/checked")  # the hash of the configuration that was found in order


def check() -> None:
    """Check everything in depth, once after each change of params.yaml or conf/; see `load` and
    `check_targets`.
    """
    read_yaml(PARAMS)  # a clear word where it is missing or no YAML
    version = digest()
    if not CHECKED.exists() or CHECKED.read_text(encoding="utf-8") != version:
        check_targets(load())
        keep(files(read_yaml(PARAMS)), version)
        made(CHECKED.parent)
        CHECKED.write_text(version, encoding="utf-8")


def check_images(dvc_encoding: str = "") -> None:
    """Raise FieldmarkError where `images:` names a path that is not there, that DVC cannot write in
    its encoding ("" for UTF-8), or an address that is not read: DVC finds that out once it has
    removed data/ingest.
    """
    images = _images()
    if dvc_encoding and not images.isascii():
        raise FieldmarkError(
            f"{PARAMS}: images: {images}: under this locale ({dvc_encoding}) DVC cannot have such "
            f"a name; run `export PYTHONUTF8=1`, then again"
        )
    if is_address(images):
        try:
            check_address(images)
        except FieldmarkError as error:
            raise FieldmarkError(f"{PARAMS}: images: {error}") from error
        if redacted(images) != images:
            print(
                f"{PARAMS}: images: holds a user, password or query, and so will git and dvc.lock",
                file=sys.stderr,
            )
    elif output := _overlapping(images):
        raise FieldmarkError(
            f"{PARAMS}: images: {images!r} holds what stages write, or lies in it ({output}); name "
            f"the folder or file that holds your images alone"
        )
    elif not Path(images).exists():
        raise FieldmarkError(
            f"{PARAMS}: images: {images} is not there; name the folder or file that holds your "
            f"images"
        )


def _overlapping(images: str) -> str:
    """The output of a stage at, below or above the place; "" where there is none."""
    place = Path(images).resolve()
    outputs = [out for stage in wiring().values() for out in stage.get("outs", [])]
    for output in outputs:
        path = Path(output).resolve()
        if path.is_relative_to(place) or place.is_relative_to(path):
            return str(output)
    return ""


def inputs() -> list[str]:
    """The places that people fill and stages read: `images:`, and what in data/ no stage makes."""
    stages = wiring().values()
    made = tuple(f"{out}/" for stage in stages for out in stage["outs"])
    deps = {dep for stage in stages for dep in stage.get("deps", []) if dep.startswith("data/")}
    return sorted(dep for dep in {_images(), *deps} if not f"{dep}/".startswith(made))


def _images() -> str:
    """Of params.yaml as it stands, which `check` has validated: to compose it anew takes longer than
    all else of a check, and this one goes before every `dvc repro`.
    """
    return str(read_yaml(PARAMS)["images"])


def check_targets(cfg: Config) -> None:
    """Check the arguments of every `_target_` in all sections; imports what they name, which takes
    seconds.

    Raises FieldmarkError naming the section, the argument and the nearest valid names.
    """
    all_nodes = list(_nodes(cfg))
    for where, node, group in all_nodes:  # all of them, before anything is imported
        _at(where, check_name, node, group)
    for where, node, group in all_nodes:
        _check_arguments(where, node, group)


def _nodes(cfg: Config) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every node with `_target_`, before it the file and the key, behind it the section's group."""
    params, plain = read_yaml(PARAMS), cfg.plain()
    plain |= {f"candidates.{name}": node for name, node in plain.get("candidates", {}).items()}
    for place, file in files(params).items():
        for path, node in nodes(plain.get(place), place):
            turned = messages.within(params, path.replace("[", ".").replace("]", "").split("."))
            yield f"{PARAMS if turned else file}: {path}", node, file.parent.name


def _at(where: str, check: Callable[[Mapping[str, Any], str], Any], node: Any, group: str) -> Any:
    try:
        return check(node, group)
    except FieldmarkError as error:
        raise FieldmarkError(f"{where}: {error}") from error


def _check_arguments(where: str, node: Mapping[str, Any], group: str) -> None:
    takes = inspect.signature(_at(where, target, node, group)).parameters
    for key, value in node.items():
        if key == "_target_" or (
            any(p.kind is p.VAR_KEYWORD for p in takes.values()) and key not in takes
        ):
            continue
        if key not in takes:
            raise FieldmarkError(
                f"{where}.{key}: unknown key; {messages.nearest(key, sorted(takes))}"
            )
        built = any(nodes(value, key))  # what it is made of is checked as a node of its own
        if node["_target_"].startswith("pipeline.") and not built:
            _check_type(f"{where}.{key}", takes[key].annotation, value)


def _check_type(where: str, annotation: Any, value: Any) -> None:
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        raise FieldmarkError(f"{where}: {error.errors()[0]['msg']}, not {value!r}") from error
