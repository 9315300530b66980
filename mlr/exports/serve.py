"""Serve the page of a model on this machine, and nothing else."""

from __future__ import annotations

import ipaddress
import socket
import webbrowser
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from urllib.parse import urlsplit

from mlr.core.model import Model
from mlr.errors import OptionError
from mlr.exports.export import render


def serve(
    model: Model,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    open: bool = True,
    report: Callable[[str], object] = print,
) -> None:
    """Serve the page of a model until interrupted.

    Parameters
    ----------
    model : Model
        Of the recipe best.
    host : str
        The address to listen on.
    port : int
        The port, from 0 to 65535; 0 takes a free one.
    open : bool
        Open the page in the browser.
    report : callable
        Called once with the address of the page, when it can be opened.

    Raises
    ------
    ModelError
        If the model is of the recipe paper, or not all of its values are finite.
    OptionError
        If the address or the port cannot be listened on.
    """
    page = render(model).encode()
    try:
        server = _Server(page, host, port)
    except (OSError, OverflowError) as error:
        raise OptionError(f"cannot listen on {host}, port {port}: {error}") from error
    with server:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{server.server_address[1]}/"
        report(address)
        if open:
            webbrowser.open(address)
        server.serve_forever()


class _Server(ThreadingTCPServer):
    """Not an HTTPServer, which looks its own name up in the network."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, page: bytes, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.page, self.host = page, host
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10  # seconds to wait for a request

    def do_GET(self) -> None:
        if not self._is_for_here():
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        elif self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(self.server.page)))
            self.send_header("Cache-Control", "no-store")
            # In addition to the policy in the page, which cannot forbid frames.
            self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(self.server.page)

    def _is_for_here(self) -> bool:
        """Tell whether the request names this host: by DNS rebinding, others may lead here."""
        try:
            name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
            if name in ("localhost", self.server.host.lower()):
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def log_message(self, *_: object) -> None:
        """Print nothing about requests."""
