"""Serves the review page to one person, on the loopback interface only."""

import socket
import threading
import webbrowser
from pathlib import Path

import uvicorn

from pipeline import FieldmarkError
from pipeline.review.app import create_app
from pipeline.runs import processes

HOST = "127.0.0.1"


def serve(*, by: str, port: int, browser: bool) -> None:
    """Serve the project of the working folder until Ctrl-C; an empty `by` is git's user.name or the
    system's.

    Raises FieldmarkError where label-check has not run, or the port is taken.
    """
    person = by.strip() or processes.person()
    app = create_app(Path.cwd(), person)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise FieldmarkError(
                f"port {port} is taken; name another one with --port, or 0 for any"
            ) from error
        listening.listen()  # from here on a browser waits instead of failing
        url = f"http://{HOST}:{listening.getsockname()[1]}"
        print(
            f"Reviewing as {person}: {url} (Ctrl-C ends it; every decision is on disk at once)",
            flush=True,
        )
        if browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False)).run(
            sockets=[listening]
        )
