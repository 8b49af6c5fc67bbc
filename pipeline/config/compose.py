"""params.yaml over conf/: what one stage may see (Hydra composes, pydantic checks).

conf/ holds every default, params.yaml only what the user turned; dvc.yaml says which sections a
stage uses. Everything here is relative to the working folder, which DVC sets to the folder of
dvc.yaml.
"""

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from pipeline import FieldmarkError, one_line, redacted
from pipeline.config import messages, schema

PARAMS = Path("params.yaml")
CONF = Path("conf")
PLAIN = {"seed": int, "images": str, "blur_faces": bool}  # the parameters that are values


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
        """Every value as plain Python, for records: addresses in it are without their secrets."""
        return {
            k: _recorded(v.model_dump() if isinstance(v, schema.Section) else v)
            for k, v in vars(self).items()
        }


def load(*sections: str, use: Mapping[str, str] | None = None) -> Config:
    """The named sections (all, when none is named), composed and checked.

    Raises FieldmarkError naming the file, the key and the nearest valid names; every section is
    checked, so that a slip in a late stage stops the first one. `use` selects another file for a
    section, without overrides.
    """
    whole = _load(digest(), tuple((use or {}).items()))
    messages.check_names(dict.fromkeys(sections), list(vars(whole)), PARAMS)
    return whole.only(*(sections or vars(whole)))


@lru_cache(maxsize=4)
def _load(version: str, use: tuple[tuple[str, str], ...]) -> Config:
    """All sections; `version` is that of the files (see digest), which are read anew only after
    a change.
    """
    params, sections = read_yaml(PARAMS), groups()
    params |= {name: {"use": file} for name, file in use}
    messages.check_names(params, [*PLAIN, *sections], PARAMS)
    missing = [name for name in [*PLAIN, *sections] if name not in params]
    if missing:
        example = {bool: "false", int: "0", str: "data/images"}.get(
            PLAIN.get(missing[0], dict), "{use: default}"
        )
        raise FieldmarkError(
            f"{PARAMS}: {', '.join(missing)} missing; write for example `{missing[0]}: {example}`"
        )
    where = {name: "" if name in dict(use) else f"{PARAMS}: {name}.use: " for name in sections}
    composed = _compose(
        {name: _choice(name, group, params[name], where[name]) for name, group in sections.items()}
    )
    values: dict[str, Any] = {
        name: _plain(name, kind, params[name]) for name, kind in PLAIN.items()
    }
    for name, group in sections.items():
        turned = {key: value for key, value in params[name].items() if key != "use"}
        values[name] = _validate(name, group, params[name]["use"], composed[name], turned)
    return Config(**values)


def digest() -> str:
    """Of params.yaml and all files of conf/, with their names."""
    files = [file for file in [PARAMS, *sorted(CONF.rglob("*.yaml"))] if file.exists()]
    return hashlib.sha256(
        b"\0".join(part for file in files for part in (bytes(file), file.read_bytes()))
    ).hexdigest()


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


def _recorded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _recorded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_recorded(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value


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
    """Section -> group, from the defaults list: `- tune: ???` or, for a slot, `- model@scratch:
    ???`.
    """
    node = read_yaml(CONF / "config.yaml")
    messages.check_names(
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
            f"{where}there is no {CONF / group / node['use']}.yaml; {messages.nearest(node['use'], known)}"
        )
    return f"{group}@{name}={node['use']}" if group != name else f"{group}={node['use']}"


def _compose(overrides: Mapping[str, str]) -> dict[str, Any]:
    for override in overrides.values():
        _check_stands_alone(
            CONF / override.split("=")[0].split("@")[0] / f"{override.split('=')[1]}.yaml"
        )
    from hydra import compose, initialize_config_dir  # takes a second to import

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
    if "defaults" in read_yaml(file) or "@package" in file.read_text(encoding="utf-8"):
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
        own, in_params = CONF / group / f"{use}.yaml", messages.within(turned, place)
        file = (
            PARAMS if in_params else f"{PARAMS} over {own}" if turned and not place else own
        )  # a rule over several keys has no place
        where = ".".join([name, *place] if in_params else place) or name
        if first["type"] == "extra_forbidden":
            known = messages.fields_at(schema.GROUPS[group], place[:-1])
            raise FieldmarkError(
                f"{file}: {where}: unknown key; {messages.nearest(place[-1], known)}"
            ) from error
        given = "" if first["type"] in {"missing", "value_error"} else f", not {first['input']!r}"
        raise FieldmarkError(f"{file}: {where}: {first['msg']}{given}") from error
