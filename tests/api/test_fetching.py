"""Pictures by their addresses: from hosts that were named, and never from this network."""

import pytest

from asking import post
from shelf import Shelf


@pytest.fixture(scope="module")
def fetching(serve):
    server = serve("--fetch-images", "127.0.0.1,localhost", "--upload-bytes", "1MiB", "--session-image-bytes", "1MiB")
    server.wait_ready()
    return server


def ask(server, url: str):
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "How many circles are there?"}]
    status, _, body = post(server, {"temperature": 0, "messages": [{"role": "user", "content": content}]})
    return status, body


def test_a_named_address_is_fetched(fetching, shelf):
    for path in ("/picture.jpg", "/to//picture.jpg", f"/to/http://127.0.0.1:{shelf}/picture.jpg"):
        status, body = ask(fetching, f"http://127.0.0.1:{shelf}{path}")
        assert status == 200 and "3" in body["choices"][0]["message"]["content"], body


@pytest.mark.parametrize(
    "url",
    [
        # A name that leads to this machine, though it is on the list: only the address itself was meant.
        "http://localhost:{port}/picture.jpg",
        "http://127.0.0.1:{port}/to/http://localhost:{port}/picture.jpg",
        "http://127.0.0.2:{port}/picture.jpg",
        "http://[::1]:{port}/picture.jpg",
        "http://127.0.0.1:{port}/to/http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:{port}/to/file:///etc/passwd",
        "http://127.0.0.1@127.0.0.1:{port}/picture.jpg",
        "http://2130706433:{port}/picture.jpg",
        "ftp://127.0.0.1:{port}/picture.jpg",
        "file:///etc/passwd",
        "/etc/passwd",
        "http://127.0.0.1:{port}/" + 6 * "to/",
        "http://127.0.0.1:{port}/nothing",
    ],
)
def test_what_was_not_meant_is_not_fetched(fetching, shelf, url):
    Shelf.seen.clear()
    status, body = ask(fetching, url.format(port=shelf))
    assert status == 400 and body["error"]["code"] == "image_unsupported", body
    assert body["error"]["param"] == "messages[0].content[0]"
    assert not any(path.endswith("picture.jpg") and not path.startswith("/to/") for path in Shelf.seen)


def test_what_is_endless_ends(fetching, shelf):
    status, body = ask(fetching, f"http://127.0.0.1:{shelf}/endless")
    assert (status, body["error"]["code"]) == (413, "upload_too_large")
