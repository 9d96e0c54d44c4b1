"""The three browsers by WebDriver, at the size of a desktop and of a phone."""

import glob
import os
import re
import shutil
import subprocess
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from urllib3.exceptions import HTTPError

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
# Drivers give a browser a minute to start, which one that comes from a disk's depths on a busy machine may not have: what was read
# for the first try is there for the next.
STARTS = 5
HANGS = 300
TOOLS = Path(os.environ.get("GLIMPSE_TOOLS", Path(__file__).resolve().parents[2] / ".tools"))


def found(*names):
    path = os.pathsep.join((str(TOOLS / "bin"), os.environ.get("PATH", "")))
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None)


def mini_browser():
    return next(iter(glob.glob("/usr/lib/*/webkit2gtk-4.*/MiniBrowser")), None)


# What each needs, by the name of the package that has it.
NEEDS = {
    "chromium": {
        "chromium": lambda: found("chromium", "chromium-browser", "google-chrome"),
        "chromium-driver": lambda: found("chromedriver"),
    },
    "firefox": {
        "firefox-esr": lambda: found("firefox-esr", "firefox"),
        "geckodriver": lambda: found("geckodriver"),
    },
    "webkit": {
        "libwebkit2gtk-4.1-0": mini_browser,
        "webkit2gtk-driver": lambda: found("WebKitWebDriver"),
    },
}
SCREEN = {"xvfb": lambda: found("Xvfb"), "xdotool": lambda: found("xdotool")}


def lacking(name):
    """The packages that the browser lacks here."""
    return [package for package, look in {**NEEDS[name], **SCREEN}.items() if look() is None]


class Screen:
    """A screen that nobody sees."""

    def __init__(self):
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            [found("Xvfb"), "-displayfd", str(writing), "-screen", "0", "1600x1400x24", "-nolisten", "tcp"],
            pass_fds=[writing], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(writing)
        # It says which number it has once it can be used.
        with os.fdopen(reading) as said:
            self.display = ":" + said.readline().strip()
        assert re.fullmatch(r":\d+", self.display), "Xvfb did not start"
        self.environment = {**os.environ, "DISPLAY": self.display, "GDK_BACKEND": "x11", "LIBGL_ALWAYS_SOFTWARE": "1"}

    def close(self):
        self.process.terminate()
        self.process.wait()


def chromium(size, screen, touch):
    options = webdriver.ChromeOptions()
    options.binary_location = NEEDS["chromium"]["chromium"]()
    width, height = SIZES[size]
    for argument in ("--disable-gpu", "--disable-background-networking", "--disable-component-update", "--lang=en-US",
                     "--window-position=0,0", f"--window-size={width},{height}", *([] if screen else ["--headless=new"]),
                     # As root (in a container, say) its own sandbox can't start.
                     *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(argument)
    if touch:
        options.add_experimental_option(
            "mobileEmulation", {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2.0, "touch": True}}
        )
    environment = screen.environment if screen else None
    return webdriver.Chrome(options, webdriver.ChromeService(found("chromedriver"), env=environment))


def firefox(size, screen, touch):
    """Its window is never narrower than 500 pixels."""
    options = webdriver.FirefoxOptions()
    options.binary_location = NEEDS["firefox"]["firefox-esr"]()
    width, height = SIZES[size]
    options.set_preference("intl.accept_languages", "en-US")
    # A content process each and no more: memory is what a small machine lacks.
    options.set_preference("dom.ipc.processCount", 1)
    if not screen:
        options.add_argument("-headless")
    if touch:
        options.set_preference("layout.css.devPixelsPerPx", "2.0")
        for which in ("primary", "all"):
            options.set_preference(f"ui.{which}PointerCapabilities", 1)
    environment = screen.environment if screen else {**os.environ, "MOZ_HEADLESS_WIDTH": "1600", "MOZ_HEADLESS_HEIGHT": "2000"}
    driver = webdriver.Firefox(options, webdriver.FirefoxService(found("geckodriver"), env=environment))
    driver.set_window_rect(0, 0, width, height)
    return driver


def webkit(size, screen, touch):
    """Its window is never narrower than about 450 pixels, and it has a mouse at any size."""
    options = webdriver.WebKitGTKOptions()
    options.binary_location = mini_browser()
    width, height = SIZES[size]
    for argument in ("--automation", f"--geometry={width}x{height}"):
        options.add_argument(argument)
    service = webdriver.WebKitGTKService(found("WebKitWebDriver"), env=screen.environment)
    driver = webdriver.WebKitGTK(options, service=service)
    driver.set_window_rect(0, 0, width, height)
    return driver


def start(name, size, screen):
    """A browser, on a screen or without one."""
    begin = {"chromium": chromium, "firefox": firefox, "webkit": webkit}[name]
    for attempt in range(STARTS):
        try:
            driver = begin(size, screen, size == "phone")
            break
        except (WebDriverException, HTTPError):
            if attempt == STARTS - 1:
                raise
    # For what hangs: minutes, whatever else the machine does.
    driver.set_script_timeout(HANGS)
    driver.set_page_load_timeout(HANGS)
    return driver
