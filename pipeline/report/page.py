"""One HTML page: how good a model is, how it was made and where it fails.

It is self-contained: no script, no outside request, pictures inlined. Names of classes and files
may be any text, so everything is escaped. Rendering computes no figure and predicts nothing.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.pixels import sheets
from pipeline.report import cells, reforms
from pipeline.report.contents import Report
from pipeline.report.sections import SECTIONS, Section, Values

THUMBNAIL_PX = 224
PIXELATED_BELOW_PX = 96


def write(report: Report, folder: Path) -> None:
    """report.html and reforms.md in the folder, and each drawing of the page as
    drawings/SECTION_NAME.svg, for `dvc plots`.
    """
    reforms.write(report, folder)
    sections = contents(report)
    (folder / "report.html").write_text(render(report, sections), encoding="utf-8")
    (folder / "drawings").mkdir(exist_ok=True)
    for section, values in sections:
        for name, value in values.items():
            if isinstance(value, bytes):
                (folder / "drawings" / f"{section.id}_{name}.svg").write_bytes(value)


def contents(report: Report) -> list[tuple[Section, Values]]:
    """The sections that have something to show, with the values that their templates need."""
    given = [(section, section.values(report)) for section in SECTIONS]
    return [(section, values) for section, values in given if values is not None]


def render(report: Report, sections: Sequence[tuple[Section, Values]]) -> str:
    """The page as HTML. The same report gives the same page. sections: see `contents`."""
    environment = _environment()
    evidence = report.evidence
    shared = {"report": report, "evidence": evidence, "figures": evidence.figures}
    parts = []
    for section, values in sections:
        template = environment.get_template(f"sections/{section.id}.html.jinja")
        parts.append((section, Markup(template.render(**shared, **values))))
    page = environment.get_template("page.html.jinja")
    n_correct = round(evidence.figures["accuracy"].value * evidence.n_test)
    html = page.render(**shared, sections=parts, n_correct=n_correct)
    # A file name that is not Unicode holds lone surrogates, which cannot be written as UTF-8.
    return html.encode("utf-8", "replace").decode("utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": cells.share,
        "short": cells.short_number,
        "figure": cells.figure,
        "table": cells.table,
        "thumbnail": _thumbnail,
        "pixelated": _pixelated,
        "svg": lambda content: _uri(content, "image/svg+xml"),
        "head": pd.DataFrame.head,
    }
    return environment


def _thumbnail(image: UInt8[np.ndarray, "_ _ 3"]) -> Markup:
    return _uri(sheets.thumbnail(image, side_px=THUMBNAIL_PX), "image/webp")


def _pixelated(image: UInt8[np.ndarray, "_ _ 3"]) -> bool:
    return bool(max(image.shape[:2]) < PIXELATED_BELOW_PX)


def _uri(content: bytes, kind: Literal["image/svg+xml", "image/webp"]) -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")
