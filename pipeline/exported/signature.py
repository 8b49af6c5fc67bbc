"""The outputs of an exported model for each image, in their order.

The export stage writes them, serving runs them and the monitor keeps them.
"""

from collections.abc import Mapping

NAMES = ("probs", "ood", "sketch")  # float32 (n, k), (n,) and (n, SKETCH)
SKETCH = 16  # leading components of the features, by which drift is found


def signature(
    classes: list[str], size_px: int, preprocess: Mapping[str, object]
) -> dict[str, object]:
    """What signature.json says: inputs, outputs, class names, and how images are prepared."""
    return {
        "inputs": [{"name": "images", "dtype": "uint8", "shape": [-1, size_px, size_px, 3]}],
        "outputs": [
            {"name": "probs", "dtype": "float32", "shape": [-1, len(classes)]},
            {"name": "ood", "dtype": "float32", "shape": [-1]},
            {"name": "sketch", "dtype": "float32", "shape": [-1, SKETCH]},
        ],
        "classes": classes,
        "preprocess": preprocess,
    }
