"""What is dragged, dropped or pasted: pictures are taken, nothing else takes the page away."""

import base64
import re

import pytest

from driving import ask, bring, card, ended, give, picture, until

# Dispatches events of a drag or a paste that carries `data` (kind: text) and files (name: bytes), at an element; which of them
# were the page's, and the effect that a drop would have.
CARRY = """([kinds, where, data, files]) => {
    const target = document.querySelector(where);
    const carried = new DataTransfer();
    for (const [kind, text] of Object.entries(data)) carried.setData(kind, text);
    for (const [name, [kind, bytes]] of Object.entries(files))
        carried.items.add(new File([new Uint8Array(bytes)], name, {type: kind}));
    return kinds.map((kind) => {
        const options = {bubbles: true, cancelable: true};
        const event = kind === 'paste' ? new ClipboardEvent(kind, {...options, clipboardData: carried})
            : new DragEvent(kind, {...options, dataTransfer: carried});
        target.dispatchEvent(event);
        return event.defaultPrevented;
    });
}"""


def carry(page, kinds, where="body", data=(), files=()):
    return page.evaluate(CARRY, [list(kinds), where, dict(data), {k: [t, list(b)] for k, (t, b) in dict(files).items()}])


def talked(faked):
    """A page with an answered question."""
    page, fake = faked()
    ended(page, ask(page, "How many?"))
    return page, fake


def stays(page):
    """The conversation and its picture are as they were."""
    assert page.get_by_test_id("turn").count() == 1
    assert "circles.png" in page.get_by_test_id("picture-card").inner_text()
    assert page.get_by_test_id("picture-card").get_attribute("data-phase") == "ready"


def test_a_link_or_a_picture_of_another_page_takes_nobody_away(faked):
    page, _ = talked(faked)
    address = "https://example.org/cat.png"
    shown = {"text/uri-list": address, "text/html": f'<img src="{address}">', "text/plain": address}
    assert carry(page, ["dragenter", "dragover", "drop"], data=shown) == [True] * 3
    page.get_by_text("save it, then drop the file here").first.wait_for()
    stays(page)
    # Where words can be dropped they are, and nothing is said of it.
    assert carry(page, ["dragenter", "dragover", "drop"], "#question", data={"text/plain": "words"}) == [False] * 3
    # Words over anything else are the page's, and nothing happens.
    assert carry(page, ["dragenter", "dragover", "drop"], data={"text/plain": "words"}) == [True] * 3
    stays(page)


def test_a_picture_that_is_in_the_drag_itself_is_taken(faked):
    page, _ = faked(with_picture=False)
    address = "data:image/png;base64," + base64.b64encode(picture(circles=2)).decode()
    assert carry(page, ["dragover", "drop"], data={"text/html": f'<p><img alt="x" src="{address}"></p>'}) == [True, True]
    card(page, "ready").wait_for()
    assert "image.png" in page.get_by_test_id("picture-card").inner_text()


def test_the_pages_own_picture_can_be_dragged_about(faked):
    page, fake = talked(faked)
    before = len(fake.heard_of("upload"))
    page.get_by_test_id("preview").drag_to(page.get_by_role("region", name="Conversation"))
    # What Chromium would have put into such a drag.
    page.evaluate("() => document.querySelector('[data-testid=preview]').dispatchEvent(new DragEvent('dragstart', {bubbles: true}))")
    file = {"circles.png": ("image/png", picture(width=64, height=48))}
    assert carry(page, ["dragenter", "dragover", "drop"], files=file)[1:] == [True, True]
    page.wait_for_timeout(100)
    stays(page)
    assert len(fake.heard_of("upload")) == before


def test_a_sample_is_dragged_in(open_page):
    page = open_page()
    sample = page.get_by_test_id("sample").first
    sample.locator("img").wait_for()
    page.wait_for_function("() => document.querySelector('[data-testid=sample] img').complete")
    sample.drag_to(page.get_by_test_id("drop-zone"))
    card(page, "ready").wait_for()
    assert page.get_by_test_id("suggestion").count() > 0


CELLS = {"text/plain": "a\tb", "text/html": "<table><tr><td>a</td><td>b</td></tr></table>"}
SHOT = {"image.png": ("image/png", picture(circles=2))}


def test_cells_are_pasted_as_words_into_the_question(faked):
    page, _ = talked(faked)
    page.get_by_test_id("question").focus()
    assert carry(page, ["paste"], "#question", data=CELLS, files=SHOT) == [False]
    # Some browsers tell the body.
    assert carry(page, ["paste"], data=CELLS, files=SHOT) == [False]
    stays(page)
    # A picture alone is one, wherever the cursor is.
    assert carry(page, ["paste"], "#question", files=SHOT) == [True]
    page.wait_for_function("() => document.querySelector('[data-testid=picture-card]').innerText.includes('image.png')")


def test_cells_are_pasted_as_words_by_the_keys(faked):
    page, _ = talked(faked)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async (bytes) => {
            const png = new Blob([new Uint8Array(bytes)], {type: 'image/png'});
            const text = new Blob(['a\\tb'], {type: 'text/plain'});
            await navigator.clipboard.write([new ClipboardItem({'text/plain': text, 'image/png': png})]);
        }""",
        list(picture(circles=2)),
    )
    page.get_by_test_id("question").focus()
    page.keyboard.press("Control+v")
    until(page, lambda: page.get_by_test_id("question").input_value() == "a\tb")
    stays(page)


STRAY = {
    "an empty file": (("empty.png", "image/png", b""), "empty"),
    "a document": (("paper.pdf", "application/pdf", b"%PDF-1.7 ..."), "not a picture"),
    "words": (("notes.txt", "text/plain", b"words"), "not a picture"),
}


@pytest.mark.parametrize("what", STRAY)
def test_a_stray_file_ends_no_conversation(faked, what):
    page, fake = talked(faked)
    (name, kind, data), said = STRAY[what]
    before = len(fake.heard_of("upload"))
    give(page, {"name": name, "mimeType": kind, "buffer": data})
    page.get_by_test_id("notice").get_by_text(re.compile(said)).wait_for()
    stays(page)
    assert carry(page, ["drop"], files={name: (kind, data)}) == [True]
    stays(page)
    assert len(fake.heard_of("upload")) == before


def test_a_folder_ends_no_conversation(faked, tmp_path):
    page, _ = talked(faked)
    (tmp_path / "holiday").mkdir()
    tools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(tmp_path / "holiday")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        tools.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 300, "data": data})
    page.get_by_text("That is a folder").first.wait_for()
    stays(page)


def test_garbage_ends_no_conversation_and_what_was_asked_of_it_is_a_draft_again(faked):
    """A file that looks like a picture until somebody reads it."""
    page, fake = talked(faked)
    fake.answers["frame"] = lambda f, m: None
    give(page, {"name": "garbage.png", "mimeType": "image/png", "buffer": b"no picture " * 100})
    page.get_by_test_id("decline").wait_for()
    # The conversation is still there, and what is asked now is asked of the new one.
    assert page.get_by_test_id("turn").count() == 1
    page.get_by_test_id("question").fill("What is in it?")
    page.get_by_test_id("question").press("Enter")
    page.get_by_test_id("asked-of-it").wait_for()
    assert page.get_by_test_id("question").input_value() == ""
    number = fake.heard_of("upload")[-1]["upload"]
    fake.send("error", code="image_unsupported", upload=number, message="That is no picture.")
    page.get_by_test_id("notice").get_by_text("garbage.png").wait_for()
    stays(page)
    assert page.get_by_test_id("question").input_value() == "What is in it?"
    assert len(fake.asks()) == 1
    # The conversation goes on.
    fake.answers.pop("frame")
    page.get_by_test_id("question").press("Enter")
    ended(page, page.get_by_test_id("turn").nth(1))
    assert fake.asks()[-1]["conversation"] == "c1"


def test_what_only_the_server_can_read_comes_when_it_has(faked):
    page, fake = talked(faked)
    fake.answers["frame"] = lambda f, m: None
    give(page, {"name": "IMG_1.heic", "mimeType": "image/heic", "buffer": b"x" * 5000})
    page.get_by_test_id("decline").wait_for()
    page.get_by_test_id("question").fill("What is in it?")
    page.get_by_test_id("question").press("Enter")
    assert page.get_by_test_id("turn").count() == 1
    until(page, lambda: len(fake.picture) == 5000)
    upload = {"upload": fake.heard_of("upload")[-1]["upload"]}
    fake.send("upload_received", upload=upload["upload"], image="i2", bytes=5000, sha256="1" * 64)
    fake.send("image_ready", image="i2", width=64, height=48, format="heic",
              timings={"upload_ms": 1, "decode_ms": 2, "preprocess_ms": 1})
    page.get_by_text("A new picture begins").first.wait_for()
    turn = page.get_by_test_id("turn").first
    ended(page, turn)
    assert turn.get_by_test_id("question-text").inner_text() == "What is in it?"
    assert fake.asks()[-1]["image"] == "i2" and "conversation" not in fake.asks()[-1]


def test_a_picture_that_is_not_wanted_is_declined(faked):
    page, fake = talked(faked)
    fake.answers["frame"] = lambda f, m: None
    give(page, {"name": "IMG_1.heic", "mimeType": "image/heic", "buffer": b"x" * 5000})
    page.get_by_test_id("decline").click()
    stays(page)
    assert page.evaluate("() => document.activeElement.id") == "question"
    until(page, lambda: fake.heard_of("cancel"))


def test_what_comes_before_the_page_runs_is_held(browser, server):
    """Dropped and typed while the module is still on its way."""
    context, waiting = browser.new_context(locale="en-US"), []
    context.route("**/*.wasm", lambda route: waiting.append(route))
    page = context.new_page()
    page.goto(server.url, wait_until="commit")
    page.locator(".boot-drop").wait_for()
    until(page, lambda: waiting)
    bring(page, "drop", "early.png")
    page.keyboard.type("How many")
    page.locator(".boot-drop.held").wait_for()
    for route in waiting:
        route.continue_()
    card(page, "ready").wait_for()
    assert "early.png" in page.get_by_test_id("picture-card").inner_text()
    assert page.get_by_test_id("question").input_value() == "How many"
    context.close()
