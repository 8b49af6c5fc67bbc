"""params.yaml over conf/: what one stage may see (pydantic checks).

conf/ holds every default, params.yaml only what the user turned; dvc.yaml says which sections a
stage uses. Everything here is relative to the working folder, which DVC sets to the folder of
dvc.yaml.
"""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import StringConstraints, TypeAdapter, ValidationError

from pipeline import FieldmarkError, redacted
from pipeline.config import messages, schema
from pipeline.config.composed import composed
from pipeline.config.files import (
    CANDIDATES,
    EXAMPLE,
    PARAMS,
    digest,
    files,
    groups,
    read_yaml,
)

PROJECT = "fieldmark"  # where no params.yaml names the project
# The name of a registered model in MLflow, in its addresses and its filters.
Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]{0,99}$")]
# The parameters that are values.
PLAIN: dict[str, Any] = {"name": Name, "seed": int, "images": str, "blur_faces": bool}
EXAMPLES = {
    "name": PROJECT,
    "seed": "0",
    "images": "data/images",
    "blur_faces": "false",
    "defense": "{use: none}",
    CANDIDATES: EXAMPLE,
}


class Config:
    """The sections that one stage declares in dvc.yaml; asking for another one is an error."""

    name: str
    seed: int
    images: str
    blur_faces: bool
    ingest: schema.Ingest
    label_check: schema.LabelCheck
    embedding: schema.CandidateFile
    preprocess: schema.Preprocess
    augment: schema.Augment
    candidates: dict[str, schema.Candidate]
    fit: schema.Fit
    defense: schema.Defense
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
        return {name: _recorded(value) for name, value in vars(self).items()}


def load(*sections: str, use: Mapping[str, str] | None = None) -> Config:
    """The named sections (all, when none is named), composed and checked.

    Raises FieldmarkError naming the file, the key and the nearest valid names; every section is
    checked, so that a slip in a late stage stops the first one. `use` selects another file for a
    section, without overrides; what params.yaml says about a file that is in use stays.
    """
    whole = _load(digest(), tuple((use or {}).items()))
    messages.check_names(dict.fromkeys(sections), list(vars(whole)), PARAMS)
    return whole.only(*(sections or vars(whole)))


@lru_cache(maxsize=4)
def _load(version: str, use: tuple[tuple[str, str], ...]) -> Config:
    """All sections; `version` is that of the files (see digest), which are read anew only after
    a change.
    """
    params = read_yaml(PARAMS)
    params |= {name: {"use": file} for name, file in use if in_use(params, name) != file}
    names = [*PLAIN, *groups(), CANDIDATES]
    messages.check_names(params, names, PARAMS)
    if missing := [name for name in names if name not in params]:
        raise FieldmarkError(
            f"{PARAMS}: {', '.join(missing)} missing; write for example `{missing[0]}: "
            f"{EXAMPLES.get(missing[0], '{use: default}')}`"
        )
    used = files(params, given=[name for name, _ in use])
    sections = composed(used, version)
    values = {name: _plain(name, kind, params[name]) for name, kind in PLAIN.items()}
    values |= {
        name: _validate(name, schema.GROUPS[group], used[name], sections[name], params[name])
        for name, group in groups().items()
    }
    values[CANDIDATES] = {
        name: _candidate(name, used[f"{CANDIDATES}.{name}"], sections, params, values["defense"])
        for name in params[CANDIDATES]
    }
    return Config(**values)


def in_use(params: Mapping[str, Any], section: str) -> Any:
    """The file that the content of params.yaml names for a section; None where it names none."""
    given = params.get(section)
    return given.get("use") if isinstance(given, dict) else None


def project() -> str:
    """The project's name, which its runs, its registered model and its pages carry.

    Raises FieldmarkError for one that cannot be a name.
    """
    params = read_yaml(PARAMS) if PARAMS.exists() else {}
    return str(_plain("name", Name, params.get("name", PROJECT)))


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
    if isinstance(value, schema.Section):
        return _recorded(value.model_dump())
    if isinstance(value, dict):
        return {key: _recorded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_recorded(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value


def _plain(name: str, kind: Any, value: Any) -> Any:
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


def _candidate(
    name: str,
    file: Path,
    sections: Mapping[str, Any],
    params: Mapping[str, Any],
    defense: schema.Defense,
) -> schema.Candidate:
    """Its fit is that of conf/fit/ under the candidate's file under `fit:` in params.yaml under the
    candidate's own: what a person turned wins over any default.
    """
    base, turned = sections[CANDIDATES][name], params[CANDIDATES][name]
    own = _validate(f"{CANDIDATES}.{name}", schema.CandidateFile, file, base, turned)
    layers = (sections["fit"], base.get("fit"), params["fit"], turned.get("fit"))
    fit = {
        key: value
        for layer in layers
        for key, value in (layer or {}).items()
        if value is not None and key != "use"
    }
    return schema.Candidate.model_validate(
        {**own.model_dump(), "name": name, "fit": fit, "defense": defense}
    )


def _validate(
    place: str, kind: type[schema.Section], own: Path, base: Any, given: Mapping[str, Any]
) -> schema.Section:
    """What a file says, under what params.yaml says beside `use`."""
    turned = {key: value for key, value in given.items() if key != "use"}
    merged = OmegaConf.to_container(
        OmegaConf.merge(OmegaConf.create(base), OmegaConf.create(turned))
    )
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        inside = [str(part) for part in first["loc"]]
        in_params = messages.within(turned, inside)
        file = (
            PARAMS if in_params else f"{PARAMS} over {own}" if turned and not inside else own
        )  # a rule over several keys has no place
        where = ".".join([place, *inside] if in_params else inside) or place
        if first["type"] == "extra_forbidden":
            known = messages.fields_at(kind, inside[:-1])
            raise FieldmarkError(
                f"{file}: {where}: unknown key; {messages.nearest(inside[-1], known)}"
            ) from error
        given_value = (
            "" if first["type"] in {"missing", "value_error"} else f", not {first['input']!r}"
        )
        raise FieldmarkError(f"{file}: {where}: {first['msg']}{given_value}") from error
