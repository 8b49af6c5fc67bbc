"""Every command in every README exists and takes the options shown; every link leads somewhere."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from conftest import ROOT
from dvc.cli import parse_args

from pipeline import cli

READMES = sorted(
    file
    for pattern in ("README.md", "*/README.md", "*/*/README.md")
    for file in ROOT.glob(pattern)
    if ".venv" not in file.parts
)
PROGRAMS = ("fieldmark", "dvc", "make", "pytest")
APART = re.compile(r"&&|\|\||[|;>]")


def shell_lines(text: str) -> list[str]:
    """Indented and inline commands, without comments."""
    indented = re.findall(r"(?m)^    (\S.*)$", re.sub(r"(?ms)^```.*?^```$", "", text))
    inline = re.findall(r"`([^`]+)`", re.sub(r"(?m)^    .*$", "", text).replace("\n", " "))
    lines = [line.partition("  #")[0].strip() for line in [*indented, *inline]]
    return [part.strip() for line in lines for part in split_outside_quotes(line)]


def split_outside_quotes(line: str) -> list[str]:
    quoted = re.findall(r"'[^']*'|\"[^\"]*\"", line)
    for i, text in enumerate(quoted):
        line = line.replace(text, f"\0{i}\0", 1)
    parts = APART.split(line)
    return [re.sub("\0(\\d+)\0", lambda m: quoted[int(m[1])], part) for part in parts]


def commands(program: str) -> list[tuple[str, list[str]]]:
    """(README, arguments) of each call of a program, less assignments before it."""
    calls = []
    for readme in READMES:
        for line in shell_lines(readme.read_text(encoding="utf-8")):
            words = shlex.split(line) if line.count("'") % 2 == 0 else line.split()
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]
            if len(words) > 1 and words[0] == program:
                calls.append((str(readme.relative_to(ROOT)), words[1:]))
    return calls


def name(call: tuple[str, list[str]]) -> str:
    return f"{call[0]}: {' '.join(call[1])}"


def test_every_readme_is_looked_at() -> None:
    assert {str(file.relative_to(ROOT)) for file in READMES} >= {
        "README.md",
        "conf/README.md",
        "pipeline/README.md",
        "pipeline/serving/README.md",
        "tests/README.md",
        "tests/benchmarks/README.md",
    }
    assert all(commands(program) for program in PROGRAMS)


@pytest.mark.parametrize("call", commands("fieldmark"), ids=name)
def test_a_fieldmark_command_takes_what_is_shown(call: tuple[str, list[str]]) -> None:
    group = typer.main.get_command(cli.app)
    first, *rest = call[1]
    if first == "--help":
        return
    command = group.get_command(typer.Context(group), first)  # type: ignore[attr-defined]
    assert command is not None, f"there is no command {first}"
    if rest:  # a bare name in a sentence is only looked up
        command.make_context(first, rest)


@pytest.mark.parametrize("call", commands("dvc"), ids=name)
def test_a_dvc_command_takes_what_is_shown(call: tuple[str, list[str]]) -> None:
    parse_args(call[1])


@pytest.mark.parametrize("call", commands("make"), ids=name)
def test_a_make_target_exists(call: tuple[str, list[str]]) -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert {word for word in call[1] if "=" not in word} <= targets


@pytest.mark.parametrize("call", commands("pytest"), ids=name)
def test_the_tests_that_are_named_exist(call: tuple[str, list[str]]) -> None:
    paths = [word for word in call[1] if word.startswith("tests/") and "FILE" not in word]
    assert all((ROOT / path).exists() for path in paths)


def headings(file: Path) -> set[str]:
    """The anchors that headings get."""
    texts = re.findall(r"(?m)^#+ (.*)$", file.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("readme", READMES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_between_them_leads_somewhere(readme: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]*)(?:#[^)]*)?\)", readme.read_text(encoding="utf-8")):
        assert not target or (readme.parent / target).exists(), target
    pairs = re.findall(r"\]\(([^)#:]*)#([^)]*)\)", readme.read_text(encoding="utf-8"))
    for target, anchor in pairs:
        file = readme.parent / target if target else readme
        assert anchor in headings(file), f"{target}#{anchor}"


def test_the_front_door_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize(
    "word",
    re.findall(
        r"`(pipeline/[\w/]+\.py|[a-z]+/[a-z_]+\.py)`",
        (ROOT / "pipeline/README.md").read_text(encoding="utf-8"),
    ),
)
def test_a_module_that_the_map_names_exists(word: str) -> None:
    assert (ROOT / word).exists() or (ROOT / "pipeline" / word).exists()
