"""The socket that a server of the farm listens on. Called by `envfarm serve`, and by tests that serve an application."""

import socket

BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 for a free one. Raises `OSError`.

    Its protocol is said by name: asyncio switches Nagle's algorithm off only where it reads TCP there. `socket.create_server` leaves it
    at 0, and then, on a connection that is kept, the body of an answer waits for the other side's delayed acknowledgement of its head:
    a call took 44 ms at the median instead of 0.4.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
