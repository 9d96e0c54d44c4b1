"""The page as the browser keeps it: a new build, an old one, and a server that is away."""

import io
import json
import re
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from driving import DESKTOP, until
from fake import Fake

KINDS = {"js": "text/javascript", "wasm": "application/wasm", "css": "text/css", "html": "text/html", "json": "application/json",
         "svg": "image/svg+xml", "png": "image/png", "jpg": "image/jpeg", "webmanifest": "application/manifest+json"}
OTHERS = ("ws", "v1/models", "mcp", "metrics")
CACHES = "async () => (await caches.keys()).filter((name) => name.startsWith('glimpse-'))"

KEPT = "async (name) => (await (await caches.open(name)).keys()).map((request) => new URL(request.url).pathname).sort()"


class Site:
    """Serves a build of the page below a path, and can go away, or be another build."""

    def __init__(self, origin, path):
        self.path, self.files, self.away = path, {}, False
        # Of these nothing comes, or no more than the half.
        self.silent, self.halved, self.over = set(), set(), threading.Event()
        names = re.search(r"const FILES = \[(.*?)\]", self.read(origin, "sw.js").decode())[1]
        for name in ["sw.js", *re.findall(r'"([^"]+)"', names)]:
            self.files[name] = self.read(origin, "" if name == "index.html" else name)
        self.first = dict(self.files)
        self.build = re.search(r'const VERSION = "(\w+)"', self.files["sw.js"].decode())[1]
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                name = self.path.split("?")[0].removeprefix(site.path) or "index.html"
                body = site.files.get(name, b"none" if name in site.halved else None)
                if name in site.silent:
                    return site.over.wait()
                status = 503 if site.away else 404 if body is None else 200
                body = body if status == 200 else b"away"
                self.send_response(status)
                self.send_header("Content-Type", KINDS.get(name.rsplit(".")[-1], "text/plain"))
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-cache")
                self.end_headers()
                if name in site.halved:
                    self.wfile.write(body[: len(body) // 2])
                    return site.over.wait()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # Browsers hang up in the midst of what they want no more.
        self.server.handle_error = lambda *_: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}{path}"

    @staticmethod
    def read(origin, name):
        with urllib.request.urlopen(f"{origin}/{name}", timeout=10) as answer:
            return answer.read()

    def be(self, build):
        """From now on it is this build, whose module for later has another name, and which says so of itself."""
        if build == self.build:
            self.files = dict(self.first)
            return
        old = next(name for name in self.first if re.fullmatch(r"glimpse-page-extras-\w+\.js", name))
        new = re.sub(r"-\w+\.js", f"-{build}.js", old)
        files = {name: body for name, body in self.first.items() if name != old}
        files[new] = self.first[old]
        for name in ("sw.js", "index.html"):
            text = self.first[name].decode().replace(self.build, build).replace(old, new)
            files[name] = text.replace("<title>", f'<meta name="build" content="{build}"><title>').encode()
        self.files = files

    def kept(self):
        """What the browser should keep of the build that it is now."""
        return sorted(self.path + name for name in self.files if name != "sw.js")

    def hurry(self):
        """The worker waits a tenth as long."""
        text, times = re.subn(r"(_MS = [\d_]+)0;", r"\1;", self.files["sw.js"].decode())
        assert times == 2
        self.files["sw.js"] = text.encode()

    def dawdle(self):
        """The browser takes longer to say what it keeps than the worker waits for the server."""
        text, times = re.subn(r"const kept = \(file\) =>", r"\g<0> new Promise((go) => setTimeout(go, 2 * PATIENCE_MS)).then(() =>",
                              self.files["sw.js"].decode())
        text, ends = re.subn(r"(cache\.match\(home \+ file\)\));", r"\1);", text)
        assert times == ends == 1
        self.files["sw.js"] = text.encode()

    def stop(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(params=["/", "/glimpse/"], ids=["root", "prefix"])
def site(request, server):
    site = Site(server.url, request.param)
    yield site
    site.stop()


@pytest.fixture
def visit(browser, site):
    context = browser.new_context(viewport=DESKTOP, locale="en-US")

    def visit(socket=True):
        page = context.new_page()
        page.set_default_timeout(60_000)
        if socket:
            Fake(page)
        page.goto(site.url)
        return page

    yield visit
    context.close()


def installed(page, build):
    """Waits until the browser keeps this build's files, and serves the page from them."""
    until(page, lambda: f"glimpse-{build}" in page.evaluate(CACHES), 60)
    page.evaluate("() => navigator.serviceWorker.ready")


def build_of(page):
    return page.evaluate("() => document.querySelector('meta[name=build]')?.content ?? null")


def offered(page):
    page.evaluate("() => checkPage()")
    page.get_by_test_id("new-build").wait_for()


def test_a_new_build_asks_and_an_old_tab_keeps_its_files(site, visit):
    page = visit()
    installed(page, site.build)
    page.reload()
    until(page, lambda: page.evaluate("() => !!navigator.serviceWorker.controller"))
    old = next(name for name in site.files if re.fullmatch(r"glimpse-page-extras-\w+\.js", name))
    site.be("0123456789abcdef")
    offered(page)
    # Nothing has happened to the tab yet; a page that is opened now is the server's.
    assert build_of(page) is None
    other = visit()
    assert build_of(other) == "0123456789abcdef"
    # What the old one has not loaded yet is not on the server any more.
    other.evaluate("() => window.before = true")
    other.get_by_test_id("new-build").get_by_role("button").click()
    # It loads itself again. Another tab's load in that very moment is left hanging by Chromium once in a while.
    other.wait_for_function("() => !window.before && navigator.serviceWorker.controller?.state === 'activated'")
    assert page.evaluate("async (old) => (await fetch(old)).status", old) == 200
    # Once both have moved on, what the old build has left goes.
    page.get_by_test_id("question").fill("A draft")
    page.reload()
    assert build_of(page) == "0123456789abcdef"
    assert page.get_by_test_id("question").input_value() == "A draft"
    until(page, lambda: page.reload() and page.evaluate(CACHES) == ["glimpse-0123456789abcdef"])
    # All of the new one is kept, although pages were opened while it waited.
    assert page.evaluate(KEPT, "glimpse-0123456789abcdef") == site.kept()
    # And back to the build before, while a tab of the newer one is open, and keeps its files in turn.
    new = next(name for name in site.files if re.fullmatch(r"glimpse-page-extras-\w+\.js", name))
    site.be(site.build)
    offered(page)
    page.get_by_test_id("new-build").get_by_role("button").click()
    page.wait_for_function("() => !document.querySelector('meta[name=build]') && document.querySelector('[data-testid=new]')")
    assert build_of(other) == "0123456789abcdef" and new not in site.files
    assert other.evaluate("async (new_) => (await fetch(new_)).status", new) == 200
    other.close()
    until(page, lambda: page.reload() and page.evaluate(CACHES) == [f"glimpse-{site.build}"])
    assert page.evaluate(KEPT, f"glimpse-{site.build}") == site.kept()


def test_while_the_server_is_away_the_page_opens_says_so_and_keeps_drafts(site, visit):
    page = visit(socket=False)
    installed(page, site.build)
    page.reload()
    page.get_by_test_id("new").wait_for()
    page.get_by_test_id("question").fill("What is it?")
    site.away = True
    page.reload()
    page.locator("[data-testid=lost], [data-testid=barred]").wait_for()
    assert page.get_by_test_id("question").input_value() == "What is it?"
    # Samples and all else that lies beside it.
    sample = page.get_by_test_id("sample").first.locator("img")
    sample.evaluate("image => image.decode()")


def test_nothing_is_waited_for_without_end(site, visit):
    site.hurry()
    page = visit()
    installed(page, site.build)
    page.reload()
    until(page, lambda: page.evaluate("() => !!navigator.serviceWorker.controller"))
    ask = "(file) => fetch(file).then(async (answer) => [answer.status, (await answer.text()).length], () => 'failed').catch(() => 'broken')"
    # What is kept comes from there: a small file, and the page itself.
    site.silent, site.halved = {"icon.svg"}, {"index.html"}
    assert page.evaluate(ask, "icon.svg") == [200, len(site.files["icon.svg"])]
    page.reload()
    page.get_by_test_id("new").wait_for()
    # What is kept nowhere fails: at once, or in the midst of it. Nobody has seen such builds.
    site.silent, site.halved = {"glimpse-page-0123456789abcdef.js", "icon.svg"}, {"glimpse-page-fedcba9876543210.js"}
    page.evaluate("async (name) => (await caches.open(name)).delete('icon.svg')", f"glimpse-{site.build}")
    asked = {name: page.evaluate(ask, name) for name in sorted(site.silent | site.halved)}
    assert asked == {**dict.fromkeys(site.silent, "failed"), **dict.fromkeys(site.halved, "broken")}
    # And then it is there.
    site.silent, site.halved = set(), set()
    assert page.evaluate(ask, "icon.svg") == [200, len(site.files["icon.svg"])]


def test_what_is_kept_comes_from_a_browser_that_is_slow_to_say_it(site, visit):
    site.hurry()
    site.dawdle()
    page = visit()
    installed(page, site.build)
    page.reload()
    until(page, lambda: page.evaluate("() => !!navigator.serviceWorker.controller"))
    site.silent = {"icon.svg"}
    ask = "(file) => fetch(file).then(async (answer) => [answer.status, (await answer.text()).length])"
    assert page.evaluate(ask, "icon.svg") == [200, len(site.files["icon.svg"])]
    # A server that fails is told of only where nothing is kept.
    site.silent, site.away = set(), True
    assert page.evaluate(ask, "icon.svg") == [200, len(site.files["icon.svg"])]
    page.evaluate("async (name) => (await caches.open(name)).delete('icon.svg')", f"glimpse-{site.build}")
    assert page.evaluate(ask, "icon.svg") == [503, len("away")]


def test_the_programs_ways_never_pass_it(site, visit):
    page = visit()
    installed(page, site.build)
    page.reload()
    until(page, lambda: page.evaluate("() => !!navigator.serviceWorker.controller"))
    by = {}
    page.on("response", lambda response: by.update({response.url.removeprefix(site.url): response.from_service_worker}))
    for way in OTHERS:
        page.evaluate("async (way) => (await fetch(way)).status", way)
    page.evaluate("async (file) => (await fetch(file)).status", "icon.svg")
    until(page, lambda: {*OTHERS, "icon.svg"} <= by.keys())
    asked = {way: by[way] for way in (*OTHERS, "icon.svg")}
    assert asked == {**dict.fromkeys(OTHERS, False), "icon.svg": True}


def test_it_can_be_installed(server):
    manifest = json.loads(Site.read(server.url, "manifest.webmanifest"))
    assert {manifest["start_url"], manifest["scope"], manifest["id"]} == {"./"}
    for icon in manifest["icons"]:
        assert "/" not in icon["src"]
        if icon["type"] == "image/png":
            image = Image.open(io.BytesIO(Site.read(server.url, icon["src"])))
            assert f"{image.width}x{image.height}" == icon["sizes"]
    assert {icon["sizes"] for icon in manifest["icons"]} == {"any", "192x192", "512x512"}
    with urllib.request.urlopen(f"{server.url}/sw.js", timeout=10) as answer:
        assert answer.headers["cache-control"] == "no-cache"
