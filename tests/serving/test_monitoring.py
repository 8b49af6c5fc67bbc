"""What a served model predicts is on record, and the monitor tells of it on the server's own page
and in its metrics.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from fastapi.testclient import TestClient
from holding import wait_until
from PIL import Image
from traffic import MONITOR

from pipeline import FieldmarkError
from pipeline.config.schema import Serving
from pipeline.exported import model
from pipeline.labels import quality
from pipeline.monitor import reading, tables
from pipeline.serving import app as serving_app
from pipeline.serving import feedback
from pipeline.serving.monitoring import watch
from pipeline.serving.swap import Folder


def photo(seed: int, light: float = 1.0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3)) * light
    return noise.astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def referenced(export: Path) -> Path:
    """The export with the reference of 60 images, as the export stage writes it."""
    made, photos = model.load(export), [photo(i) for i in range(60)]
    probs, ood, sketch = made.predict(np.stack(photos))
    seen = pd.DataFrame([quality.scores(each) for each in photos])
    predicted = np.array(made.classes)[probs.argmax(1)]
    rows = {
        "id": [str(i) for i in range(60)],
        "label": predicted,
        "predicted": predicted,
        "confidence": probs.max(1),
        "ood": ood,
        **{f"sketch_{i}": sketch[:, i] for i in range(16)},
        "brightness": seen["brightness"],
        "sharpness": seen["blur"],
    }
    pd.DataFrame(rows).to_parquet(export / "reference.parquet")
    return export


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'records' / 'monitor.db'}"


@pytest.fixture
def api(referenced: Path, store: str) -> Iterator[TestClient]:
    settings = Serving.model_validate(
        yaml.safe_load((ROOT / "conf/serving/default.yaml").read_text())
    )
    app = serving_app.create(settings, Folder(referenced, "fieldmark"))
    watch(app, MONITOR.model_copy(update={"every_s": 0.2}), store)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def seen_by(api: TestClient, path: str, word: str) -> str:
    wait_until(lambda: word in api.get(path).text, f"{word} at {path}")
    return api.get(path).text


def test_darkened_images_raise_the_alert_on_the_page_and_in_the_metrics(
    api: TestClient, store: str
) -> None:
    for i in range(50):
        assert (
            api.post(
                "/predict", content=png(photo(100 + i, 0.6)), headers={"content-type": "image/png"}
            ).status_code
            == 200
        )
    seen_by(api, "/monitor", "Unlike the validation images: brightness of the images")
    assert 'fieldmark_alert{kind="drift"' in seen_by(api, "/metrics", "fieldmark_drift_p_value")
    with tables.connect(store).connect() as connection:
        window = reading.next_window(
            connection, reading.versions(connection)[0], 50, after=0, not_before=0.0
        )
    assert window["brightness"].to_numpy() == pytest.approx(
        [quality.scores(photo(100 + i, 0.6))["brightness"] for i in range(50)]
    )


def test_what_people_say_of_a_prediction_is_the_true_label_of_its_record(
    referenced: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Serving.model_validate(
        yaml.safe_load((ROOT / "conf/serving/default.yaml").read_text())
    )
    kept = feedback.Keeping(settings.feedback, 10**6)
    app = serving_app.create(
        settings, Folder(referenced, "fieldmark"), keeping=kept, routers=[feedback.router(kept)]
    )
    watch(app, MONITOR, store)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        said = client.post(
            "/predict", content=png(photo(1)), headers={"content-type": "image/png"}
        ).json()["predictions"][0]
        assert client.post("/feedback", json={"id": said["id"], "label": "blue"}).status_code == 204
    with tables.connect(store).connect() as connection:
        row = reading.recent(connection, 0.0, 1e12).iloc[0]
    assert row["label"] == "blue"


def test_refused_requests_are_on_record_and_the_last_records_are_written_at_the_end(
    referenced: Path, store: str
) -> None:
    settings = Serving.model_validate(
        yaml.safe_load((ROOT / "conf/serving/default.yaml").read_text())
    )
    app = serving_app.create(settings, Folder(referenced, "fieldmark"))
    watch(app, MONITOR, store)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        client.post("/predict", content=b"noise", headers={"content-type": "image/png"})
        client.post("/predict", content=png(photo(1)), headers={"content-type": "image/png"})
    with tables.connect(store).connect() as connection:
        assert sorted(reading.recent(connection, 0.0, 1e12)["status"]) == [200, 422]


def test_a_store_that_cannot_be_had_stops_no_prediction(referenced: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    settings = Serving.model_validate(
        yaml.safe_load((ROOT / "conf/serving/default.yaml").read_text())
    )
    app = serving_app.create(settings, Folder(referenced, "fieldmark"))
    watch(app, MONITOR, f"sqlite:///{tmp_path / 'file' / 'monitor.db'}")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert (
            client.post(
                "/predict", content=png(photo(1)), headers={"content-type": "image/png"}
            ).status_code
            == 200
        )
        seen_by(client, "/monitor", "their store cannot be reached")
        assert "fieldmark_monitor_store_up 0.0" in client.get("/metrics").text
        assert client.get("/health/ready").status_code == 200


def test_a_damaged_reference_is_said_in_one_line(referenced: Path) -> None:
    (referenced / "reference.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(FieldmarkError, match="reference.parquet: damaged; export it again"):
        model.load(referenced)
