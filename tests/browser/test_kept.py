"""What the browser keeps: settings and conversations."""

from driving import COUNT, DESKTOP, ask, card, ended, give, kept, phase, until
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
    page.wait_for_function("() => !document.querySelector('dialog[open]')")
    forgotten = [m for m in fake.said if m["type"] == "forget"]
    assert {"type": "forget", "conversation": "c1"} in forgotten
    page.get_by_test_id("history").click()
    page.get_by_text("Nothing kept yet").wait_for()


def test_a_reload_loses_nothing(faked):
    def answers(fake, message):
        fake.queued(message)
        if len(fake.asks()) == 2:
            fake.answer(message, "Half a", done=False)
        else:
            fake.answer(message, "A whole answer.")

    page, fake = faked(ask=answers)
    ended(page, ask(page, "First?"))
    phase(page, ask(page, "Second?"), "streaming")
    kept(page, 2)
    fake.event = 0
    page.reload()
    card(page, "ready").wait_for()
    page.wait_for_function("() => document.querySelectorAll('[data-testid=turn][data-phase=done]').length === 2")
    assert [t.inner_text() for t in page.get_by_test_id("answer").all()] == ["A whole answer."] * 2
    last = fake.asks()[-1]
    assert (last["text"], last["history"]) == ("Second?", [{"question": "First?", "answer": "A whole answer."}])


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


def test_what_is_kept_is_bounded(faked):
    page, _ = faked()
    ended(page, ask(page, "How many?"))
    until(page, lambda: len(page.evaluate(COUNT)) == 1)
    page.evaluate(
        """() => new Promise((done) => {
            const open = indexedDB.open('glimpse', 1);
            open.onsuccess = () => {
                const way = open.result.transaction(['conversations', 'pictures'], 'readwrite');
                for (let i = 0; i < 60; i++) {
                    way.objectStore('conversations').put({id: 'old' + i, at: i, name: 'x.png', bytes: 10, turns: '[]', asking: '[]'});
                    way.objectStore('pictures').put({id: 'old' + i, blob: new Blob(['x'])});
                }
                way.oncomplete = () => { open.result.close(); done(); };
            };
        })"""
    )
    ended(page, ask(page, "And now?"))
    until(page, lambda: len(page.evaluate(COUNT)) == 50)
    assert {"old59", "old11"} <= set(page.evaluate(COUNT)) and "old10" not in page.evaluate(COUNT)


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
    assert page.evaluate(COUNT) == []
