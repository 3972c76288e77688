"""Serve a folder on localhost, on the first free port from the one asked for: `serve.py _build/html 8000`."""

import functools
import http.server
import sys


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal for the address."""


class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = False  # else a port that another server holds would be taken silently on some systems


def open_server(folder: str, first_port: int, tries: int = 100) -> Server:
    """Server for `folder` on the first port from `first_port` on that nobody holds.

    Raises:
        OSError: if none of `tries` ports is free.
    """
    handler = functools.partial(QuietHandler, directory=folder)
    for port in range(first_port, first_port + tries):
        try:
            return Server(("127.0.0.1", port), handler)
        except OSError:
            continue
    raise OSError(f"no free port in {first_port}..{first_port + tries - 1}; give another one: make book PORT=...")


if __name__ == "__main__":
    server = open_server(sys.argv[1], int(sys.argv[2]))
    print(f"The book is at http://localhost:{server.server_port}/  (Ctrl-C stops)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
