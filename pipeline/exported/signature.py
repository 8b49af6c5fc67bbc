"""The outputs of an exported model for each image, in their order.

The export stage writes them, serving runs them and the monitor keeps them.
"""

NAMES = ("probs", "ood", "sketch")  # float32 (n, k), (n,) and (n, SKETCH)
SKETCH = 16  # leading components of the features, by which drift is found
