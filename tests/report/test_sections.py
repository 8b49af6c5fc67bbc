"""The page is a list of sections, each with a template of its own name."""

from pathlib import Path

import pandas as pd

import pipeline.report
from pipeline.report import cells
from pipeline.report.sections import SECTIONS

TEMPLATES = Path(str(pipeline.report.__file__)).parent / "sections"


def test_each_section_has_its_template_and_each_template_its_section() -> None:
    ids = [section.id for section in SECTIONS]
    assert sorted(ids) == sorted(file.name.split(".")[0] for file in TEMPLATES.iterdir())
    assert len(set(ids)) == len(ids)


def test_clean_accuracy_stands_beside_what_all_attacks_together_leave() -> None:
    """The last attack of each radius counts what those before it changed."""
    names = ["no attack", "FGSM", "PGD", "FGSM", "PGD"]
    rows = pd.DataFrame({"method": names, "severity": [0.0, 1.0, 1.0, 4.0, 4.0]}).assign(
        n=50, accuracy=[0.9, 0.7, 0.5, 0.4, 0.1], low=0.0, high=1.0
    )
    shown = cells.strongest(rows.assign(balanced_accuracy=0.5, largest_class=0.6))
    assert shown[["radius", "accuracy"]].to_numpy().tolist() == [[0, 0.9], [1, 0.5], [4, 0.1]]
