"""What several tests share: a project folder of one's own, and forty photos with everything that
goes wrong.
"""

import atexit
import gc
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from exports import tiny_export
from filelock import FileLock
from hypothesis import HealthCheck, settings
from mlflow.tracking import MlflowClient
from PIL import Image
from programs import rebuild_environment as rebuild_environment
from programs import succeed
from skimage import data as photos
from sklearn.datasets import load_sample_images

if TYPE_CHECKING:
    from pipeline.config import Config

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # the cores are shared: threads of several workers would mostly wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"
settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine must not fail a test
settings.load_profile("busy")

ROOT = Path(__file__).parent.parent
TRACKED = ("conf", "pipeline", "dvc.yaml", "params.yaml", "pyproject.toml", ".dvcignore")
# What is long and does not wait for `built`, on one core, while another makes that.
FIRST = [
    "test_kill.py",
    "test_killed.py",
    "test_end_to_end.py",
    "test_moves_apart.py",
    "test_moves.py",
    "test_fit.py",
    "test_address.py",
    "test_browser.py",
    "test_write.py",
    "test_backbones.py",
    "test_drift.py",
]


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the run store or the feature cache of the checkout."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def empty_store(shared: Path) -> Path:
    """The tables of an MLflow store, which take seconds to make; to be copied."""
    file = shared / "store" / "mlflow.db"
    with FileLock(shared / "store.lock"):
        if not file.exists():
            file.parent.mkdir()
            MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


def copy_project(folder: Path) -> Path:
    """A copy of the checkout's tracked files as a repository of its own, without any result."""
    for name in TRACKED:
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    for name in ("data/decisions", "data/images", "data/feedback", ".dvc"):
        (folder / name).mkdir(parents=True)
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc")
    shutil.copy(ROOT / ".gitignore", folder)
    shutil.copy(ROOT / "data" / "feedback" / "README.md", folder / "data" / "feedback")
    (folder / "data" / "decisions" / "labels.csv").write_text("id,decision,label,by,when\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the checkout to change at will; the working folder of the test."""
    folder = copy_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


def write_forty_photos(folder: Path) -> Path:
    """Ten crops of each of four real photos, and beside them what a user's folder has: see the list
    in the code.
    """
    china, flower = load_sample_images().images
    whole = {
        "temple": china,
        "flower": flower,
        "person": photos.astronaut(),
        "coffee": photos.coffee(),
    }
    random = np.random.default_rng(0)
    for name, photo in whole.items():
        (folder / name).mkdir(parents=True)
        for i in range(10):
            top, left = (int(random.integers(0, side - 160)) for side in photo.shape[:2])
            crop = Image.fromarray(photo[top : top + 160, left : left + 160])
            crop.save(folder / name / f"{i}.jpg", quality=92)
    whole_file = (folder / "temple" / "0.jpg").read_bytes()
    (folder / "temple" / "0.jpg").write_bytes(whole_file[: len(whole_file) // 2])  # corrupt
    (folder / "temple" / "1.jpg").write_text("this is no photo\n")
    Image.open(folder / "temple" / "2.jpg").convert("CMYK").save(folder / "temple" / "2.jpg")
    grey = np.asarray(Image.open(folder / "flower" / "0.jpg").convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "flower" / "0.png")  # 16 bits
    (folder / "flower" / "0.jpg").unlink()
    turned = Image.open(folder / "person" / "0.jpg")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "person" / "0.jpg", exif=exif)
    shutil.copy(folder / "coffee" / "3.jpg", folder / "coffee" / "copy of 3.jpg")  # exact duplicate
    (folder / "nothing here").mkdir()
    return folder


SMOKE = """\
name: fieldmark
seed: 0
images: data/images
blur_faces: false
ingest: {use: folder}
label_check: {use: default, size_px: 64}
embedding: {use: efficientnet_lite0}
preprocess: {use: default, size_px: 64}
augment: {use: photo, balance_to: 1.0}
candidates:
  lite0: {use: efficientnet_lite0, head: {hidden: 16}}
  small_cnn: {use: small_cnn, extractor: {input_px: 32, width: 8, blocks: 2}}
  hog: {use: hog, extractor: {input_px: 64}}
fit: {use: default, epochs: 3, batch_size: 16, min_steps: 0}
defense: {use: none}
model_search: {use: default, rungs: [{train_fraction: 0.5}], indistinct: 1.0, latency_runs: 3, batch_runs: 1, latency_budget_ms: 1000, cross_validation: {below: 0}, sufficiency: {draws: 1, fractions: [0.25, 0.5, 1.0]}}
tune: {use: default, trials: 3, startup_trials: 2, refit_seeds: 1}
evaluate: {use: quick, bootstrap: {n_resamples: 200}, min_slice: 2, altered_images: 8, robustness: {attacks: {images: 4, radii: [4.0], steps: 2}, corruptions: {images: 2}}}
export: {use: default, latency_runs: 3}
serving: {use: default}
monitor: {use: default}
promotion: {use: default}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that rebuild projects go first, so that the cores end together."""
    slow = {item.path for item in items if "cache" in getattr(item, "fixturenames", ())}
    place = {name: i for i, name in enumerate(FIRST)}
    items.sort(key=lambda item: (place.get(item.path.name, len(FIRST)), item.path not in slow))


def pytest_collection_finish() -> None:
    """What was imported stays: every full search for garbage, of which pytest makes five at the
    end, would go through it.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)  # or libraries take it for leaked and say so


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all processes of this session."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def cache(shared: Path) -> Path:
    """One feature cache for the rebuilds of a session."""
    return shared / "features"


def smoke_project(folder: Path) -> Path:
    """A copied project that trains on the forty photos in about a minute."""
    copy_project(folder)
    write_forty_photos(folder / "data" / "images")
    (folder / "params.yaml").write_text(SMOKE)
    return folder


@pytest.fixture(scope="session")
def built(shared: Path, cache: Path) -> Path:
    """A project after its first `dvc repro`, undisturbed. Tests only read it."""
    folder = shared / "built" / "project"
    with FileLock(shared / "built.lock"):
        if not (folder / "repro.log").exists():
            _build(folder, cache)
    return folder


def _build(folder: Path, cache: Path) -> None:
    smoke_project(folder)
    done = succeed(folder, cache, "dvc", "repro")
    (folder / "repro.err").write_text(done.stderr)
    (folder / "repro.log").write_text(done.stdout)


def copy_built(built: Path, folder: Path) -> Path:
    """A copy of the rebuilt project to change at will, with a run store of its own."""
    return shutil.copytree(
        built, folder, symlinks=True, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts")
    )


@pytest.fixture
def cfg(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> "Config":
    """What a promotion needs: the checkout's configuration, test images and a store of one's own in
    the working folder.
    """
    # Not above: this file is read before jaxtyping's checks are in place.
    from registered import write_test_images

    from pipeline import config

    cfg = config.load("name", "blur_faces", "preprocess", "promotion")
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    write_test_images(Path("data/preprocess/test"))
    return cfg


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A tiny exported folder of one's own."""
    return tiny_export(tmp_path / "export")
