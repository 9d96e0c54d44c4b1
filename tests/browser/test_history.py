"""The conversations that are kept: found, named, given as files and taken in again; Back and Forward."""

import io
import json
import zipfile

from PIL import Image

from driving import ask, card, ended, give, kept, kept_over, phase, picture, until, violations


def two(faked, **answers):
    """A page with two conversations, the second one open; each has its picture and one answer."""
    page, fake = faked(**answers)
    ended(page, ask(page, "How many circles?"))
    kept(page, 1)
    page.get_by_test_id("new").click()
    give(page, {"name": "blue.png", "mimeType": "image/png", "buffer": picture(colour="blue")})
    card(page, "ready").wait_for()
    ended(page, ask(page, "What colour?"))
    until(page, lambda: page.evaluate("() => location.hash").startswith("#/c/"))
    # What is kept while the list is open draws it anew, and closes what is open in it.
    kept_over(page, 1, 1)
    page.get_by_test_id("history").click()
    until(page, lambda: page.get_by_test_id("kept").count() == 2)
    return page, fake


def titles(page):
    return page.locator("[data-testid=kept] .title").all_inner_texts()


def test_conversations_are_found_and_named(faked):
    page, _ = two(faked)
    assert titles(page) == ["What colour?", "How many circles?"]
    assert page.get_by_test_id("day").all_inner_texts() == ["Today"]
    assert page.locator("[data-testid=kept][aria-current=true] .title").all_inner_texts() == ["What colour?"]
    assert violations(page) == []
    page.get_by_test_id("search").fill("CIRCLES?")
    until(page, lambda: titles(page) == ["How many circles?"])
    page.get_by_test_id("search").fill("no such words")
    page.get_by_text("Nothing of what is kept").wait_for()
    page.get_by_test_id("search").fill("")
    until(page, lambda: len(titles(page)) == 2)
    page.get_by_test_id("more").last.click()
    page.get_by_test_id("name").fill("Red ones")
    page.get_by_test_id("save-name").click()
    until(page, lambda: titles(page) == ["What colour?", "Red ones"])
    # What is asked on there leaves it its name.
    page.get_by_text("Red ones").click()
    page.get_by_text("How many circles?").wait_for()
    card(page, "ready").wait_for()
    ended(page, ask(page, "And now?"))
    page.get_by_test_id("history").click()
    until(page, lambda: titles(page) == ["Red ones", "What colour?"])


def test_a_conversation_is_a_file_and_comes_back_from_it(faked):
    page, fake = two(faked)
    page.get_by_test_id("more").last.click()
    with page.expect_download() as download:
        page.get_by_test_id("export-markdown").click()
    assert download.value.suggested_filename == "How many circles.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        text = archive.read("conversation.md").decode()
        shown = Image.open(io.BytesIO(archive.read("circles.png")))
    assert text.startswith("# How many circles?") and "There are three circles." in text
    # As it was given.
    assert shown.size == (640, 480)
    with page.expect_download() as download:
        page.get_by_test_id("export-json").click()
    file = download.value.path().read_bytes()
    told = json.loads(file)
    assert told["format"] == "glimpse-conversation" and told["picture"].startswith("data:image/png;base64,")
    # What is there already is not there twice; what is not there comes back, and can be gone on with.
    page.get_by_test_id("import").set_input_files({"name": "one.json", "mimeType": "application/json", "buffer": file})
    page.wait_for_timeout(300)
    assert len(titles(page)) == 2
    told["conversation"] |= {"id": "somewhere-else", "title": "From another browser"}
    other = json.dumps(told).encode()
    page.get_by_test_id("import").set_input_files({"name": "two.json", "mimeType": "application/json", "buffer": other})
    until(page, lambda: len(titles(page)) == 3)
    page.get_by_text("From another browser").click()
    page.get_by_text("How many circles?").wait_for()
    card(page, "ready").wait_for()
    ended(page, ask(page, "And now?"))
    assert fake.asks()[-1]["history"] == [{"question": "How many circles?", "answer": "There are three circles."}]


def test_what_is_no_conversation_is_not_taken_in(faked):
    page, _ = two(faked)
    for buffer in (b"", b"{}", b"[1, 2", b'{"format": "glimpse-conversation", "version": 1}'):
        page.get_by_test_id("import").set_input_files({"name": "x.json", "mimeType": "application/json", "buffer": buffer})
        page.get_by_text("That file is no conversation").wait_for()
    assert len(titles(page)) == 2


def test_back_and_forward_move_between_conversations_and_stop_no_answer(faked):
    def streams(fake, message):
        fake.queued(message)
        fake.answer(message, "Some words", done=message["text"] != "Slowly.")

    page, fake = two(faked, ask=streams)
    page.keyboard.press("Escape")
    turn = ask(page, "Slowly.")
    phase(page, turn, "streaming")
    request = fake.asks()[-1]["request"]
    page.get_by_test_id("history").click()
    page.get_by_test_id("kept").last.click()
    page.get_by_text("How many circles?").wait_for()
    page.go_back()
    page.get_by_text("What colour?").wait_for()
    fake.tokens(request, " and more", first=2)
    page.get_by_text("Some words and more").wait_for()
    page.go_forward()
    page.get_by_text("How many circles?").wait_for()
    # Longer than anything can be undone.
    page.wait_for_timeout(8500)
    assert not fake.heard_of("cancel")
    page.go_back()
    page.get_by_text("Some words and more").wait_for()


def test_back_from_a_new_picture_leads_to_the_conversation_before(faked):
    page, _ = faked()
    address = "() => location.hash"
    ended(page, ask(page, "How many circles?"))
    until(page, lambda: page.evaluate(address).startswith("#/c/"))
    first = page.evaluate(address)
    give(page, {"name": "two.png", "mimeType": "image/png", "buffer": picture(circles=2)})
    page.get_by_test_id("picture-card").get_by_text("two.png").wait_for()
    card(page, "ready").wait_for()
    ended(page, ask(page, "What colour?"))
    until(page, lambda: page.evaluate(address).startswith("#/c/") and page.evaluate(address) != first)
    page.go_back()
    page.get_by_text("How many circles?").wait_for()
    page.go_forward()
    page.get_by_text("What colour?").wait_for()


def test_an_address_of_another_browser_says_so(faked):
    page, _ = faked(with_picture=False)
    page.evaluate("() => { location.hash = '#/c/nowhere'; }")
    page.get_by_text("is not kept").wait_for()
    until(page, lambda: page.evaluate("() => location.hash") == "")
    # And Back does not lead there again.
    before = page.evaluate("() => history.length")
    page.evaluate("() => { location.hash = '#/c/neither'; }")
    until(page, lambda: page.evaluate("() => location.hash") == "")
    assert page.evaluate("() => history.length") == before + 1
