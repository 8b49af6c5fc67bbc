"""One image, every way to a prediction: training's own, the exported file, the command, the server,
MLflow.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fastapi.testclient import TestClient
from ports import free_port

from pipeline.config import schema
from pipeline.exported import engines, model, write
from pipeline.prediction.answers import answers
from pipeline.prediction.pictures import pictures
from pipeline.serving import app
from pipeline.serving.swap import Folder
from pipeline.storage import store, table
from pipeline.training import network

REGISTERED = "models:/fieldmark@candidate"


class Images:
    """The first test images of a rebuilt project (then others, where it has fewer): files, and
    arrays as training has them.
    """

    def __init__(self, project: Path, n: int, scratch: Path) -> None:
        data, packed = project / "data", store.PackedImages(project / "data" / "ingest")
        self.files, arrays = [], []
        for part in ("test", "dev"):
            rows, pixels = (
                table.read(data / "preprocess" / part),
                store.read_array(data / "preprocess" / part / "images.npy"),
            )
            for row, (id, name) in enumerate(zip(rows["id"], rows["name"], strict=True)):
                if len(arrays) < n:
                    self.files.append(scratch / f"{len(arrays):04d}{Path(name).suffix or '.png'}")
                    self.files[-1].write_bytes(packed[id])
                    arrays.append(pixels[row])
        self.arrays = np.stack(arrays)


Predictions = tuple[np.ndarray, np.ndarray]  # probs (n, k), ood (n,)


def in_training(project: Path, images: Images) -> np.ndarray:
    """Probabilities of the network that was trained, in torch, on training's own arrays."""
    import torch

    trained, *_ = network.load(project / "data" / "tune")
    with torch.inference_mode():
        probs: np.ndarray = torch.softmax(trained(torch.from_numpy(images.arrays)), 1).numpy()
    return probs


def in_onnx(project: Path, images: Images) -> Predictions:
    """The exported file in ONNX Runtime, on training's own arrays."""
    probs, ood, _ = write.run(
        engines.onnx_runtime(project / "data" / "export" / "model.onnx"), [*images.arrays]
    )
    return probs, ood


def by_command(project: Path, images: Images) -> Predictions:
    """`fieldmark predict`, from the files."""
    loaded = model.load(project / "data" / "export")
    shots = pictures(images.files, every_seconds=1.0, max_pixels=10**9)
    predictions = [answer for answer, _ in answers(loaded, shots, top=len(loaded.classes))]
    return _rows([dict(answer.top) for answer in predictions], loaded.classes), np.array(
        [answer.ood_score for answer in predictions]
    )


def by_server(project: Path, images: Images, conf: Path) -> Predictions:
    """POST /predict, from the files."""
    cfg = schema.Serving.model_validate(
        yaml.safe_load(conf.read_text())
        | {"max_megapixels": 1000.0, "formats": ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"]}
    )
    with TestClient(
        app.create(cfg, Folder(project / "data" / "export", "fieldmark")),
        base_url="http://127.0.0.1",
    ) as api:
        classes = api.get("/model").json()["classes"]
        predictions = [_asked(api, file, len(classes)) for file in images.files]
    chances = [{each["class"]: each["prob"] for each in one["top"]} for one in predictions]
    return _rows(chances, classes), np.array([one["ood_score"] for one in predictions])


def by_pyfunc(project: Path, images: Images) -> Predictions:
    """What `mlflow models serve` calls, in this process."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{project / 'mlflow.db'}")
    outputs = mlflow.pyfunc.load_model(REGISTERED).predict(images.arrays)
    return outputs["probs"], outputs["ood"]


def by_mlflow_server(project: Path, images: Images) -> Predictions:
    """A real `mlflow models serve` on the registered model."""
    parts: list[dict[str, Any]] = []
    with _mlflow(project) as url:
        for part in np.array_split(images.arrays, max(1, len(images.arrays) // 8)):
            body = json.dumps({"inputs": {"images": part.tolist()}}).encode()
            request = urllib.request.Request(
                f"{url}/invocations", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=300) as answer:
                parts.append(json.load(answer)["predictions"])
    return np.concatenate([np.array(part["probs"]) for part in parts]), np.concatenate(
        [np.array(part["ood"]) for part in parts]
    )


@contextmanager
def _mlflow(project: Path) -> Iterator[str]:
    port = free_port()
    command = [
        str(Path(sys.executable).parent / "mlflow"),
        "models",
        "serve",
        "-m",
        REGISTERED,
        "--env-manager",
        "local",
        "-p",
        str(port),
    ]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:  # else its number may be another one's by now
            os.killpg(process.pid, 15)
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=60).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("mlflow models serve ended")


def _asked(api: TestClient, file: Path, k: int) -> dict[str, Any]:
    answer = api.post(f"/predict?top_k={k}", files={"files": (file.name, file.read_bytes())})
    assert answer.status_code == 200, answer.text
    prediction: dict[str, Any] = answer.json()["predictions"][0]
    return prediction


def _rows(chances: list[dict[str, float]], classes: list[str]) -> np.ndarray:
    return np.array([[one[name] for name in classes] for one in chances])
