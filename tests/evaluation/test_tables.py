from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.evaluation import tables


def test_a_model_without_mistakes_has_its_picture_of_them_too(tmp_path: Path) -> None:
    """`dvc plots show` would say that it failed to load some plots."""
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8, 3), np.uint8))
    (tmp_path / "plots").mkdir()
    rows = pd.DataFrame({"name": ["a"] * 3, "label": ["cat"] * 3})[:0]
    tables._write_worst(tmp_path, rows, np.array([]), np.array([]), tmp_path)
    with Image.open(tmp_path / "plots" / "worst.png") as picture:
        assert picture.width > 100
    assert len(pd.read_csv(tmp_path / "worst.csv")) == len(np.load(tmp_path / "worst.npy")) == 0
