"""Answers as JSON lines, as CSV, or as captions below the pictures.

Each answer is written before the next one is computed.
"""

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pipeline import FieldmarkError
from pipeline.prediction.answers import Answer
from pipeline.prediction.pictures import Picture
from pipeline.prediction.traces import COLUMNS, marked
from pipeline.storage import csvs, store

CELL_PX = 640  # the side of an annotated picture
LINE = 18  # characters per line of its caption


@runtime_checkable
class Stream(Protocol):
    """A text file that can be flushed."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


Write = Callable[[Answer, Picture], None]


def as_json(stream: Stream) -> Write:
    """One line of JSON per picture."""

    def write(answer: Answer, _: Picture) -> None:
        stream.write(json.dumps(_plain(answer), ensure_ascii=False) + "\n")
        stream.flush()

    return write


def as_csv(stream: Stream) -> Write:
    """A header, then one row of COLUMNS per picture."""
    line = csvs.row_writer(stream)
    line(COLUMNS)
    stream.flush()

    def write(answer: Answer, _: Picture) -> None:
        first = (answer.top[0][0], f"{answer.top[0][1]:.6f}") if answer.top else ("", "")
        flags = (
            (str(answer.abstain).lower(), str(answer.ood).lower(), f"{answer.ood_score:.6g}")
            if answer.top
            else ("", "", "")
        )
        line([answer.name, *first, *flags, answer.error])
        stream.flush()

    return write


def as_pictures(folder: Path) -> Write:
    """One PNG per picture, with the answer below it.

    Raises FieldmarkError where the folder is not empty.
    """
    from pipeline.pixels import sheets  # imports matplotlib, which takes a second

    if folder.exists() and any(folder.iterdir()):
        raise FieldmarkError(f"{folder} is not empty; name another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    numbers: Iterator[int] = iter(range(1, sys.maxsize))

    def write(answer: Answer, picture: Picture) -> None:
        if picture.pixels is None:
            return
        data = sheets.sheet([picture.pixels], [caption(answer)], columns=1, cell_px=CELL_PX)
        name = "".join(
            letter if letter.isalnum() or letter in "-._" else "_"
            for letter in Path(answer.name).name
        )
        with store.whole(folder / f"{next(numbers):05d}-{name[:80]}.png") as half:
            half.write_bytes(marked(data))

    return write


def caption(answer: Answer) -> str:
    """The answer in the words of the page, in lines that fit below a picture."""
    (name, prob), *_ = answer.top
    lines = (
        ["not sure: perhaps"] * answer.abstain
        + [f"{name} ({prob:.0%})"]
        + ["a strange image"] * answer.ood
    )
    return "\n".join(textwrap.fill(line, LINE) for line in lines)


def _plain(answer: Answer) -> dict[str, Any]:
    if answer.error:
        return {"name": answer.name, "error": answer.error}
    top = [{"class": name, "prob": prob} for name, prob in answer.top]
    return {
        "name": answer.name,
        "top": top,
        "abstain": answer.abstain,
        "ood": answer.ood,
        "ood_score": answer.ood_score,
    }
