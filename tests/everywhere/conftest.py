"""The page in Chromium, Firefox and WebKitGTK, at the size of a desktop and of a phone."""

import fcntl

import pytest
from xdist.scheduler import LoadScopeScheduling

import browsers
from driving import picture
from line import Line
from pages import Page


def pytest_generate_tests(metafunc):
    """A test of people's page runs in every browser; on a phone, too, if it is marked so, which takes minutes more: in
    `make test-long`."""
    if "driver" not in metafunc.fixturenames:
        return
    phones = metafunc.definition.get_closest_marker("phone_too")
    sizes = browsers.SIZES if phones else ["desktop"]
    on = [
        pytest.param((name, size), id=f"{name}-{size}", marks=[pytest.mark.long] if size == "phone" else [])
        for name in browsers.NEEDS
        for size in sizes
    ]
    metafunc.parametrize("driver", on, indirect=True, scope="session")


class ByBrowser(LoadScopeScheduling):
    """Browsers run beside each other, each with all its tests in one worker."""

    def _split_scope(self, nodeid):
        return nodeid.rpartition("[")[2]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return ByBrowser(config, log)


@pytest.fixture(scope="session")
def screen():
    """A screen that nobody sees, with a mouse that is as good as a real one."""
    screen = browsers.Screen()
    yield screen
    screen.close()


@pytest.fixture(scope="session")
def driver(request, tmp_path_factory):
    """One browser for all tests: to start one for each would take most of the time."""
    name, size = request.param
    if lacking := browsers.lacking(name):
        pytest.fail(f"no {name} here: it needs {', '.join(lacking)}; run `make test`, which installs them")
    # With a mouse on a desktop. WebKitGTK knows no way without a screen.
    screen = request.getfixturevalue("screen") if size == "desktop" or name == "webkit" else None
    # One after another: three that start at once are in each other's way.
    with open(tmp_path_factory.getbasetemp().parent / "starting", "w") as one:
        fcntl.flock(one, fcntl.LOCK_EX)
        driver = browsers.start(name, size, screen)
    driver.called, driver.home = name, driver.current_window_handle
    yield driver
    driver.quit()


@pytest.fixture
def line(server):
    line = Line(server.port)
    yield line
    line.close()


def emptied(driver):
    """Leaves the browser with the window that it began with, and nothing in it."""
    for other in set(driver.window_handles) - {driver.home}:
        driver.switch_to.window(other)
        driver.close()
    driver.switch_to.window(driver.home)
    driver.get("about:blank")


@pytest.fixture
def page(driver, line):
    """The page, connected, with nothing of any other test in it."""
    yield Page(driver, line)
    emptied(driver)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Pictures, and what is none."""
    folder = tmp_path_factory.mktemp("files")
    contents = {
        "circles.png": picture(),
        "two.png": picture(circles=2, colour="blue"),
        "wide.png": picture(1600, 1200),
        "empty.png": b"",
        "paper.pdf": b"%PDF-1.7 ...",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder
