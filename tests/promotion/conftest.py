"""Where versions are promoted."""

import shutil
from pathlib import Path

import pytest
from registered import write_test_images

from pipeline import config


@pytest.fixture
def cfg(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> config.Config:
    """The configuration as it is in the checkout, beside test images and a store of one's own."""
    cfg = config.load("blur_faces", "preprocess", "export", "promotion")
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    write_test_images(Path("data/preprocess/test"))
    return cfg
