"""What programs that speak OpenAI's HTTP API see, through its own client library."""

import pytest

from asking import client


@pytest.fixture
def api(server):
    """OpenAI's client, connected to the shared server; it tries nothing again."""
    with client(server) as opened:
        yield opened
