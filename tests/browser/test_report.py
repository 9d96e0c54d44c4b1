"""`glimpse bench`'s report.html, as it is looked at: nothing of it is wider than what shows it."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TOO_WIDE = """() => {
    const wide = [...document.querySelectorAll('main *')].filter((one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0);
    const page = document.documentElement;
    if (page.scrollWidth > page.clientWidth) wide.push(page);
    return wide.filter((one) => !(one instanceof SVGElement)).map((one) => `${one.tagName} ${one.className}: ${one.textContent.slice(0, 40)}`);
}"""


@pytest.fixture(scope="module")
def report(binary, tmp_path_factory) -> Path:
    """One with every table and plot, from few rounds with a tiny model."""
    out = tmp_path_factory.mktemp("report")
    flags = ["--random-weights", "1", "--config", ROOT / "tests/data/tiny.config.json", "--max-new-tokens", "8"]
    flags += ["--runs", "2", "--cold", "1", "--users", "1,3", "--duration", "2", "--image", ROOT / "public/samples/shapes.jpg"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GLIMPSE_", "OTEL_"))}
    run = subprocess.run([binary, "bench", "--out", out, *flags], env=clean, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr
    return out / "report.html"


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_of_a_report_scrolls_sideways(browser, report, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(report.as_uri())
    assert page.locator("table").count() >= 6 and page.locator("figure:visible").count() >= 5
    assert page.evaluate(TOO_WIDE) == []
    page.close()


def test_nor_on_paper(browser, report):
    """An A4 page within the usual margins."""
    page = browser.new_page(viewport={"width": 718, "height": 1047})
    page.emulate_media(media="print")
    page.goto(report.as_uri())
    assert page.evaluate(TOO_WIDE) == []
    page.close()
