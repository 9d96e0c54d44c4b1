"""What the browser keeps: settings and conversations."""

import pytest

from driving import COUNT, DESKTOP, ask, card, ended, give, kept, picture, until
from fake import Fake


def test_settings_go_with_the_question_and_stay(faked):
    page, fake = faked()
    page.get_by_test_id("settings").click()
    page.get_by_test_id("temperature").fill("0")
    page.get_by_test_id("max-tokens").fill("12")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    ended(page, ask(page, "How many?"))
    assert fake.asks()[-1]["sampling"] == {"temperature": 0.0, "max_new_tokens": 12}


def test_conversations_are_kept_and_cleared(faked):
    page, fake = faked()
    ended(page, ask(page, "How many?"))
    kept(page, 1)
    page.get_by_test_id("new").click()
    page.reload()
    page.get_by_test_id("drop-zone").wait_for()
    page.get_by_test_id("history").click()
    page.get_by_test_id("kept").click()
    page.get_by_test_id("answer").get_by_text("There are three circles.").wait_for()
    card(page, "ready").wait_for()
    turn = ask(page, "And now?")
    ended(page, turn)
    assert fake.asks()[-1]["history"] == [{"question": "How many?", "answer": "There are three circles."}]
    page.get_by_test_id("settings").click()
    page.get_by_test_id("clear-all").click()
    page.get_by_test_id("clear-yes").click()
    page.wait_for_function("() => !document.querySelector('dialog[open]')")
    until(page, lambda: {"type": "forget", "conversation": "c1"} in fake.heard_of("forget"))
    page.get_by_test_id("history").click()
    page.get_by_text("Nothing kept yet").wait_for()


def test_it_works_where_storage_is_refused(faked, browser, server, circles):
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.add_init_script(
        """Object.defineProperty(window, 'indexedDB', {get() { throw new DOMException('no', 'SecurityError'); }});
           Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }});
           Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException('no', 'SecurityError'); }});"""
    )
    wrong = []
    page.on("pageerror", lambda e: wrong.append(str(e)))
    Fake(page)
    page.goto(server.url)
    give(page, circles)
    card(page, "ready").wait_for()
    assert ended(page, ask(page, "How many?")) == "There are three circles."
    context.close()
    assert not wrong


def test_nothing_goes_unasked(faked):
    page, _ = faked()
    ended(page, ask(page, "How many?"))
    until(page, lambda: len(page.evaluate(COUNT)) == 1)
    page.evaluate(
        """() => new Promise((done) => {
            const open = indexedDB.open('glimpse', 1);
            open.onsuccess = () => {
                const way = open.result.transaction(['conversations', 'pictures'], 'readwrite');
                for (let i = 0; i < 60; i++) {
                    way.objectStore('conversations').put({id: 'old' + i, at: i, name: 'x.png', bytes: 1e8, turns: '[]', asking: '[]'});
                    way.objectStore('pictures').put({id: 'old' + i, blob: new Blob(['x'])});
                }
                way.oncomplete = () => { open.result.close(); done(); };
            };
        })"""
    )
    ended(page, ask(page, "And now?"))
    kept(page, 2)
    assert len(page.evaluate(COUNT)) == 61


def test_nothing_is_kept_where_the_user_does_not_want_it(faked):
    page, _ = faked()
    page.get_by_test_id("settings").click()
    page.get_by_test_id("keep").uncheck()
    page.keyboard.press("Escape")
    ended(page, ask(page, "How many?"))
    page.wait_for_timeout(500)
    page.get_by_test_id("history").click()
    page.get_by_text("Nothing kept yet").wait_for()


def test_one_kept_conversation_is_deleted(faked):
    page, _ = faked()
    ended(page, ask(page, "How many?"))
    until(page, lambda: len(page.evaluate(COUNT)) == 1)
    page.get_by_test_id("history").click()
    page.get_by_test_id("kept").locator("img").wait_for()
    page.get_by_role("button", name="Delete: How many?").click()
    page.get_by_text("Nothing kept yet").wait_for()
    until(page, lambda: page.evaluate(COUNT) == [])


# All that lies in the browser's two stores, without the bytes.
STORES = """() => new Promise((done) => {
    const open = indexedDB.open('glimpse', 1);
    open.onsuccess = () => {
        const way = open.result.transaction(['conversations', 'pictures']);
        const all = ['conversations', 'pictures'].map((name) => way.objectStore(name).getAll());
        way.oncomplete = () => { open.result.close(); done(all.map((one) => one.result)); };
    };
})"""


def test_one_picture_is_kept_once_for_all_that_ask_about_it(faked, circles):
    page, _ = faked()
    for count in (1, 2):
        ended(page, ask(page, "How many?"))
        until(page, lambda: len(page.evaluate(COUNT)) == count)
        page.get_by_test_id("new").click()
        give(page, circles)
        card(page, "ready").wait_for()
    give(page, {**circles, "name": "two.png", "buffer": picture(circles=2)})
    page.get_by_text("A new picture begins").first.wait_for()

    def counts():
        return sorted(one["count"] for one in page.evaluate(STORES)[1])

    # The third was never asked about: it goes when it can't be had back.
    until(page, lambda: counts() == [1, 2])
    page.get_by_test_id("history").click()
    page.get_by_role("button", name="Delete: How many?").first.click()
    page.get_by_test_id("deleted").wait_for()
    until(page, lambda: counts() == [1, 1])
    page.get_by_test_id("kept").last.click()
    page.get_by_test_id("answer").get_by_text("There are three circles.").wait_for()


def test_what_the_first_pages_kept_is_opened_and_goes_on(faked):
    """And an older page that is still open in another tab reads what this one has kept of it."""
    page, fake = faked(with_picture=False)
    page.get_by_test_id("drop-zone").wait_for()
    page.evaluate(
        """(bytes) => new Promise((done) => {
            const open = indexedDB.open('glimpse', 1);
            open.onsuccess = () => {
                const way = open.result.transaction(['conversations', 'pictures'], 'readwrite');
                const turns = JSON.stringify([{question: 'First?', answer: 'One.'}]);
                way.objectStore('conversations').put({id: 'old', at: 1, name: 'x.png', bytes: 9, turns, asking: '["Second?"]'});
                way.objectStore('pictures').put({id: 'old', blob: new Blob([new Uint8Array(bytes)], {type: 'image/png'})});
                way.oncomplete = () => { open.result.close(); done(); };
            };
        })""",
        list(picture()),
    )
    page.get_by_test_id("history").click()
    page.get_by_test_id("kept").click()
    page.get_by_test_id("answer").get_by_text("There are three circles.").wait_for()
    assert fake.asks()[-1]["history"] == [{"question": "First?", "answer": "One."}]
    until(page, lambda: page.evaluate(STORES)[0][0].get("rev"))
    [record], [kept_picture] = page.evaluate(STORES)
    assert (record["asking"], kept_picture["id"]) == ("[]", "old")
    page.reload()
    page.get_by_test_id("answer").get_by_text("There are three circles.").wait_for()
    card(page, "ready").wait_for()


NO_BLOBS = """
    const put = IDBObjectStore.prototype.put;
    IDBObjectStore.prototype.put = function (record, ...rest) {
        if (Object.values(record).some((value) => value instanceof Blob)) throw new DOMException('no Blobs', 'DataCloneError');
        return put.call(this, record, ...rest);
    };
"""
NOTHING = """
    IDBObjectStore.prototype.put = () => { throw new DOMException('no room for you', 'UnknownError'); };
"""
FULL = """
    const put = IDBObjectStore.prototype.put;
    IDBObjectStore.prototype.put = function (...all) {
        if (window.full) throw new DOMException('full', 'QuotaExceededError');
        return put.apply(this, all);
    };
"""


def scripted(faked, script):
    page, fake = faked(with_picture=False)
    page.add_init_script(script)
    page.reload()
    page.get_by_test_id("drop-zone").wait_for()
    return page, fake


def test_bytes_are_kept_where_blobs_can_not_be(faked, circles):
    page, _ = scripted(faked, NO_BLOBS)
    give(page, circles)
    card(page, "ready").wait_for()
    ended(page, ask(page, "How many?"))
    kept(page, 1)
    page.reload()
    page.get_by_test_id("answer").get_by_text("There are three circles.").wait_for()
    card(page, "ready").wait_for()
    page.get_by_test_id("preview").wait_for()


def test_a_browser_that_keeps_nothing_is_said_to(faked, circles):
    page, _ = scripted(faked, NOTHING)
    give(page, circles)
    page.get_by_text("This browser keeps nothing for this page").first.wait_for()
    card(page, "ready").wait_for()
    ended(page, ask(page, "How many?"))
    page.get_by_test_id("history").click()
    page.get_by_role("dialog").get_by_text("This browser keeps nothing for this page").wait_for()


def test_a_browser_without_room_is_said_to_and_heals(faked, circles):
    page, _ = scripted(faked, FULL)
    page.evaluate("() => { window.full = true; }")
    give(page, circles)
    page.get_by_test_id("store-notice").get_by_text("no room left").wait_for()
    card(page, "ready").wait_for()
    page.evaluate("() => { window.full = false; }")
    ended(page, ask(page, "How many?"))
    page.get_by_test_id("store-notice").wait_for(state="detached")
    kept(page, 1)


@pytest.mark.parametrize("name, unasked", [("Chrome/140.0", 1), ("Firefox/140.0", 0)])
def test_nobody_is_prompted_unasked_whether_what_is_kept_may_stay(faked, circles, name, unasked):
    """Firefox would ask the person; the others decide alone."""
    page, _ = scripted(faked, f"""
        window.asked = 0;
        Object.defineProperty(Navigator.prototype, 'userAgent', {{get: () => 'Mozilla/5.0 {name}'}});
        // Kept it is once somebody has asked and it was agreed.
        StorageManager.prototype.persist = async () => {{ window.asked++; return window.stays = window.agrees ?? false; }};
        StorageManager.prototype.persisted = async () => window.stays ?? false;
    """)
    give(page, circles)
    card(page, "ready").wait_for()
    ended(page, ask(page, "How many?"))
    kept(page, 1)
    page.get_by_test_id("history").click()
    button = page.get_by_test_id("keep-for-good")
    button.wait_for()
    assert page.evaluate("() => window.asked") == unasked
    button.click()
    page.get_by_text("does not promise to keep them").first.wait_for()
    page.evaluate("() => { window.agrees = true; }")
    button.click()
    page.get_by_test_id("may-go").wait_for(state="detached")
    assert page.evaluate("() => window.asked") == unasked + 2
