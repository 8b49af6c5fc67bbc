"""params.yaml over conf/: what one stage may see (Hydra composes, pydantic checks).

conf/ holds every default, params.yaml only what the user turned; dvc.yaml says which sections a
stage uses. Everything here is relative to the working folder, which DVC sets to the folder of
dvc.yaml.
"""

import difflib
import hashlib
import importlib
import inspect
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from pipeline import schema
from pipeline.errors import FieldmarkError, one_line

PARAMS = Path("params.yaml")
CONF = Path("conf")
CHECKED = Path(".fieldmark/checked")  # the hash of the configuration that was found in order
PLAIN = {
    "seed": int,
    "images": str,
    "blur_faces": bool,
}  # the parameters that are values, not sections
TARGETS = ("pipeline.", "albumentations.")  # what a configuration file may call


class Config:
    """The sections that one stage declares in dvc.yaml; asking for another one is an error."""

    seed: int
    images: str
    blur_faces: bool
    ingest: schema.Ingest
    label_check: schema.LabelCheck
    embedding: schema.Model
    preprocess: schema.Preprocess
    augment: schema.Augment
    network: schema.Model
    scratch: schema.Model
    classical: schema.Model
    fit: schema.Fit
    model_search: schema.ModelSearch
    tune: schema.Tune
    evaluate: schema.Evaluate
    export: schema.Export
    serving: schema.Serving
    monitor: schema.Monitor
    promotion: schema.Promotion

    def __init__(self, **sections: Any) -> None:
        self.__dict__.update(sections)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the section {name!r} is not among the stage's params in dvc.yaml")

    def only(self, *sections: str) -> "Config":
        """What a stage that declares these may see."""
        return Config(**{name: vars(self)[name] for name in sections})

    def plain(self) -> dict[str, Any]:
        """Every value as plain Python, for records."""
        return {
            k: v.model_dump() if isinstance(v, schema.Section) else v for k, v in vars(self).items()
        }


def load(*sections: str, use: Mapping[str, str] | None = None) -> Config:
    """The named sections (all, when none is named), composed and checked.

    Raises FieldmarkError naming the file, the key and the nearest valid names; every section is
    checked, so that a slip in a late stage stops the first one. `use` selects another file for a
    section, without overrides.
    """
    whole = _load(_digest(), tuple((use or {}).items()))
    _check_names(dict.fromkeys(sections), list(vars(whole)), PARAMS)
    return whole.only(*(sections or vars(whole)))


@lru_cache(maxsize=4)
def _load(digest: str, use: tuple[tuple[str, str], ...]) -> Config:
    """All sections; `digest` is that of the files, which are read anew only after a change."""
    params, groups = _read(PARAMS), _groups()
    params |= {name: {"use": file} for name, file in use}
    _check_names(params, [*PLAIN, *groups], PARAMS)
    missing = [name for name in [*PLAIN, *groups] if name not in params]
    if missing:
        example = {bool: "false", int: "0", str: "data/images"}.get(
            PLAIN.get(missing[0], dict), "{use: default}"
        )
        raise FieldmarkError(
            f"{PARAMS}: {', '.join(missing)} missing; write for example `{missing[0]}: {example}`"
        )
    where = {name: "" if name in dict(use) else f"{PARAMS}: {name}.use: " for name in groups}
    composed = _compose(
        {name: _choice(name, group, params[name], where[name]) for name, group in groups.items()}
    )
    values: dict[str, Any] = {
        name: _plain(name, kind, params[name]) for name, kind in PLAIN.items()
    }
    for name, group in groups.items():
        turned = {key: value for key, value in params[name].items() if key != "use"}
        values[name] = _validate(name, group, params[name]["use"], composed[name], turned)
    return Config(**values)


def _digest() -> str:
    """Of params.yaml and all files of conf/, with their names."""
    files = [file for file in [PARAMS, *sorted(CONF.rglob("*.yaml"))] if file.exists()]
    return hashlib.sha256(
        b"\0".join(part for file in files for part in (bytes(file), file.read_bytes()))
    ).hexdigest()


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


def wiring() -> dict[str, Any]:
    """The stages of dvc.yaml with its templates resolved: {stage: {cmd, params, deps, outs}}.

    Raises FieldmarkError where params.yaml lacks what a template names.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.load(PARAMS), OmegaConf.load("dvc.yaml"))
        stages = OmegaConf.to_container(merged.stages, resolve=True)
    except OmegaConfBaseException as error:
        raise FieldmarkError(f"dvc.yaml: {error}") from error
    assert isinstance(stages, dict)
    for node in stages.values():
        node["outs"] = [
            next(iter(out)) if isinstance(out, dict) else out for out in node.get("outs", [])
        ]  # less its flags
    return {str(name): node for name, node in stages.items()}


def build(node: Mapping[str, Any], **extra: Any) -> Any:
    """The object that a node with `_target_` describes; `extra` arguments are passed where the
    target takes them.

    Raises FieldmarkError as the target does, without Hydra's wrapping.
    """
    takes = inspect.signature(_target(node["_target_"])).parameters
    try:
        return instantiate(
            dict(node), **{k: v for k, v in extra.items() if k in takes}, _convert_="all"
        )
    except InstantiationException as error:
        if isinstance(error.__cause__, FieldmarkError):
            raise error.__cause__ from None
        raise


def check() -> None:
    """Check everything in depth, once after each change of params.yaml or conf/; see `load` and
    `check_targets`.
    """
    _read(PARAMS)  # a clear word where it is missing or no YAML
    digest = _digest()
    if not CHECKED.exists() or CHECKED.read_text() != digest:
        check_targets(load())
        CHECKED.parent.mkdir(exist_ok=True)
        CHECKED.write_text(digest)


def check_images() -> None:
    """Raise FieldmarkError where `images:` names a path that is not there: DVC finds that out once
    it has removed data/ingest.
    """
    images = load("images").images
    if "://" not in images and not Path(images).exists():
        raise FieldmarkError(
            f"{PARAMS}: images: {images} is not there; name the folder or file that holds your "
            f"images"
        )


def check_targets(cfg: Config) -> None:
    """Check the arguments of every `_target_` in all sections; imports what they name, which takes
    seconds.

    Raises FieldmarkError naming the section, the argument and the nearest valid names.
    """
    params, groups = _read(PARAMS), _groups()
    for name, section in vars(cfg).items():
        if isinstance(section, schema.Section):
            file = CONF / groups[name] / f"{params[name]['use']}.yaml"
            for path, node in _nodes(section.model_dump(), name):
                _check_arguments(path, node, file, params)


def _read(file: Path) -> dict[str, Any]:
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


def _groups() -> dict[str, str]:
    """Section -> group, from the defaults list: `- tune: ???` or, for a slot, `- model@scratch:
    ???`.
    """
    node = _read(CONF / "config.yaml")
    _check_names(
        node, ["defaults"], CONF / "config.yaml"
    )  # DVC does not look here: no stage depends on it
    entries = [next(iter(entry)) for entry in node["defaults"] if isinstance(entry, dict)]
    return {entry.split("@")[-1]: entry.split("@")[0] for entry in entries}


def _choice(name: str, group: str, node: Any, where: str) -> str:
    if not isinstance(node, dict) or not isinstance(node.get("use"), str):
        raise FieldmarkError(
            f"{PARAMS}: {name}: write `{name}: {{use: FILE}}`, with a file of {CONF / group}/"
        )
    known = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    if node["use"] not in known:
        raise FieldmarkError(
            f"{where}there is no {CONF / group / node['use']}.yaml; {_nearest(node['use'], known)}"
        )
    return f"{group}@{name}={node['use']}" if group != name else f"{group}={node['use']}"


def _compose(overrides: Mapping[str, str]) -> dict[str, Any]:
    for override in overrides.values():
        _check_stands_alone(
            CONF / override.split("=")[0].split("@")[0] / f"{override.split('=')[1]}.yaml"
        )
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        composed = OmegaConf.to_container(
            compose("config", overrides=list(overrides.values())), resolve=True
        )
    assert isinstance(composed, dict)
    return {str(key): value for key, value in composed.items()}


def _check_stands_alone(file: Path) -> None:
    """Of a section's files DVC watches only the one in use, so that one may neither borrow from
    others nor lend.
    """
    if "defaults" in _read(file) or "@package" in file.read_text():
        raise FieldmarkError(
            f"{file}: `defaults:` and `@package` reach into other files, unseen by DVC; write "
            f"all values here"
        )


def _plain(name: str, kind: type, value: Any) -> Any:
    if isinstance(value, str) and value.startswith("~"):
        raise FieldmarkError(
            f"{PARAMS}: {name}: DVC does not know what ~ stands for; write "
            f"{os.path.expanduser(value)}"
        )
    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        raise FieldmarkError(
            f"{PARAMS}: {name}: {error.errors()[0]['msg']}, not {value!r}"
        ) from error


def _validate(name: str, group: str, use: str, base: Any, turned: dict[str, Any]) -> schema.Section:
    merged = OmegaConf.to_container(
        OmegaConf.merge(OmegaConf.create(base), OmegaConf.create(turned))
    )
    try:
        return schema.GROUPS[group].model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"]]
        own, in_params = CONF / group / f"{use}.yaml", _within(turned, place)
        file = (
            PARAMS if in_params else f"{PARAMS} over {own}" if turned and not place else own
        )  # a rule over several keys has no place
        where = ".".join([name, *place] if in_params else place) or name
        if first["type"] == "extra_forbidden":
            known = _fields(schema.GROUPS[group], place[:-1])
            raise FieldmarkError(
                f"{file}: {where}: unknown key; {_nearest(place[-1], known)}"
            ) from error
        given = "" if first["type"] in {"missing", "value_error"} else f", not {first['input']!r}"
        raise FieldmarkError(f"{file}: {where}: {first['msg']}{given}") from error


def _within(node: Any, place: list[str]) -> bool:
    """Whether a mapping has a value at this place; a list, which no other file adds to, has all
    that lies in it.
    """
    for part in place:
        if isinstance(node, list):
            return True
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return bool(place)


def _fields(model: type[schema.Section], place: list[str]) -> list[str]:
    for part in place:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if not (inspect.isclass(inner) and issubclass(inner, schema.Section)):
            return sorted(schema.Range.model_fields) if model is schema.Model else []
        model = inner
    return sorted(model.model_fields)


def _check_names(node: Mapping[str, Any], known: list[str], file: Path) -> None:
    for key in node:
        if key not in known:
            raise FieldmarkError(f"{file}: {key}: unknown key; {_nearest(key, known)}")


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"valid names: {', '.join(known)}"


def _target(name: str) -> Any:
    if not name.startswith(TARGETS):
        raise FieldmarkError(
            f"_target_: {name}: only {' and '.join(TARGETS)} may be called from a configuration"
        )
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise FieldmarkError(f"_target_: there is no module {error.name}") from error
    except AttributeError as error:
        names = [n for n in dir(importlib.import_module(module)) if not n.startswith("_")]
        raise FieldmarkError(
            f"_target_: {module} has no {attribute}; {_nearest(attribute, names)}"
        ) from error


def _nodes(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _nodes(value, f"{path}.{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _nodes(value, f"{path}[{i}]")


def _check_arguments(
    path: str, node: Mapping[str, Any], file: Path, params: Mapping[str, Any]
) -> None:
    turned = _within(params, path.replace("[", ".").replace("]", "").split("."))
    where = f"{PARAMS if turned else file}: {path}"
    try:
        takes = inspect.signature(_target(node["_target_"])).parameters
    except FieldmarkError as error:
        raise FieldmarkError(f"{where}: {error}") from error
    for key, value in node.items():
        if key == "_target_" or (
            any(p.kind is p.VAR_KEYWORD for p in takes.values()) and key not in takes
        ):
            continue
        if key not in takes:
            raise FieldmarkError(f"{where}.{key}: unknown key; {_nearest(key, sorted(takes))}")
        if node["_target_"].startswith("pipeline."):
            _check_type(f"{where}.{key}", takes[key].annotation, value)


def _check_type(where: str, annotation: Any, value: Any) -> None:
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        raise FieldmarkError(f"{where}: {error.errors()[0]['msg']}, not {value!r}") from error
