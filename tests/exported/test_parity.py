"""Training's own path, ONNX, the command, the server and MLflow say the same of the same files."""

from pathlib import Path

import numpy as np
import parity
import pytest
from conftest import ROOT
from parity import Images

CONF = ROOT / "conf" / "serving" / "default.yaml"
SAME = 1e-3


@pytest.fixture(scope="module")
def images(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Images:
    return Images(built, 16, tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def onnx(built: Path, images: Images) -> parity.Predictions:
    return parity.in_onnx(built, images)


def agree(one: parity.Predictions, other: parity.Predictions) -> None:
    """Scores differ more than the nearly even probabilities of a model trained for a minute."""
    np.testing.assert_allclose(one[0], other[0], atol=SAME)
    np.testing.assert_allclose(one[1], other[1], rtol=0.01)
    clear = np.ptp(np.sort(other[0], axis=1)[:, -2:], axis=1) > SAME
    assert (one[0].argmax(1) == other[0].argmax(1))[clear].all()


def test_strangeness_tells_these_images_apart(onnx: parity.Predictions) -> None:
    """Or else its agreement would say nothing."""
    assert np.ptp(onnx[1]) > 0.2 * np.abs(onnx[1]).max()


def test_onnx_says_what_training_says(
    built: Path, images: Images, onnx: parity.Predictions
) -> None:
    np.testing.assert_allclose(onnx[0], parity.in_training(built, images), atol=SAME)


def test_the_command_says_the_same(built: Path, images: Images, onnx: parity.Predictions) -> None:
    agree(parity.by_command(built, images), onnx)


def test_the_server_says_the_same(built: Path, images: Images, onnx: parity.Predictions) -> None:
    agree(parity.by_server(built, images, CONF), onnx)


# warnings of MLflow itself
@pytest.mark.filterwarnings(
    "ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning", "ignore:.*AnyType.*:UserWarning"
)
def test_the_registered_model_says_the_same(
    built: Path, images: Images, onnx: parity.Predictions
) -> None:
    agree(parity.by_pyfunc(built, images), onnx)


def test_pixels_that_are_read_another_way_are_noticed(
    built: Path, images: Images, onnx: parity.Predictions
) -> None:
    """The error of many peers: another way of resizing in production."""
    from PIL import Image

    side = images.arrays.shape[1]
    images.arrays, right = (
        np.stack(
            [
                np.asarray(Image.open(file).convert("RGB").resize((side, side), 0))
                for file in images.files
            ]
        ),
        images.arrays,
    )
    try:
        with pytest.raises(AssertionError):
            agree(parity.in_onnx(built, images), onnx)
    finally:
        images.arrays = right
