"""What another process does with shared keys; light, since that process imports it."""

import sys

from pipeline.serving.keys import Keys


def take(keys: Keys, n: int) -> None:
    """Ends with the number of tokens that were there for "ada"."""
    sys.exit(sum(keys.wait_s("ada", 0.0) == 0 for _ in range(n)))
