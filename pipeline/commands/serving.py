"""A model at work: over HTTP, on files or a camera, and under watch."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline import FieldmarkError

app = typer.Typer()

IN_CONF = "that of conf/serving/"

Folder = Annotated[
    Path | None,
    typer.Option(help="An exported folder, with no tracking server.", show_default="the registry"),
]
Version = Annotated[
    str,
    typer.Option(
        help="A version of the registry.", show_default="the one in production, and its successors"
    ),
]
Host = Annotated[str, typer.Option(help="The address to listen on.", show_default=IN_CONF)]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="0 picks a free one.", show_default=IN_CONF),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes; one uses all cores.", show_default=IN_CONF)
]
Feedback = Annotated[
    bool | None,
    typer.Option(
        "--feedback/--no-feedback", help="Keep images for people to look at.", show_default=IN_CONF
    ),
]
NewKey = Annotated[str, typer.Option(help="Only make an API key of this name, and print it.")]


@app.command()
def serve(
    folder: Folder = None,
    version: Version = "",
    host: Host = "",
    port: Port = None,
    workers: Workers = None,
    feedback: Feedback = None,
    new_key: NewKey = "",
) -> None:
    """Classify images over HTTP; a newly promoted version is taken up without a restart."""
    from pipeline.serving import server

    if new_key:
        print(server.new_key(new_key))
    elif folder and version:
        raise FieldmarkError("name a folder or a version, not both")
    else:
        server.serve(
            folder=folder, version=version, host=host, port=port, workers=workers, keep=feedback
        )


class Format(StrEnum):
    """What `fieldmark predict` writes."""

    json = "json"
    csv = "csv"
    pictures = "pictures"


Files = Annotated[list[Path] | None, typer.Argument(help="Images, folders of them, videos.")]
Model = Annotated[
    str,
    typer.Option(
        help="An exported folder, a registered version, an alias, or an address models:/..."
    ),
]
Written = Annotated[
    Format,
    typer.Option(help="json: one line per image; pictures: PNG files with the answer below."),
]
Out = Annotated[Path, typer.Option(help="With --format pictures: an empty folder.")]
Top = Annotated[int, typer.Option(min=1, help="How many classes per image.")]
Camera = Annotated[
    str,
    typer.Option(
        help="A camera's number, a stream's address or a video file, at its own rate. Ctrl-C ends "
        "it."
    ),
]
EverySeconds = Annotated[
    float, typer.Option(min=0.0, help="Of a video file, one frame every so many seconds.")
]
SmoothSeconds = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="Of videos and cameras, the mean of the answers of the last so many seconds; a change "
        "shows about half of that later. 0: each frame alone.",
    ),
]
MaxMegapixels = Annotated[float, typer.Option(min=0.0, help="A larger image is not read.")]
MaxFileMegabytes = Annotated[
    float, typer.Option(min=0.0, help="A larger file, unless it is a video, is not read.")
]


@app.command()
def predict(
    files: Files = None,
    model: Model = "production",
    format: Written = Format.json,
    out: Out = Path("predictions"),
    top: Top = 5,
    camera: Camera = "",
    every_seconds: EverySeconds = 1.0,
    smooth_seconds: SmoothSeconds = 0.0,
    max_megapixels: MaxMegapixels = 100.0,
    max_file_megabytes: MaxFileMegabytes = 500.0,
) -> None:
    """Classify images and print the answers; exit code 1 where an image could not be read."""
    from pipeline.prediction import command

    n_unread = command.predict(
        files or [],
        source=camera,
        model=model,
        form=format.value,
        out=out,
        top=top,
        every_seconds=every_seconds,
        smooth_seconds=smooth_seconds,
        max_pixels=round(max_megapixels * 1e6),
        max_bytes=round(max_file_megabytes * 1e6),
    )
    raise typer.Exit(1 if n_unread else 0)


@app.command()
def monitor(
    since: Annotated[
        str,
        typer.Option(
            help="How far to look back: 30m, 24h, 7d.", show_default="hours in conf/monitor/"
        ),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Everything, for a program.")] = False,
) -> None:
    """Print traffic, drift and accuracy of what is served; exit code 1 where there is an alert."""
    from pipeline.monitor.show import show

    if show(since=since, json=json):
        raise typer.Exit(1)
