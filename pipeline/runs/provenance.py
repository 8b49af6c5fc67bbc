"""Which code, libraries and machine produced a result, for its record."""

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata

from pipeline.repository import state

RECORDED = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "timm",
    "albumentations",
    "scikit-learn",
    "optuna",
    "openvino",
    "onnxruntime",
    "numpy",
    "opencv-python-headless",
    "dvc",
    "mlflow",
)


def code_tags() -> dict[str, str]:
    """Commit and uncommitted files (see repository.state), library versions, device."""
    return {
        **state.tags(),
        "libraries": json.dumps(libraries()),
        "python": platform.python_version(),
        "device": device(),
    }


def code_in_words() -> tuple[str, dict[str, str]]:
    """The commit for a reader (see `in_words`), and the versions of the libraries."""
    return in_words(state.tags()), libraries()


def in_words(code: Mapping[str, str]) -> str:
    """The commit of such tags for a reader, with a note where the code may have been edited."""
    dirty = code.get("git.dirty", "unknown")
    added = {"false": "", "true": " (with uncommitted changes)"}
    return code.get("git.commit", "unknown") + added.get(dirty, " (unknown whether edited)")


def mark(code: Mapping[str, str]) -> str:
    """The commit of such tags for a table: seven characters, + if edited, ? if unknown."""
    edited = {"false": "", "true": "+"}.get(code.get("git.dirty", "unknown"), "?")
    return code.get("git.commit", "-")[:7] + edited


def libraries() -> dict[str, str]:
    """Version by package, of the packages that change figures."""
    return {name: _version(name) for name in RECORDED}


def device() -> str:
    """The processor, and the GPU where this process could use it.

    With FIELDMARK_ACCELERATOR=cpu the GPU is not queried.
    """
    torch = sys.modules.get("torch")
    overruled = os.environ.get("FIELDMARK_ACCELERATOR") == "cpu"
    gpu = (
        [torch.cuda.get_device_name()]
        if torch and not overruled and torch.cuda.is_available()
        else []
    )
    return ", ".join([platform.machine(), f"{os.cpu_count()} cores", *gpu])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
