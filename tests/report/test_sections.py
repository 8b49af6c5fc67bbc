"""The page is a list of sections, each with a template of its own name."""

from pathlib import Path

import pipeline.report
from pipeline.report.sections import SECTIONS

TEMPLATES = Path(str(pipeline.report.__file__)).parent / "sections"


def test_each_section_has_its_template_and_each_template_its_section() -> None:
    ids = [section.id for section in SECTIONS]
    assert sorted(ids) == sorted(file.name.split(".")[0] for file in TEMPLATES.iterdir())
    assert len(set(ids)) == len(ids)
