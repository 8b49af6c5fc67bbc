"""What an exported model answers for each image: its outputs in their order, as export writes,
serving runs and the monitor keeps them.
"""

NAMES = ("probs", "ood", "sketch")  # float32 (n, k), (n,) and (n, SKETCH)
SKETCH = 16  # leading components of the features, by which drift is found
