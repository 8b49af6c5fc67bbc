"""conf/, params.yaml, dvc.yaml and the package describe the same pipeline."""

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline import config
from pipeline.commands import stages

STAGES = [
    "ingest",
    "label-check",
    "preprocess",
    "augment",
    "model-search",
    "tune",
    "evaluate",
    "export",
]
BESIDE = {"serving", "monitor", "promotion"}  # sections of what runs beside the pipeline
# They run a stage or watch it, and change no result.
OBSERVERS = {
    "pipeline",
    "pipeline.config",
    "pipeline.config.schema",
    "pipeline.runs.tracking",
    "pipeline.runs.lineage",
    "pipeline.runs.provenance",
    "pipeline.runs.runner",
    "pipeline.cli",
}
OTHER_OPENS = {"Image", "os", "tarfile", "zipfile", "webbrowser", "gzip"}
ENCODING_AT = 3  # arguments, of which the last is the encoding


def raw() -> dict[str, Any]:
    """The stages of dvc.yaml as written, less the check that goes before them."""
    container = OmegaConf.to_container(OmegaConf.load("dvc.yaml"), resolve=False)
    assert isinstance(container, dict)
    return {name: node for name, node in container["stages"].items() if name != "config"}


def module_file(name: str) -> Path | None:
    path = Path(name.replace(".", "/"))
    return next(
        (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None
    )


def imported(file: Path) -> Iterator[str]:
    """The modules of the package that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("pipeline"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if module_file(inner) else str(node.module)


def closure(start: str, found: set[str]) -> set[str]:
    file = module_file(start)
    if start in OBSERVERS or start in found or file is None:
        return found
    found.add(start)
    for name in imported(file):
        closure(name, found)
    return found


def needed_at_import(module: str, found: set[str]) -> set[str]:
    """The module and what is imported with it: not what stands inside functions, or is for type
    checkers alone.
    """
    file = module_file(module)
    if module not in found and file is not None:
        found.add(module)
        top = ast.Module(
            [
                node
                for node in ast.parse(file.read_text()).body
                if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.If)
            ],
            [],
        )
        for node in ast.walk(top):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            names += (
                [f"{node.module}.{a.name}" for a in node.names]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            found |= {name.partition(".")[0] for name in names}
            for name in names:
                needed_at_import(name, found)
    return found


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (
            value
            for key, value in node.items()
            if key == "_target_" and value.startswith("pipeline.")
        )
        for value in node.values():
            yield from targets(value)


def test_the_eight_stages_stand_in_order() -> None:
    assert list(raw()) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_name_everywhere(stage: str) -> None:
    node, snake = raw()[stage], stage.replace("-", "_")
    assert node["cmd"] == f"fieldmark {stage}"
    assert config.wiring()[stage]["outs"] == [f"data/{stage}"]
    assert snake in node["params"]
    assert f"conf/{snake}/${{{snake}.use}}.yaml" in node["deps"]
    assert Path(f"pipeline/stages/{snake}.py").exists()
    assert stage in stages.STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_file_in_use_of_each_of_its_sections(stage: str) -> None:
    node, groups = raw()[stage], config.groups()
    wanted = {
        f"conf/{groups[name]}/${{{name}.use}}.yaml" for name in node["params"] if name in groups
    }
    wanted |= {"conf/candidate" for name in node["params"] if name == "candidates"}
    assert wanted == {dep for dep in node["deps"] if dep.startswith("conf/")}
    assert set(node["params"]) <= {*groups, *config.PLAIN, "candidates"}
    assert "seed" in node["params"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_takes_what_dvc_yaml_gives_it(stage: str) -> None:
    deps = [dep.removeprefix("data/") for dep in raw()[stage]["deps"] if dep.startswith("data/")]
    given = {os.path.splitext(dep)[0].replace("/", "_").replace("-", "_") for dep in deps}
    given |= {"images"} if "images" in raw()[stage]["params"] else set()
    takes = set(
        signature(import_module(f"pipeline.stages.{stage.replace('-', '_')}").run).parameters
    )
    assert takes - {"cfg", "out", "scratch", "run_id"} == given


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_the_code_it_runs(stage: str) -> None:
    """Otherwise DVC would serve a stale result after that code changed."""
    node, groups = raw()[stage], config.groups()
    used = closure(f"pipeline.stages.{stage.replace('-', '_')}", set())
    cfg = OmegaConf.to_container(OmegaConf.create(config.load().plain()))
    assert isinstance(cfg, dict)
    built = {
        "candidates"
        for dep in node["deps"]
        if "data/tune" in dep or "winner" in dep or dep == "conf/candidate"
    }
    for section in sorted({name for name in node["params"] if name in groups} | built):
        for target in targets(cfg[section]):
            closure(target.rpartition(".")[0], used)
    code = [dep for dep in node["deps"] if dep.startswith("pipeline/")]
    files = [str(module_file(name)) for name in used]
    uncovered = [
        file for file in files if not any(file == dep or file.startswith(dep + "/") for dep in code)
    ]
    assert [file for file in uncovered if file != "pipeline/stages/__init__.py"] == []
    assert all(Path(dep).exists() for dep in code)
    unused = [
        dep for dep in code if not any(file == dep or file.startswith(dep + "/") for file in files)
    ]
    assert unused == []  # or an edit there would re-run the stage for nothing


def test_only_export_is_never_restored_from_dvcs_cache() -> None:
    """What is restored runs no code, and so registers no model."""
    assert raw()["export"]["outs"] == [{"data/export": {"persist": True}}]
    assert [stage for stage, node in raw().items() if node["outs"] != [f"data/{stage}"]] == [
        "export"
    ]


def test_only_evaluate_is_given_the_test_images() -> None:
    readers = [
        stage
        for stage, node in raw().items()
        if any("preprocess" in dep and "data/" in dep for dep in node["deps"])
    ]
    with_test = [
        s for s in readers if {"data/preprocess", "data/preprocess/test"} & set(raw()[s]["deps"])
    ]
    assert with_test == ["evaluate"]


def test_every_section_of_params_is_used_by_a_stage_or_runs_beside_the_pipeline() -> None:
    used = {name for node in raw().values() for name in node["params"]}
    assert used | BESIDE == set(OmegaConf.load("params.yaml"))  # type: ignore[arg-type]


def test_modules_stages_and_functions_are_short_enough_to_read() -> None:
    """A module has at most 250 lines, a stage 60 without its imports, a function 40."""
    too_long = {}
    for file in Path("pipeline").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        n_imports = sum(span(node) for node in imports)
        stage = "stages" in file.parts
        length = len(text.splitlines()) - (n_imports if stage else 0)
        if length > (60 if stage else 250):
            too_long[str(file)] = length
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and span(node) > 40:
                too_long[f"{file}: {node.name}"] = span(node)
    assert too_long == {}


def span(node: ast.stmt) -> int:
    """The lines that it takes."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def libraries_at_the_start(stage: str) -> set[str]:
    """What a stage imports before it does anything."""
    names = (f"pipeline.stages.{stage.replace('-', '_')}", "pipeline.runs.runner", "pipeline.cli")
    return set().union(*(needed_at_import(name, set()) for name in names))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_starts_without_what_it_may_never_need(stage: str) -> None:
    """Lightning, which brings torchvision and torch's compiler, takes four seconds to import, Hydra
    one half, and matplotlib a whole one.
    """
    needed = libraries_at_the_start(stage)
    assert "mlflow" in needed
    unneeded = {"pytorch_lightning", "timm", "torchvision", "openvino", "hydra"}
    unneeded |= {"torch", "matplotlib"} if stage in STAGES[:4] else set()
    assert not needed & unneeded


def without_encoding(file: Path) -> Iterator[str]:
    """The calls of a file that would write or read text in the locale's encoding."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        modes = [
            argument.value
            for argument in [*node.args[:2], keywords.get("mode")]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        ]
        binary = any("b" in mode and len(mode) <= 3 for mode in modes)
        opens = name in ("open", "fdopen") and isinstance(node.func, ast.Name | ast.Attribute)
        module = ast.unparse(node.func).rpartition(".")[0]
        if name == "open" and (module in OTHER_OPENS or (node.args and not modes and module)):
            opens = False  # Image.open(stream), os.open(file, flags)
        textual = name in ("read_text", "write_text") or (opens and not binary)
        piped = "text" in keywords or "universal_newlines" in keywords
        if (textual or piped) and "encoding" not in keywords and len(node.args) < ENCODING_AT:
            yield f"{file}:{node.lineno}: {ast.unparse(node)[:60]}"


def test_text_is_utf_8_in_every_file_and_pipe_whatever_the_locale_says() -> None:
    """Under ISO-8859-1 a file with an umlaut was one that no other machine reads."""
    files = sorted(Path("pipeline").rglob("*.py"))
    assert [call for file in files for call in without_encoding(file)] == []


def test_the_lock_holds_whatever_the_project_says_it_needs() -> None:
    """A fresh clone is installed from the lock alone."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    needed = map(Requirement, sum(extras, project["dependencies"]))
    lock = Path("requirements.lock").read_text(encoding="utf-8")
    pins = set(re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE))
    unmet = [
        str(need)
        for need in needed
        if not any(
            name == canonicalize_name(need.name) and need.specifier.contains(version)
            for name, version in pins
        )
    ]
    assert not unmet
