"""What a key of the configuration means, and what it may be; the same as a JSON schema, by which
editors complete params.yaml.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline import FieldmarkError
from pipeline.config import messages, schema
from pipeline.config.compose import PLAIN, load
from pipeline.config.files import CANDIDATES, CONF, PARAMS, groups, read_yaml

MEANINGS = {
    "name": "The project: its experiment and registered model in MLflow, and its pages.",
    "seed": "Whatever is random follows from it: the same seed gives the same result.",
    "images": "Where the images are: a folder, an archive, a listing, or an address.",
    "blur_faces": "Whether faces are blurred before anything learns from a photo or shows it.",
    CANDIDATES: "What model-search compares: a name of yours, and a file of conf/candidate/.",
}
LIMITS = {
    "minimum": "{} or more",
    "exclusiveMinimum": "more than {}",
    "maximum": "{} or less",
    "exclusiveMaximum": "less than {}",
}
KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def explain(key: str) -> str:
    """The value of a key such as `tune.trials`, where it stands, its meaning and its range.

    Raises FieldmarkError for a key that is not there, with the nearest ones.
    """
    section, *place = key.split(".")
    messages.check_names({section: None}, [*PLAIN, CANDIDATES, *groups()], PARAMS)
    value = _at(load(section).plain()[section], place, key)
    inside = isinstance(value, Mapping)
    lines = [f"{key} holds {', '.join(map(str, value))}" if inside else f"{key}: {value}"]
    meaning, limits = _described(section, place)
    turned = messages.within(read_yaml(PARAMS), [section, *place])
    lines += [f"  {meaning}"] if meaning else []
    lines += [f"  It can be {limits}."] if limits else []
    lines.append(f"  It stands in {PARAMS if turned else _file(section, place)}.")
    return "\n".join(lines)


def json_schema() -> dict[str, Any]:
    """Of params.yaml: every section with the files that `use` may name, and the keys to turn."""
    sections = {name: _section(group) for name, group in groups().items()}
    plain = {name: _of_type(kind) for name, kind in PLAIN.items()}
    candidates = {"type": "object", "additionalProperties": _section("candidate")}
    known: dict[str, dict[str, Any]] = {**plain, CANDIDATES: candidates, **sections}
    for name, meaning in MEANINGS.items():
        known[name] = {**known[name], "description": meaning}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "params.yaml of Fieldmark",
        "type": "object",
        "additionalProperties": False,
        "required": list(known),
        "properties": known,
    }


def schema_text() -> str:
    """json_schema, as it stands in conf/params.schema.json."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False)


def _at(value: Any, place: list[str], key: str) -> Any:
    for part in place:
        if not isinstance(value, Mapping) or part not in value:
            known = list(map(str, value)) if isinstance(value, Mapping) else []
            raise FieldmarkError(f"{key}: there is no {part}; {messages.nearest(part, known)}")
        value = value[part]
    return value


def _described(section: str, place: list[str]) -> tuple[str, str]:
    """Meaning and range of a key; "" where none is written down, as for arguments of a target."""
    if section in PLAIN:
        return MEANINGS[section], KINDS[_of_type(PLAIN[section])["type"]]
    if section == CANDIDATES:
        place = place[1:]
        model: type[schema.Section] = schema.Candidate
    else:
        model = schema.GROUPS[groups()[section]]
    if not place:
        return MEANINGS.get(section, ""), ""
    for part in place[:-1]:
        inner = messages.section_in(model, part)
        if inner is None:
            return "", ""
        model = inner
    field = model.model_fields.get(place[-1])
    if field is None:
        return "", ""
    node = model.model_json_schema()["properties"][place[-1]]
    return field.description or "", _limits(node)


def _limits(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return " or ".join(map(str, node["enum"]))
    if "anyOf" in node:
        return " or ".join(filter(None, map(_limits, node["anyOf"])))
    kind = KINDS.get(str(node.get("type", "")), "")
    limits = [text.format(f"{node[key]:g}") for key, text in LIMITS.items() if key in node]
    return ", ".join([kind, *limits]) if kind else ""


def _file(section: str, place: list[str]) -> Path:
    """Where a key stands that params.yaml does not turn."""
    params = read_yaml(PARAMS)
    if section in PLAIN or (section == CANDIDATES and not place):
        return PARAMS
    if section != CANDIDATES:
        return CONF / groups()[section] / f"{params[section]['use']}.yaml"
    own = CONF / "candidate" / f"{params[CANDIDATES][place[0]]['use']}.yaml"
    if place[1:2] != ["fit"] or messages.within(read_yaml(own), place[1:]):
        return own
    turned = messages.within(params, place[1:])
    return PARAMS if turned else CONF / "fit" / f"{params['fit']['use']}.yaml"


def _of_type(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


def _section(group: str) -> dict[str, Any]:
    """Its file by `use`, and every other key if you like."""
    whole = schema.GROUPS[group].model_json_schema()
    own = _optional(whole, whole.get("$defs", {}))
    files = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    use = {"enum": files, "description": f"A file of conf/{group}/."}
    return {**own, "properties": {"use": use, **own["properties"]}, "required": ["use"]}


def _optional(node: Any, parts: Mapping[str, Any]) -> Any:
    """The schema in one piece, without `required` and titles: params.yaml says only what differs."""
    if isinstance(node, list):
        return [_optional(value, parts) for value in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        node = {**parts[node["$ref"].rpartition("/")[2]], **node}
    left_out = {"required", "$defs", "$ref", "default"}
    return {
        key: _optional(value, parts)
        for key, value in node.items()
        if key not in left_out and not (key == "title" and isinstance(value, str))
    }
