"""A server on loopback that keeps what it is sent, and gives scripted answers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.provider.answers import GOOD


class Recorder:
    """Gives its `answers` one after the other, then good ones; a context manager.

    Attributes
    ----------
    url : str
        The base URL.
    requests : list of (path, headers, body)
        Names of headers in lower case.
    answers : list of (status, headers, body)
        What is still to be given.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], dict]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        state = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                state.requests.append((self.path, headers, json.loads(body)))
                status, headers, answer = state.answers.pop(0) if state.answers else (200, {}, GOOD)
                self.send_response(status)
                headers = {"Content-Type": "application/json", "Content-Length": str(len(answer))} | headers
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
