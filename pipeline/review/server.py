"""Serves the review page to one person with a token, on the loopback interface only."""

import socket
import threading
import webbrowser
from pathlib import Path

import uvicorn

from pipeline import FieldmarkError, config
from pipeline.config.files import read_yaml
from pipeline.review import entry
from pipeline.review.app import create_app
from pipeline.runs import processes

HOST = "127.0.0.1"


def serve(*, by: str, port: int, browser: bool, controls: int) -> None:
    """Serve the project of the working folder until Ctrl-C.

    controls: see controls.py. An empty `by` means git's user.name or the name of the account. Raises FieldmarkError where label-check has not run, or the port is taken.
    """
    person = by.strip() or processes.person()
    token = entry.token(Path(config.STATE) / "review-token")
    app = create_app(Path.cwd(), person, token, blur_faces=_blur_faces(), controls=controls)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise FieldmarkError(
                f"port {port} is taken; name another one with --port, or 0 for any"
            ) from error
        listening.listen()  # from here on a browser waits instead of failing
        port = listening.getsockname()[1]
        url = f"http://{HOST}:{port}"
        print(
            f"Reviewing as {person}: {entry.address(url, token)} (Ctrl-C ends it; every decision is "
            f"saved at once)",
            flush=True,
        )
        leading = Path(config.STATE) / f"review-{port}.html"
        try:
            if browser:
                page = entry.leading_page(leading, url, token)
                threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
            uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False)).run(
                sockets=[listening]
            )
        finally:
            leading.unlink(missing_ok=True)


def _blur_faces() -> bool:
    """The value in params.yaml, read without Hydra, which takes a second to import."""
    return config.PARAMS.exists() and bool(read_yaml(config.PARAMS).get("blur_faces"))
