"""What people do with the page, in each browser: pictures come, are asked about, and nothing is lost."""

import re

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

THREE, TWO = re.compile("3|three", re.I), re.compile("2|two", re.I)
HOW_MANY = "How many circles are there?"


def talked(page, files):
    page.give(files / "circles.png")
    page.ready("circles.png")
    assert THREE.search(page.ask(HOW_MANY))
    return page


def stays(page):
    assert len(page.all("turn")) == 1
    assert "circles.png" in page.name()
    assert page.driver.current_url.startswith(page.line.url)


@pytest.mark.phone_too
def test_a_picture_is_chosen_seen_and_asked_about(page, files):
    page.give(files / "circles.png")
    page.until(lambda: page.script("return document.querySelector('[data-testid=preview]')?.naturalWidth > 0"))
    page.ready("circles.png")
    assert THREE.search(page.ask(HOW_MANY))
    assert re.search("red", page.ask("What colour are they?"), re.I)
    # Nothing is wider than the window.
    assert page.script("return document.documentElement.scrollWidth <= innerWidth")


def test_drops(page, files):
    page.carry(["dragenter", "dragover", "drop"], files=[("circles.png", "image/png", (files / "circles.png").read_bytes())])
    page.ready("circles.png")
    page.ask(HOW_MANY)
    address = "https://example.org/cat.png"
    other = {"text/uri-list": address, "text/html": f'<img src="{address}">', "text/plain": address}
    # All of it is the page's, and so nothing leads away: WebKitGTK goes by the first of these where a drag ends as soon as it comes.
    assert page.carry(["dragenter", "dragover", "drop"], texts=other) == [True, True, True]
    page.says("save it, then drop the file here")
    stays(page)


def test_words_win_where_words_are_typed(page, files):
    talked(page, files)
    page.find("question").click()
    cells = {"text/plain": "a\tb", "text/html": "<table><tr><td>a</td><td>b</td></tr></table>"}
    shot = [("image.png", "image/png", (files / "two.png").read_bytes())]
    assert page.carry(["paste"], "#question", cells, shot) == [False]
    stays(page)
    assert page.carry(["paste"], "#question", files=shot) == [True]
    page.ready("image.png")


@pytest.mark.phone_too
def test_a_stray_file_ends_nothing(page, files):
    talked(page, files)
    for name, said in (("empty.png", "empty"), ("paper.pdf", "not a picture")):
        page.give(files / name)
        page.says(said)
        stays(page)


@pytest.mark.phone_too
def test_a_new_picture_is_taken_back(page, files):
    talked(page, files)
    page.give(files / "two.png")
    page.ready("two.png")
    assert not page.all("turn")
    page.undo()
    page.until(lambda: "circles.png" in page.name() and len(page.all("turn")) == 1)
    assert THREE.search(page.ask(HOW_MANY))


@pytest.mark.phone_too
def test_versions(page, files):
    talked(page, files)
    for number, change in ((2, again), (3, edits)):
        change(page)
        page.until(lambda: page.find("version").text == f"{number}/{number}")
        page.until(lambda: page.all("turn", "[data-phase=done]"))
    assert page.find("question-text").text == f"{HOW_MANY}\nIn words."
    page.click("version-before")
    page.until(lambda: page.find("version").text == "2/3")
    assert page.find("question-text").text == HOW_MANY


def over(page):
    """The tools of a turn are there for whoever points at it. A mouse that was there already has to move."""
    words = page.find("question-text")
    ActionChains(page.driver).move_to_element_with_offset(words, 2, 2).move_to_element(words).perform()


def again(page):
    over(page)
    page.click("regenerate")


def edits(page):
    over(page)
    page.click("edit")
    field = page.find("edit-text")
    field.send_keys(Keys.END)
    field.send_keys(Keys.SHIFT, Keys.ENTER)
    field.send_keys("In words.")
    page.click("edit-send")


@pytest.mark.phone_too
def test_a_reload_loses_nothing(page, files):
    talked(page, files)
    page.kept(1)
    # The answer stands still in the middle of it.
    page.line.hold("done")
    page.send("What colour are they?")
    page.until(lambda: page.all("turn", "[data-phase=streaming]"))
    page.line.release()
    page.driver.refresh()
    page.until(lambda: len(page.all("turn", "[data-phase=done]")) == 2)
    # Its last words are drawn in the frame after it has ended.
    page.until(lambda: re.search("red", page.all("answer")[-1].text, re.I))
    page.type("Half a question")
    page.driver.refresh()
    page.ready("circles.png")
    assert page.draft() == "Half a question"
    assert len(page.all("turn")) == 2


@pytest.mark.phone_too
def test_kept_conversations(page, files):
    talked(page, files)
    page.kept(1)
    page.until(lambda: "#/c/" in page.driver.current_url)
    first = page.driver.current_url
    page.give(files / "two.png")
    page.ready("two.png")
    page.ask("What colour?")
    page.until(lambda: "#/c/" in page.driver.current_url and page.driver.current_url != first)
    page.driver.back()
    page.until(lambda: page.all("question-text") and page.find("question-text").text == HOW_MANY)
    page.driver.forward()
    page.until(lambda: page.all("question-text") and page.find("question-text").text == "What colour?")
    page.click("history")
    page.until(lambda: len(page.all("kept")) == 2)
    page.find("search").send_keys("circles")
    page.until(lambda: len(page.all("kept")) == 1)
    page.click("more")
    name = page.find("name")
    name.clear()
    name.send_keys("Red ones")
    page.click("save-name")
    page.says("Red ones", "No conversation", "Nothing")
    page.find("search").clear()
    page.find("search").send_keys("r", Keys.BACKSPACE)
    page.until(lambda: len(page.all("kept")) == 2)
    # Deleted, and taken back.
    page.until(lambda: page.driver.find_elements("css selector", "[aria-label='Delete: Red ones']"))[0].click()
    page.click("deleted", " button")
    page.until(lambda: not page.all("deleted") and len(page.all("kept")) == 2)


def test_two_tabs_on_one_conversation(page, files):
    talked(page, files)
    page.kept(1)
    page.until(lambda: "#/c/" in page.driver.current_url)
    address, first = page.driver.current_url, page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.driver.get(address)
    page.until(lambda: page.all("turn"))
    page.says("open in another tab")
    page.driver.switch_to.window(first)
    page.ask("What colour are they?")
    page.kept(2)
    second = next(handle for handle in page.driver.window_handles if handle != first)
    page.driver.switch_to.window(second)
    page.says("has gone on")


@pytest.mark.phone_too
def test_the_viewer_zooms_and_looks_closer(page, files):
    page.give(files / "wide.png")
    page.ready("wide.png")
    page.click("enlarge")
    page.until(lambda: "%" in page.find("percent").text)
    percent = lambda: int(page.find("percent").text.split()[0])
    whole = percent()
    page.keys("1")
    page.until(lambda: percent() == 100)
    page.keys("0")
    page.until(lambda: percent() == whole)
    page.script("""
        const stage = document.querySelector('[data-testid=stage]'), {left, top, width, height} = stage.getBoundingClientRect();
        stage.dispatchEvent(new WheelEvent('wheel', {deltaY: -600, clientX: left + width / 2, clientY: top + height / 2, cancelable: true}));
    """)
    page.until(lambda: percent() > 1.5 * whole)
    page.keys(Keys.ESCAPE)
    page.until(lambda: not page.all("stage"))
    page.click("closer")
    page.until(lambda: "%" in page.find("percent").text)
    stage = page.find("stage")
    ActionChains(page.driver).move_to_element(stage).click_and_hold().move_by_offset(60, 40).move_by_offset(40, 30).release().perform()
    page.find("box")
    page.click("look-closer")
    page.find("part")
    page.until(lambda: page.all("picture-card", "[data-phase=ready]"))
    page.click("whole")
    page.ready("wide.png")


def test_shortcuts_settings_and_theme(page):
    page.keys("?")
    page.find("keys")
    page.keys(Keys.ESCAPE)
    page.until(lambda: not page.all("keys"))
    page.keys("a")
    page.until(lambda: page.draft() == "a")
    page.click("settings")
    field = page.find("temperature")
    field.clear()
    field.send_keys("0")
    page.keys(Keys.TAB)
    page.until(lambda: '"temperature":0' in (page.script("return localStorage.getItem('glimpse-settings')") or ""))
    page.keys(Keys.ESCAPE)


def test_a_silent_network_is_noticed_and_heals(page, files):
    talked(page, files)
    page.line.hold()
    page.find("lost")
    page.line.release()
    page.good()
    assert not page.all("lost")
    assert re.search("red", page.ask("What colour are they?"), re.I)


@pytest.mark.phone_too
def test_a_cut_line_is_joined_again(page, files):
    talked(page, files)
    page.line.cut()
    assert re.search("red", page.ask("What colour are they?"), re.I)
    assert THREE.search(page.ask(HOW_MANY))
