"""Which code, libraries and machine make a result, for its record."""

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
    """Commit of the code and what is in none (see repository.state), library versions, device."""
    return {
        **state.tags(),
        "libraries": json.dumps(libraries()),
        "python": platform.python_version(),
        "device": device(),
    }


def code_in_words() -> tuple[str, dict[str, str]]:
    """The commit, with a note where the code holds edits that are in none or nobody knows, and the
    versions of the libraries.
    """
    return in_words(state.tags()), libraries()


def in_words(code: Mapping[str, str]) -> str:
    """The commit of such tags, for a reader."""
    dirty = code.get("git.dirty", "unknown")
    added = {"false": "", "true": " (with uncommitted changes)"}
    return code.get("git.commit", "unknown") + added.get(dirty, " (unknown whether edited)")


def mark(code: Mapping[str, str]) -> str:
    """The commit of such tags for a table: seven letters, + where it was edited, ? where nobody
    knows.
    """
    edited = {"false": "", "true": "+"}.get(code.get("git.dirty", "unknown"), "?")
    return code.get("git.commit", "-")[:7] + edited


def libraries() -> dict[str, str]:
    """Version by package, of those that change figures."""
    return {name: _version(name) for name in RECORDED}


def device() -> str:
    """The processor, and the GPU where the stage is one that could use it; one that is overruled is
    not even asked.
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
