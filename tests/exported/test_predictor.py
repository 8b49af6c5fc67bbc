"""An exported folder as a function of a photo, from Python."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from exports import tiny_export
from PIL import Image

from pipeline import FieldmarkError
from pipeline.exported import engines, model
from pipeline.exported.predictor import Predictor
from pipeline.pixels.images import BadImage

RED = (220, 30, 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_export(tmp_path_factory.mktemp("exported") / "export")


@pytest.fixture(scope="module")
def predict(folder: Path) -> Predictor:
    return Predictor(folder)


def picture(mode: str = "RGB", size: tuple[int, int] = (61, 47)) -> Image.Image:
    return Image.new("RGB", size, RED).convert(mode)


def png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_path_bytes_pixels_and_a_picture_give_the_same_answer(
    predict: Predictor, tmp_path: Path
) -> None:
    (tmp_path / "photo.png").write_bytes(png(picture()))
    from_path, *others = [
        predict(tmp_path / "photo.png"),
        predict(str(tmp_path / "photo.png")),
        predict(png(picture())),
        predict(np.asarray(picture())),
        predict(np.asarray(picture())[:, ::-1]),
        predict(picture()),
    ]
    assert others == [from_path] * 5
    assert from_path.label == "red"


def test_it_answers_as_serving_does(predict: Predictor, folder: Path) -> None:
    served = model.load(folder)
    outputs = served.predict(served.prepare(png(picture()))[None])
    prediction = predict(picture())
    expected = dict(zip(served.classes, outputs.probs[0], strict=True))
    assert prediction.probabilities == pytest.approx(expected, abs=1e-4)
    assert prediction.strangeness == pytest.approx(float(outputs.ood[0]), abs=1e-2)
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert list(prediction.probabilities) == sorted(expected, key=lambda name: -expected[name])


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (2000, 1500)])
def test_any_size_will_do(size: tuple[int, int], predict: Predictor) -> None:
    assert predict(picture(size=size)).label == "red"


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "YCbCr"])
def test_a_picture_of_any_mode_will_do(mode: str, predict: Predictor) -> None:
    assert predict(picture(mode)).label == "red"


def test_a_sideways_picture_is_set_upright_as_a_file_is(predict: Predictor) -> None:
    sideways = Image.fromarray(
        np.concatenate([np.full((40, 90, 3), RED), np.full((400, 90, 3), (30, 220, 30))]).astype(
            np.uint8
        )
    )
    sideways.getexif()[0x0112] = 6
    buffer = BytesIO()
    sideways.save(buffer, "PNG", exif=sideways.getexif())
    opened = Image.open(BytesIO(buffer.getvalue()))
    assert predict(opened) == predict(buffer.getvalue())


def test_grey_pixels_are_a_photo_too(predict: Predictor) -> None:
    grey = np.full((20, 30), 90, np.uint8)
    assert predict(grey) == predict(np.stack([grey] * 3, axis=2))


def test_an_unsure_answer_is_marked_and_so_is_a_strange_photo(predict: Predictor) -> None:
    white = predict(np.full((9, 9, 3), 255, np.uint8))  # strange to this model is what is bright
    assert (white.abstained, white.strange) == (True, True)
    red = predict(picture())
    assert (red.abstained, red.strange) == (False, False)


@pytest.mark.parametrize(
    ("photo", "reason"),
    [
        (np.zeros((4, 4, 3), np.float32), "must be uint8"),
        (np.zeros((4, 4, 4), np.uint8), "must be uint8"),
        (np.zeros((0, 4, 3), np.uint8), "without pixels"),
        ("nowhere.jpg", "nowhere.jpg: cannot be read"),
    ],
)
def test_what_is_no_photo_is_refused_in_a_line(
    photo: np.ndarray | str, reason: str, predict: Predictor
) -> None:
    with pytest.raises(FieldmarkError, match=reason):
        predict(photo)


def test_bytes_that_are_no_image_are_refused(predict: Predictor) -> None:
    with pytest.raises(BadImage):
        predict(b"no image")


def test_no_engine_is_measured_for_a_photo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object) -> None:
        raise AssertionError("two engines were compared")

    monkeypatch.setattr(engines, "_seconds", measure)
    assert Predictor(folder)(picture()).label == "red"


def test_it_needs_neither_torch_nor_mlflow_nor_a_server(folder: Path) -> None:
    program = (
        "import sys, numpy; from pipeline.exported.predictor import Predictor; "
        f"Predictor({str(folder)!r})(numpy.zeros((5, 5, 3), numpy.uint8)); "
        "print(sorted({'torch', 'mlflow', 'fastapi', 'openvino', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_set_of_a_photo_is_that_of_the_server(predict: Predictor) -> None:
    outputs = predict.model.predict(predict.model.prepare(png(picture()))[None])
    verdict = predict.model.judge(outputs, len(predict.model.classes))
    assert predict(picture()).members == verdict.members
