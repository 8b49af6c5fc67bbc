"""The steps of the Containerfile, followed without a container engine."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import httpx2 as httpx
import pytest
from conftest import ROOT
from exports import tiny_export
from holding import LONG

CONTAINERFILE = ROOT / "pipeline" / "serving" / "Containerfile"
TEXT = CONTAINERFILE.read_text(encoding="utf-8")
# Serves in a process that can import nothing of what the image leaves out.
WITHOUT = """
import json, runpy, sys
left_out = set(json.loads(sys.argv[1]))
class Never:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in left_out:
            raise ImportError(name + " is not in the image")
sys.meta_path.insert(0, Never())
sys.argv = sys.argv[2:]
runpy.run_module("pipeline.cli", run_name="__main__")
"""


def step(name: str) -> list[str]:
    return re.findall(rf"(?m)^{name} (.*)$", TEXT)


def locked(file: Path) -> set[str]:
    return set(re.findall(r"(?m)^([\w.-]+)==", file.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the image, as its COPY and awk steps make them."""
    app = tmp_path_factory.mktemp("image") / "app"
    for line in step("COPY"):
        source, target = line.split()
        if source == "data/export":
            tiny_export(app / target)
        elif (ROOT / source).is_dir():
            shutil.copytree(
                ROOT / source, app / target, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            (app / target).mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, app / target)
    (filtering,) = (line for line in step("RUN") if line.startswith("awk"))
    subprocess.run(filtering, shell=True, cwd=app, check=True)
    return app


def test_the_image_answers_without_what_it_leaves_out(image: Path) -> None:
    kept = locked(image / "serving.lock")
    left_out = locked(image / "requirements.lock") - kept
    assert {"torch", "mlflow", "dvc", "triton"} <= left_out and {"onnxruntime", "fastapi"} <= kept
    owners = metadata.packages_distributions().items()
    names = [name for name, dists in owners if {each.lower() for each in dists} <= left_out]
    command = json.loads(step("CMD")[0])
    assert command[:3] == ["python", "-m", "pipeline.cli"]
    arguments = [*command[3:-1], "127.0.0.1", "--port", "0"]  # for a key, see test_keys
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT, json.dumps(names), "fieldmark", *arguments],
        cwd=image,
        env={**os.environ, "PYTHONPATH": str(image)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process:
        lines = [process.stdout.readline() for _ in range(2)]
        try:
            url = lines[1].split()[-1]
            assert httpx.get(f"{url}/health/ready", timeout=LONG).status_code == 200, lines
        finally:
            process.kill()
