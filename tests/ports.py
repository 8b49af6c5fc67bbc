"""Ports for servers that cannot pick one themselves."""

import random
import socket
from contextlib import suppress

GIVEN_TO_NOBODY = range(
    20_000, 32_000
)  # the kernel's own choice, for who asks for any port or connects, is above


def free_port() -> int:
    """One that nobody listens at, and that no other test gets by chance until its server has
    started.
    """
    while True:
        port = random.SystemRandom().choice(GIVEN_TO_NOBODY)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
