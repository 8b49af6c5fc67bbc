"""The command itself: a model, pictures, a writer, and what could not be read."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from pipeline import FieldmarkError, config, one_line
from pipeline.exported.model import Model, load
from pipeline.prediction import answers, camera, pictures, writers
from pipeline.prediction.pictures import Own, Picture
from pipeline.serving.swap import Registry
from pipeline.sources import bounded


def predict(
    paths: list[Path],
    *,
    source: str,
    model: str,
    form: str,
    out: Path,
    top: int,
    every_seconds: float,
    max_pixels: int,
    max_bytes: int = bounded.MAX_FILE_BYTES,
) -> int:
    """Answers for the files, or for the camera `source`; how many could not be read, which are
    listed on stderr.

    Raises FieldmarkError where there is nothing to look at, nothing to write to, or no such model.
    """
    if bool(paths) == bool(source):
        raise FieldmarkError("name files or folders to look at, or a --camera, and not both")
    write = (
        {"json": writers.as_json, "csv": writers.as_csv}[form](sys.stdout)
        if form != "pictures"
        else writers.as_pictures(out)
    )
    own = Own(*[out] * (form == "pictures"))
    shots = (
        camera.frames(source)
        if source
        else pictures.pictures(
            paths,
            every_seconds=every_seconds,
            max_pixels=max_pixels,
            max_bytes=max_bytes,
            own=own,
        )
    )
    unread = run(named(model), shots, write, top=top, live=bool(source))
    for name, reason in unread:
        print(f"not read: {name}: {reason}", file=sys.stderr)
    if own.left_out:
        written = f"{own.left_out[0]}{', ...' if len(own.left_out) > 1 else ''}"
        print(f"left out, as `fieldmark predict` wrote it: {written}", file=sys.stderr)
    return len(unread)


def named(model: str) -> Model:
    """The model of an exported folder, or of the registry by address, version or alias.

    Raises FieldmarkError where there is none of that name.
    """
    if Path(model).is_dir():
        return load(Path(model))
    name, joint, which = model.removeprefix("models:/").rpartition("@" if "@" in model else "/")
    name = name or config.load("export").export.registered_name
    source = (
        Registry(name, which) if which.isdigit() and joint != "@" else Registry(name, alias=which)
    )
    version = source.current()
    try:
        return source.load(version)
    except FieldmarkError:
        raise
    except Exception as error:  # whatever a registry comes up with; only tracking knows its types
        raise FieldmarkError(
            f"models:/{name}/{version} cannot be had: {one_line(error)}"
        ) from error


def run(
    model: Model, shots: Iterable[Picture], write: writers.Write, *, top: int, live: bool = False
) -> list[tuple[str, str]]:
    """Write an answer for each picture, with progress on stderr; what could not be read, and
    why.
    """
    unread = []
    groups = (
        ([shot] for shot in shots) if live else [shots]
    )  # a frame that waited for others would be an old one
    with (
        suppress(*[KeyboardInterrupt] * live),
        tqdm(desc="predict", unit="image", mininterval=1) as progress,
    ):
        for group in groups:
            for answer, picture in answers.answers(model, group, top=top):
                write(answer, picture)
                progress.update()
                if answer.error:
                    unread.append((answer.name, answer.error))
    return unread
