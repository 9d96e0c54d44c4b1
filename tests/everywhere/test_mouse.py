"""Pictures dragged by a real mouse, from another page and from this one: what no driver can show."""

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from driving import picture
from mouse import Mouse
from test_everywhere import stays, talked

CAT = picture(circles=2, colour="blue")
WHOLE = "position: fixed; inset: 0; width: 100%; height: 100%"
PAGES = {
    "/": f'<title>Other</title><img src="cat.png" style="{WHOLE}">',
    "/data": f'<title>Other</title><img src="data:image/png;base64,{base64.b64encode(CAT).decode()}" style="{WHOLE}">',
}


@pytest.fixture(scope="session")
def other():
    """Another site, which has pictures."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = PAGES.get(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "image/png" if body is None else "text/html")
            self.end_headers()
            self.wfile.write(CAT if body is None else body.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def mouse(screen):
    mouse = Mouse(screen)
    yield mouse
    # Whatever became of it, for the next test nothing is held.
    mouse.does("mouseup", 1)


def from_elsewhere(page, mouse, address):
    """Drags the picture of another page, in a window below, onto this one."""
    driver = page.driver
    end = mouse.place(page, "main")
    mine = driver.current_window_handle
    driver.switch_to.new_window("window")
    driver.set_window_rect(0, 820, 700, 420)
    driver.get(address)
    page.until(lambda: page.script("return document.images[0].naturalWidth > 0"))
    start = mouse.place(page, "img")
    driver.switch_to.window(mine)
    mouse.drags(page, start, end)


def test_a_picture_of_another_page_takes_nobody_away(page, files, mouse, other):
    talked(page, files)
    from_elsewhere(page, mouse, other)
    # Some browsers give the picture with the drag, others only its address.
    said = "save it, then drop the file here"
    page.until(lambda: said in page.text() or page.all("picture-card", "[data-phase=ready]") and "cat" in page.name())
    if said in page.text():
        stays(page)
    assert page.driver.current_url.startswith(page.line.url)


def test_a_picture_that_is_in_the_drag_itself_is_taken(page, mouse, other):
    from_elsewhere(page, mouse, other + "/data")
    page.until(lambda: page.all("picture-card", "[data-phase=ready]"))


def test_the_pages_own_picture_stays_where_it_is(page, files, mouse):
    talked(page, files)
    for end in ("[data-testid=server-state]", "#question"):
        assert not mouse.in_vain(page, mouse.place(page, "[data-testid=preview]"), mouse.place(page, end))
        stays(page)
    assert page.draft() == ""
    page.ask("What colour are they?")
    assert "circles.png" in page.name() and len(page.all("turn")) == 2


def test_a_sample_is_dragged_in(page, mouse):
    page.until(lambda: page.script("return [...document.querySelectorAll('[data-testid=sample] img')].some((i) => i.naturalWidth)"))
    mouse.drags(page, mouse.place(page, "[data-testid=sample]"), mouse.place(page, "[data-testid=drop-zone]"))
    page.until(lambda: page.all("picture-card", "[data-phase=ready]"))
