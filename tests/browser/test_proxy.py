"""The page behind real proxies: as docs/operations.md shows them, whose very blocks are run here, and as people have them."""

import http.server
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from certificates import self_signed
from driving import ask, bring, card, ended
from ports import free_port
from programs import program

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs/operations.md"
NAME = "pictures.example.org"


def block(language):
    """The one fenced block of this language in the docs' chapter."""
    chapter = DOCS.read_text().split("\n## Behind a proxy\n")[1].split("\n## ")[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", chapter, re.M | re.S)
    assert len(found) == 1, f"{len(found)} blocks of {language} in {DOCS}"
    return found[0]


def flags():
    """What the docs start Glimpse with behind a proxy."""
    program, command, *flags = block("sh").split()
    assert (program, command) == ("glimpse", "serve")
    return flags


def put(text, **changes):
    """`text` with what only this machine decides put in; each of it has to be there."""
    for old, new in changes.values():
        assert old in text, f"{old!r} is not in the docs' example"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Certificate and key for the name, signed by nobody."""
    return self_signed(tmp_path_factory.mktemp("certificate"), NAME)


@pytest.fixture
def proxy(tmp_path):
    """`proxy.nginx(servers)` and `proxy.caddy(file)` run one on loopback until the test is over."""
    running = []

    class Proxy:
        def start(self, port, *command):
            log = (tmp_path / "log.txt").open("w")
            environment = os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            running.append(process)
            end = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 5).close()
                    return
                except OSError:
                    said = (tmp_path / "log.txt").read_text()
                    assert process.poll() is None and time.monotonic() < end, f"the proxy did not start:\n{said}"
                    time.sleep(0.05)

        def nginx(self, port, servers):
            kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
            # Alone, so that ending the process ends it all.
            settings = (
                f"daemon off;\nmaster_process off;\npid {tmp_path}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
                f"http {{\naccess_log off;\n{folders}{servers}\n}}\n"
            )
            file = tmp_path / "nginx.conf"
            file.write_text(settings)
            self.start(port, program("nginx"), "-p", tmp_path, "-c", file, "-e", "stderr")

        def caddy(self, port, sites):
            file = tmp_path / "Caddyfile"
            file.write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + sites)
            self.start(port, program("caddy"), "run", "--adapter", "caddyfile", "--config", file)

    yield Proxy()
    for process in running:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def visit(browser, request):
    """`visit(url)` opens a page in a browser that takes the documentation's name for this machine."""
    named = browser.browser_type.launch(
        executable_path=next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))),
        chromium_sandbox=os.geteuid() != 0,
        # For the service worker's script, too, a certificate that nobody signed has to do.
        args=["--disable-gpu", "--disable-quic", "--ignore-certificate-errors", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"],
    )
    request.addfinalizer(named.close)

    def visit(url, script=None):
        context = named.new_context(locale="en-US", ignore_https_errors=True)
        page = context.new_page()
        page.set_default_timeout(60_000)
        if script:
            page.add_init_script(script)
        page.wrong = []
        page.sockets = []
        page.on("console", lambda m: page.wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("websocket", lambda opened: page.sockets.append(opened.url))
        page.goto(url)
        return page

    return visit


def works(page, url, quiet=True):
    """A sample is shown, a dropped picture is answered, all from beside the page, and nothing went wrong on the way."""
    page.locator("[data-testid=server-state][data-light=good]").wait_for()
    assert page.url == url
    sample = page.get_by_test_id("sample").first.locator("img")
    sample.wait_for()
    sample.evaluate("image => image.decode()")
    bring(page, "drop", "circles.png")
    card(page, "ready").wait_for()
    assert re.search(r"\b(3|three)\b", ended(page, ask(page, "How many circles are there?")), re.I)
    manifest = page.evaluate("async () => (await fetch(document.querySelector('link[rel=manifest]').href)).json()")
    assert manifest["start_url"] == "./"
    assert page.sockets == [url.replace("http", "ws", 1) + "ws"]
    assert page.wrong == [] or not quiet


def told(page):
    """What the page's face says at once about why it can't start."""
    page.locator(".boot-hint.told").wait_for()
    said = page.locator(".boot-hint").inner_text()
    assert "WebAssembly" not in said
    return said


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_as_the_docs_show_it(serve, proxy, visit, certificate, kind):
    server = serve(*flags())
    server.wait_ready()
    port = free_port()
    pem, key = (f"/etc/ssl/{NAME}.{end}" for end in ("pem", "key"))
    example = put(
        block(kind),
        server=("127.0.0.1:8080", f"127.0.0.1:{server.port}"),
        pem=(pem, str(certificate[0])),
        key=(key, str(certificate[1])),
    )
    if kind == "nginx":
        proxy.nginx(port, put(example, listen=("listen 443", f"listen 127.0.0.1:{port}")))
    else:
        proxy.caddy(port, put(example, name=(f"{NAME} {{", f"{NAME}:{port} {{\n\tbind 127.0.0.1")))
    home = f"https://{NAME}:{port}/glimpse/"
    works(visit(home), home)
    works(visit(home.rstrip("/")), home)


WEBSOCKETS = """
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
"""


def test_a_proxy_that_shows_the_page_without_its_slash(server, proxy, visit):
    port = free_port()
    proxy.nginx(port, f"""server {{
        listen 127.0.0.1:{port};
        location /glimpse {{
            rewrite ^/glimpse/?(.*)$ /$1 break;
            proxy_pass http://127.0.0.1:{server.port};
            proxy_set_header Host $http_host;
            {WEBSOCKETS}
        }}
    }}""")
    # At /glimpse the browser looks for the files at the root, until the page has moved.
    works(visit(f"http://127.0.0.1:{port}/glimpse"), f"http://127.0.0.1:{port}/glimpse/", quiet=False)


def test_a_proxy_with_its_defaults(serve, server, proxy, visit):
    """nginx sends its own name for the server as `Host`: the page that it shows is another's to Glimpse, until it is named."""
    port = free_port()
    home = f"http://127.0.0.1:{port}/glimpse/"
    named = serve("--allow-origin", f"http://127.0.0.1:{port}")
    named.wait_ready()
    plain = f"location /glimpse/ {{ proxy_pass http://127.0.0.1:{server.port}/; {WEBSOCKETS} }}"
    allowed = f"location /allowed/ {{ proxy_pass http://127.0.0.1:{named.port}/; {WEBSOCKETS} }}"
    without = f"location /without/ {{ proxy_pass http://127.0.0.1:{named.port}/; }}"
    proxy.nginx(port, f"server {{ listen 127.0.0.1:{port}; {plain} {allowed} {without} }}")

    page = visit(home)
    said = page.locator(".boot-hint.told, [data-testid=barred]")
    said.wait_for()
    assert "--allow-origin" in said.inner_text() and "WebAssembly" not in page.locator("body").inner_text()

    works(visit(home.replace("glimpse", "allowed")), home.replace("glimpse", "allowed"))

    page = visit(home.replace("glimpse", "without"))
    barred = page.get_by_test_id("barred")
    barred.wait_for()
    assert "has to pass WebSockets on" in barred.inner_text()


def test_a_name_that_the_server_was_not_told(server, visit):
    page = visit(f"http://{NAME}:{server.port}/")
    assert "--allow-host" in page.locator("body").inner_text()


def test_a_socket_that_is_refused_says_why(serve, proxy, visit):
    """The page's files came through, from a cache say; the socket does not, and the browser says nothing of its 403."""
    server = serve()
    server.wait_ready()
    port = free_port()
    proxy.nginx(port, f"""server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{server.port}; proxy_set_header Host $http_host; }}
        location = /ws {{ proxy_pass http://127.0.0.1:{server.port}; {WEBSOCKETS} }}
    }}""")
    page = visit(f"http://127.0.0.1:{port}/")
    barred = page.get_by_test_id("barred")
    barred.wait_for()
    assert "--allow-origin" in barred.inner_text()
    assert page.locator("[data-testid=server-state][data-light=bad]").count() == 1


def test_a_file_that_does_not_come_through(server, proxy, visit):
    port = free_port()
    proxy.nginx(port, f"""server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{server.port}; proxy_set_header Host $http_host; {WEBSOCKETS} }}
        location ~ [.]wasm$ {{ return 404; }}
    }}""")
    said = told(visit(f"http://127.0.0.1:{port}/"))
    assert "404" in said and ".wasm" in said


def test_a_module_that_is_refused_before_the_page_is_read(server, visit):
    refused = threading.Event()

    class Proxy(http.server.BaseHTTPRequestHandler):
        """Passes everything on but the modules; of the page the rest comes when its module is refused."""

        def do_GET(self):
            if self.path.endswith(".js"):
                self.send_error(404)
                return refused.set()
            with urllib.request.urlopen(server.url + self.path) as answer:
                kind, body = answer.headers["Content-Type"], answer.read()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            head = body.find(b"<body") if self.path == "/" else 0
            self.wfile.write(body[:head])
            if self.path == "/":
                assert refused.wait(60)
                time.sleep(0.5)
            self.wfile.write(body[head:])

        def do_POST(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        said = told(visit(f"http://127.0.0.1:{proxy.server_port}/"))
        proxy.shutdown()
    assert "404" in said and ".js" in said


def test_a_browser_without_webassembly(server, visit):
    page = visit(server.url, script="delete window.WebAssembly")
    hint = page.locator(".boot-hint")
    hint.evaluate("e => Promise.all(e.getAnimations().map((a) => a.finished))")
    assert "needs WebAssembly" in hint.inner_text()
