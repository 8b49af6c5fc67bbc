"""A hash of the code that computes something: its modules and all that they import here."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import pipeline

ROOT = Path(pipeline.__file__).parent
# They check values, place work and store results, and so change no result.
UNCOUNTED = (
    "pipeline.config",
    "pipeline.compute",
    "pipeline.storage.code",
    "pipeline.storage.memo",
)


@lru_cache
def code_hash(*modules: str) -> str:
    """The hash of modules by name, such as `pipeline.labels.errors`, and of what they import.

    It is that of the files at the first call in this process.
    """
    reached: dict[str, Path] = {}
    for module in modules:
        _reach(module, reached)
    return files_hash(reached[name] for name in sorted(reached))


def files_hash(files: Iterable[Path]) -> str:
    """The hash of the contents of files, in this order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _reach(module: str, reached: dict[str, Path]) -> None:
    if module in reached or module == "pipeline" or module.startswith(UNCOUNTED):
        return
    file = _file(module)
    if file is None:
        raise ValueError(f"there is no module {module}")
    reached[module] = file
    for name in _imported(file) if _ours(module) else ():
        _reach(name, reached)


def _imported(file: Path) -> Iterator[str]:
    """The modules of the package that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and _ours(node.module or ""):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (str(node.module), *(name for name in inner if _file(name)))


def _ours(module: str) -> bool:
    return module.partition(".")[0] == "pipeline"


def _file(module: str) -> Path | None:
    if not _ours(module):  # a library's module, of which only its own file counts
        spec = find_spec(module)
        return Path(spec.origin) if spec and spec.has_location and spec.origin else None
    place = ROOT.joinpath(*module.split(".")[1:])
    return next(
        (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None
    )
