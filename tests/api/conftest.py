"""What programs that speak OpenAI's HTTP API see, through its own client library."""

import http.server
import threading

import pytest

from asking import client
from shelf import Shelf


@pytest.fixture
def api(server):
    """OpenAI's client, connected to the shared server; it tries nothing again."""
    with client(server) as opened:
        yield opened


@pytest.fixture(scope="module")
def shelf():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
