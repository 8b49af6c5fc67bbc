"""What the report makes of the table's columns."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import metrics
from pipeline.stages import evaluate


@pytest.mark.filterwarnings("error")
def test_metadata_called_like_a_column_of_the_table_has_slices_of_its_own() -> None:
    """A listing may well say of its images which are dark, or what format they had."""
    told = [{"dark": "night", "format": "raw"}, {"dark": "day", "format": "raw"}, {"dark": "day", "format": "jpeg"}]
    rows = pd.DataFrame({"metadata": [json.dumps(one) for one in told], "format": ["PNG", "PNG", "JPEG"], "dark": [False, False, True]})
    found = metrics.slices(evaluate._slices(rows), np.array([True, True, False]), min_n=2)
    assert set(found["slice"]) == {"dark (metadata) = day", "format (metadata) = raw", "format = PNG", "dark = no"}
