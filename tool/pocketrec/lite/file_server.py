"""Files that are in memory, over HTTP, to this machine alone: 127.0.0.1, and no name that others let point to it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pocketrec.errors import SettingsError

HOST = "127.0.0.1"
PORTS = 10
"""How many ports are tried, from the first one on."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
    ".bin": "application/octet-stream",
}


class FileServer(ThreadingHTTPServer):
    """A server that answers GET and HEAD with one of its files.

    Attributes:
        files: content by path; the type follows from the path's ending, that of "/" is HTML.
        policy: the Content-Security-Policy of all of them.
    """

    daemon_threads = True
    files: Mapping[str, bytes]
    policy: str

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that leaves before it has everything is no fault."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def open_server(port: int, files: Mapping[str, bytes], policy: str) -> FileServer:
    """A server on a port or, if it is taken, on one of the next; 0 for any.

    Raises:
        SettingsError: none of them can be opened.
    """
    for number in [port] if port == 0 else range(port, min(port + PORTS, 2**16)):
        with contextlib.suppress(OSError):
            server = FileServer((HOST, number), _Handler)
            server.files, server.policy = files, policy
            return server
    raise SettingsError(
        f"No port from {port} to {port + PORTS - 1} can be opened on {HOST}.",
        expected="a free port, and one that you may use",
        do="pocketrec serve --port 0, which takes any",
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "pocketrec", ""
    server: FileServer

    def do_GET(self) -> None:
        """Answer with one of the files."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """The same without its content."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)  # another name may be a site that points to this address
            return
        path = self.path.partition("?")[0]
        content = self.server.files.get(path)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES[Path(path).suffix or ".html"])
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Content-Security-Policy", self.server.policy)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing: the page says what is wrong."""
