"""Images behind addresses: a web server, an S3 and a Google Cloud Storage server on this machine."""

import functools
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import numpy as np
import pytest
from conftest import copy_project
from omegaconf import OmegaConf
from PIL import Image
from ports import free_port
from programs import succeed

from pipeline import FieldmarkError
from pipeline.config import Config, schema
from pipeline.sources import Item, address, bounded, folder, listing
from pipeline.stages import ingest
from pipeline.storage import table

FOLDER = {"_target_": "pipeline.sources.folder.read", "private_addresses": True}
ARCHIVE = {
    "_target_": "pipeline.sources.archive.read",
    "max_member_megabytes": 1.0,
    "max_ratio": 100.0,
    "private_addresses": True,
}
LISTING: dict[str, Any] = {
    **OmegaConf.load("conf/ingest/listing.yaml").source,
    "private_addresses": True,
}
NAMES = ["ant/1.png", "ant/deep/2.png", "bée/3 %.png"]


class Web(http.server.SimpleHTTPRequestHandler):
    """Lists a folder as Apache does, with links to the folder above and to other orders of the
    list.
    """

    def list_directory(self, path: Any) -> io.BytesIO:
        entries = [quote(entry.name) + "/" * entry.is_dir() for entry in Path(path).iterdir()]
        above = self.path.rstrip("/").rpartition("/")[0] + "/"
        links = [above, "?C=N;O=D", *entries]
        page = "".join(f'<a href="{link}">x</a>' for link in links).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        return io.BytesIO(page)

    def log_message(self, *_: Any) -> None:
        pass


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)).save(
        stream, "PNG"
    )
    return stream.getvalue()


def everything() -> dict[str, bytes]:
    """Class folders, and beside them an archive and a listing of the same."""
    photos = {name: png(seed) for seed, name in enumerate(NAMES)}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, data in photos.items():
            packed.writestr(name, data)
    labels = "path,label\n" + "".join(f"{name},{name.split('/')[0]}\n" for name in NAMES)
    inside = {f"photos/{name}": data for name, data in photos.items()}
    return {**inside, "photos.zip": stream.getvalue(), "photos/labels.csv": labels.encode()}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("www")
    for name, data in everything().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Web, directory=str(root))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(images: str, out: Path, source: dict[str, Any]) -> list[tuple[str, str]]:
    ingest.run(
        Config(ingest=schema.Ingest(source=source, max_megapixels=1.0)),
        images=images,
        feedback=out / "none",
        out=out,
    )
    return [*zip(*(table.read(out)[column] for column in ("name", "label")), strict=True)]


EXPECTED = [(name, name.split("/")[0]) for name in NAMES]


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("photos", FOLDER),
        ("photos/", FOLDER),
        ("photos.zip", ARCHIVE),
        ("photos/labels.csv", LISTING),
        ("photos", LISTING),
    ],
    ids=["folder", "folder/", "archive", "listing", "listing in folder"],
)
def test_an_address_gives_what_the_same_place_here_would(
    web: str, tmp_path: Path, place: str, source: dict[str, Any]
) -> None:
    assert run(f"{web}/{place}", tmp_path / "out", source) == EXPECTED


@pytest.mark.slow
def test_dvc_repro_takes_images_from_a_web_server(web: str, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    lines = (project / "params.yaml").read_text().splitlines()
    source = "{private_addresses: true}"
    turned = {
        "images": f"images: {web}/photos/",
        "ingest": f"ingest: {{use: folder, source: {source}}}",
    }
    (project / "params.yaml").write_text(
        "\n".join(turned.get(line.split(":")[0], line) for line in lines)
    )
    succeed(project, tmp_path, "dvc", "repro", "-s", "ingest")
    assert len(table.read(project / "data" / "ingest")) == 3
    again = succeed(project, tmp_path, "dvc", "status", "ingest")
    assert "up to date" in again.stdout


def test_a_file_that_the_server_lacks_is_left_out(web: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        f"path,label\n{web}/photos/ant/1.png,a\n{web}/gone.png,a\n{web}/photos/ant/deep/2.png,b\n"
    )
    assert len(run(str(tmp_path / "labels.csv"), tmp_path / "out", LISTING)) == 2
    assert "cannot be read: not found" in (tmp_path / "out" / "quarantine.csv").read_text()


@pytest.mark.parametrize("place", ["127.0.0.1:9/photos", "{web}/photos/ant/deep"])
def test_an_address_without_images_says_so(web: str, place: str) -> None:
    url = f"http://{place.format(web=web.removeprefix('http://'))}"
    with pytest.raises(FieldmarkError, match="cannot be listed|holds no class folders"):
        list(folder.read(images=url, private_addresses=True))


def test_an_unknown_scheme_says_so() -> None:
    with pytest.raises(FieldmarkError, match="s33://bucket: "):
        list(folder.read(images="s33://bucket"))


def test_a_listing_that_the_server_lacks_says_so(web: str) -> None:
    arguments: Any = {key: value for key, value in LISTING.items() if key != "_target_"}
    with pytest.raises(FieldmarkError, match="cannot be read"):
        list(listing.read(images=f"{web}/none.csv", **arguments))


def test_a_path_here_is_no_address() -> None:
    assert address.local_or_remote("data/images") == Path("data/images")
    assert address.local_or_remote("s3://bucket/x") == "s3://bucket/x"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("fieldmark")
        for name, data in everything().items():
            fs.pipe(f"fieldmark/{name}", data)
        yield "s3://fieldmark"
    server.stop()


@pytest.fixture(scope="module")
def gs() -> Iterator[str]:
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    port = free_port()
    with (
        emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="fieldmark"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        fs = fsspec.filesystem("gs", skip_instance_cache=True)
        for name, data in everything().items():
            fs.pipe(f"fieldmark/{name}", data)
        yield "gs://fieldmark"


@pytest.mark.parametrize("bucket", ["s3", "gs"])
@pytest.mark.parametrize(
    ("place", "source"), [("photos", FOLDER), ("photos.zip", ARCHIVE), ("photos", LISTING)]
)
def test_a_bucket_gives_what_the_same_place_here_would(
    request: pytest.FixtureRequest, bucket: str, tmp_path: Path, place: str, source: dict[str, Any]
) -> None:
    assert run(f"{request.getfixturevalue(bucket)}/{place}", tmp_path / "out", source) == EXPECTED


@pytest.mark.parametrize("bucket", ["s3", "gs"])
def test_items_of_a_bucket_load_in_any_order(request: pytest.FixtureRequest, bucket: str) -> None:
    items = [
        entry
        for entry in folder.read(images=f"{request.getfixturevalue(bucket)}/photos")
        if isinstance(entry, Item)
    ]
    assert [item.load() for item in reversed(items)] == [png(2), png(1), png(0)]


@pytest.mark.parametrize("bucket", ["s3", "gs"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_file_of_a_bucket_that_is_too_large_is_not_fetched(
    request: pytest.FixtureRequest, bucket: str, listed: bool
) -> None:
    url = f"{request.getfixturevalue(bucket)}/photos"
    if listed:
        entries = folder.read(images=url, max_bytes=100)
        load = next(entry for entry in entries if isinstance(entry, Item)).load
    else:
        load = address.loader(f"{url}/ant/1.png", 100)
    with pytest.raises(bounded.TooLarge):
        load()


@pytest.mark.parametrize("bucket", ["s3", "gs"])
def test_what_is_replaced_in_a_bucket_is_not_taken_for_what_was_there(
    request: pytest.FixtureRequest, bucket: str
) -> None:
    url = f"{request.getfixturevalue(bucket)}/replaced"

    def stamp(data: bytes) -> str:
        fsspec.filesystem(bucket, skip_instance_cache=True).pipe(f"{url}/1.png", data)
        fsspec.filesystem(bucket).invalidate_cache()  # each run of ingest lists anew
        place = address.Address(url)
        place.tree()
        return place.stamp("fieldmark/replaced/1.png")

    first, other, again = (stamp(png(seed)) for seed in (0, 1, 1))
    assert first and other and first != other == again
