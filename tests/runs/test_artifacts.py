"""What of the data goes to a tracking server."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from exports import tiny_export
from mlflow.tracking import MlflowClient
from PIL import Image

from pipeline.pixels import sheets
from pipeline.report import page
from pipeline.runs import stores, tracking

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*AnyType.*:UserWarning"),
]
PHOTO = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """What a stage leaves: a sheet, a page with a picture and a chart, a table."""
    folder = tmp_path / "data" / "evaluate"
    (folder / "plots").mkdir(parents=True)
    Image.fromarray(PHOTO).save(folder / "plots" / "worst.png")
    chart = page._uri(b"<svg>chart</svg>", "image/svg+xml")
    images = f'<img src="{page._thumbnail(PHOTO)}"><img src="{chart}">'
    (folder / "report.html").write_text(f"<p>mistakes</p>{images}<p>the end</p>")
    (folder / "per_class.csv").write_text("label,f1\ncat,0.5\n")
    return folder


def logged(
    output: Path, to: Path, monkeypatch: pytest.MonkeyPatch, *, share_pictures: bool, at_home: bool
) -> dict[str, bytes]:
    with tracking.trial_run("", "files", {}) as run, monkeypatch.context() as patch:
        patch.setattr(stores, "is_remote", lambda uri: not at_home)
        tracking.log_files(output, share_pictures=share_pictures)
    folder = Path(MlflowClient().download_artifacts(run, "", str(to)))
    (folder / "config.json").unlink()
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_pictures_stay_at_home_where_they_may_not_be_shared(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "got").mkdir()
    got = logged(output, tmp_path / "got", monkeypatch, share_pictures=False, at_home=False)
    assert got.keys() == {"report.html", "per_class.csv"}
    text = got["report.html"].decode()
    assert "webp" not in text and str(page._thumbnail(PHOTO)) not in text
    assert text.startswith("<p>mistakes</p><img") and text.endswith("<p>the end</p>")
    assert str(page._uri(b"<svg>chart</svg>", "image/svg+xml")) in text
    assert sheets.thumbnail(PHOTO, side_px=224) not in b"".join(got.values())
    assert str(page._thumbnail(PHOTO)) in (output / "report.html").read_text()


@pytest.mark.parametrize(("shared", "at_home"), [(True, False), (False, True)])
def test_a_store_at_home_and_a_server_that_may_have_them_get_all(
    output: Path, tmp_path: Path, shared: bool, at_home: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "got").mkdir()
    got = logged(output, tmp_path / "got", monkeypatch, share_pictures=shared, at_home=at_home)
    assert got == {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("uri", "at_home"),
    [
        ("sqlite:////srv/mlflow.db", True),
        ("file:///srv/mlruns", True),
        ("http://mlflow.example", False),
        ("https://mlflow.example/fieldmark", False),
        ("postgresql://mlflow.example/runs", False),
        ("databricks", False),
    ],
)
def test_what_is_no_file_is_shared(uri: str, at_home: bool) -> None:
    assert stores.is_remote(uri) is not at_home


def test_the_input_example_of_a_registered_model_is_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tiny_export(tmp_path / "export")
    pd.DataFrame({"id": ["a"]}).to_parquet(folder / "reference.parquet")
    (folder / "card.md").write_text("a card\n")
    with tracking.trial_run("", "export", {}):
        version = tracking.register(folder, "fieldmark", tags={})
    got = tracking.download(f"models:/fieldmark/{version}", tmp_path / "got")
    model = mlflow.pyfunc.load_model(str(got))
    described = tracking.connect().get_model_version("fieldmark", version).description
    assert "`fieldmark promote 1` puts" in described and described.endswith("a card\n")
    example = model.input_example["images"]
    size = json.loads((folder / "signature.json").read_text())["inputs"][0]["shape"][1]
    assert (example.shape, example.dtype) == ((1, size, size, 3), np.uint8)
    assert example.std() > 60  # of noise over all values 74, of a photo less
    pictures = [path.name for path in got.rglob("*") if path.suffix in (".png", ".jpg", ".npy")]
    assert pictures == []
