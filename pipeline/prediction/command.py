"""The command itself: it loads a model, reads pictures and writes answers."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from pipeline import FieldmarkError, config, one_line
from pipeline.evaluation.smoothing import Trailing
from pipeline.exported.model import Model, load
from pipeline.prediction import answers, camera, pictures, writers
from pipeline.prediction.pictures import Own, Picture
from pipeline.serving.swap import Registry
from pipeline.sources import bounded, signatures

FEW = 8


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
    smooth_seconds: float = 0.0,
) -> int:
    """Write answers for the files or for the camera `source`; return how many could not be read.

    Those are listed on stderr. Raises FieldmarkError where there is no input, no place for the
    output, or no such model.
    """
    if bool(paths) == bool(source):
        raise FieldmarkError("name files or folders to look at, or a --camera, and not both")
    write = _writer(form, out)
    own = Own(*[out] * (form == "pictures"))
    limits = {"max_pixels": max_pixels, "max_bytes": max_bytes}
    shots = (
        camera.frames(source)
        if source
        else pictures.pictures(paths, every_seconds=every_seconds, own=own, **limits)
    )
    few_images = not source and _few(paths)
    smoothing = Trailing(smooth_seconds) if smooth_seconds else None
    loaded = named(model, few_images=few_images)
    unread = run(loaded, shots, write, top=top, live=bool(source), smoothing=smoothing)
    for name, reason in unread:
        print(f"not read: {name}: {reason}", file=sys.stderr)
    if own.left_out:
        own_files = f"{own.left_out[0]}{', ...' if len(own.left_out) > 1 else ''}"
        print(f"left out, as `fieldmark predict` wrote it: {own_files}", file=sys.stderr)
    return len(unread)


def _writer(form: str, out: Path) -> writers.Write:
    if form == "pictures":
        return writers.as_pictures(out)
    return {"json": writers.as_json, "csv": writers.as_csv}[form](sys.stdout)


def _few(paths: list[Path]) -> bool:
    """Whether so few images are named that finding the faster engine would take longer."""
    return len(paths) <= FEW and not any(
        path.is_dir() or signatures.is_video(pictures.head(path)) for path in paths
    )


def named(model: str, *, few_images: bool = False) -> Model:
    """The model of an exported folder, or of the registry by address, version or alias.

    few_images: see exported.model.load. Raises FieldmarkError where there is no such model.
    """
    if Path(model).is_dir():
        return load(Path(model), few_images=few_images)
    name, joint, which = model.removeprefix("models:/").rpartition("@" if "@" in model else "/")
    name = name or config.project()
    source = (
        Registry(name, which, few_images=few_images)
        if which.isdigit() and joint != "@"
        else Registry(name, alias=which, few_images=few_images)
    )
    version = source.current()
    try:
        return source.load(version)
    except FieldmarkError:
        raise
    except Exception as error:  # any error of a registry; only tracking may import its types
        raise FieldmarkError(
            f"models:/{name}/{version} cannot be loaded: {one_line(error)}"
        ) from error


def run(
    model: Model,
    shots: Iterable[Picture],
    write: writers.Write,
    *,
    top: int,
    live: bool = False,
    smoothing: Trailing | None = None,
) -> list[tuple[str, str]]:
    """Write one answer per picture, with progress on stderr.

    Returns name and reason of each picture that could not be read.
    """
    unread = []
    # A live frame is answered alone: while it waits for others it grows old.
    groups = ([shot] for shot in shots) if live else [shots]
    with (
        suppress(*[KeyboardInterrupt] * live),
        tqdm(desc="predict", unit="image", mininterval=1) as progress,
    ):
        for group in groups:
            for answer, picture in answers.answers(model, group, top=top, smoothing=smoothing):
                write(answer, picture)
                progress.update()
                if answer.error:
                    unread.append((answer.name, answer.error))
    return unread
