"""What the whole-system tests share: the server under test and a real browser."""

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ports import free_port

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items):
    """The browser's tests come last: from their first one on Playwright's event loop runs, and no other can beside it."""
    items.sort(key=lambda item: "browser" in getattr(item, "fixturenames", ()))


@dataclass
class Server:
    """A running `glimpse serve`."""

    port: int
    process: subprocess.Popen
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def wait_ready(self, seconds: float = 120) -> None:
        """Until `/readyz` says that the model answers; fails with the server's log."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.1)
        pytest.fail(f"the server did not get ready; its log:\n{self.log.read_text()}")

    def stop(self) -> int:
        """Ends it as Ctrl-C does; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(2)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@pytest.fixture(scope="session")
def binary() -> Path:
    """The binary that `make serve` runs: GLIMPSE_BIN, or where cargo puts it."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    path = Path(os.environ.get("GLIMPSE_BIN", ROOT / target / "release" / "glimpse"))
    if not path.is_file():
        pytest.fail(f"there is no {path}: run `make server` first")
    return path


@contextmanager
def servers(binary, tmp_path_factory):
    """A function that starts servers; all are stopped at the end."""
    running: list[Server] = []

    def start(*flags: str, port: int | None = None, **environment: str) -> Server:
        folder = tmp_path_factory.mktemp("serve")
        if port is None:
            port = free_port()
        log = folder / "log.txt"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("GLIMPSE_")}
        with log.open("w") as out:
            process = subprocess.Popen(
                [binary, "serve", "--listen", f"127.0.0.1:{port}", *flags],
                cwd=folder,
                env=clean | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        running.append(Server(port, process, log))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="module")
def serve(binary, tmp_path_factory):
    """`serve(*flags, port=None, **environment)` starts a server in an empty folder, on a free port unless one is given; all
    are stopped at the end of the file: a machine has no memory for those of all tests."""
    with servers(binary, tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def server(binary, tmp_path_factory):
    """One server with the demo checkpoint, ready, for every test that changes nothing in it."""
    with servers(binary, tmp_path_factory) as start:
        server = start()
        server.wait_ready()
        yield server


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, headless."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.fail(f"no Chromium here (looked for {', '.join(names)}): run `make test`, which installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            # As root (in a container, say) Chromium's own sandbox can't start; the rest keeps it off the network.
            chromium_sandbox=os.geteuid() != 0,
            args=["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page in a context of its own; a script error on it fails the test."""
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors, f"the page raised: {errors}"
