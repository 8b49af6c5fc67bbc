"""Which code, libraries and machine make a result, for its record."""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata

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
    """Commit and dirty flag of the code, library versions, device."""
    return {
        "git.commit": _git("rev-parse", "HEAD") or "none",
        "git.dirty": str(
            bool(_git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock"))
        ).lower(),
        "libraries": json.dumps({name: _version(name) for name in RECORDED}),
        "python": platform.python_version(),
        "device": device(),
    }


def code_in_words() -> tuple[str, dict[str, str]]:
    """The commit, with a note where the code holds edits that are in none, and the versions of the
    libraries.
    """
    tags = code_tags()
    edited = "" if tags["git.dirty"] == "false" else " (with uncommitted changes)"
    return tags["git.commit"] + edited, json.loads(tags["libraries"])


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


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
