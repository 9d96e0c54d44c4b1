"""A reload loses nothing, and two tabs on one conversation never overwrite each other."""

import json

from driving import COUNT, ask, card, ended, kept, phase, until
from fake import Fake


def halves(fake, message):
    fake.queued(message)
    if len(fake.asks()) == 2:
        fake.answer(message, "Half a", done=False)
    else:
        fake.answer(message, "A whole answer.")


def going_on(faked):
    """A page with one answer, and one that is on its way."""
    page, fake = faked(ask=halves)
    ended(page, ask(page, "First?"))
    phase(page, ask(page, "Second?"), "streaming")
    kept(page, 2)
    return page, fake


def test_a_streaming_answer_goes_on_after_a_reload(faked):
    page, fake = going_on(faked)
    seen = fake.event
    page.reload()
    until(page, lambda: len(fake.heard_of("hello")) == 2)
    assert fake.heard_of("hello")[1]["resume"] == {"session": "s1", "last_event": seen}
    card(page, "ready").wait_for()
    page.get_by_test_id("answer").get_by_text("Half a").wait_for()
    fake.tokens(fake.asks()[1]["request"], " whole one.", first=2)
    fake.done(fake.asks()[1])
    page.wait_for_function("() => document.querySelectorAll('[data-testid=turn][data-phase=done]').length === 2")
    page.get_by_test_id("answer").get_by_text("Half a whole one.").wait_for()
    # Nothing was asked anew, and the picture was not sent again.
    assert len(fake.asks()) == 2 and len(fake.heard_of("upload")) == 1
    fake.answers.pop("ask")
    ended(page, ask(page, "Third?"))
    last = fake.asks()[-1]
    assert last["conversation"] == "c1" and last["request"] not in [m["request"] for m in fake.asks()[:-1]]


def test_a_session_that_is_gone_is_asked_anew_after_a_reload(faked):
    page, fake = going_on(faked)

    def hello(fake, message):
        fake.session, fake.event = "s2", 0
        fake.welcome(**({"resumed": False, "reason": "unknown"} if message.get("resume") else {}))

    fake.answers["hello"] = hello
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('[data-testid=turn][data-phase=done]').length === 2")
    assert [t.inner_text() for t in page.get_by_test_id("answer").all()] == ["A whole answer."] * 2
    last = fake.asks()[-1]
    assert (last["text"], last["history"]) == ("Second?", [{"question": "First?", "answer": "A whole answer."}])
    assert len(fake.heard_of("upload")) == 2


def test_draft_and_chosen_picture_stay(faked):
    page, _ = faked()
    page.get_by_test_id("question").fill("Half a\nquestion")
    until(page, lambda: len(page.evaluate(COUNT)) == 1)
    page.reload()
    card(page, "ready").wait_for()
    page.get_by_test_id("preview").wait_for()
    assert "circles.png" in page.get_by_test_id("picture-card").inner_text()
    assert page.get_by_test_id("question").input_value() == "Half a\nquestion"


def test_a_failed_question_and_a_stopped_answer_stay(faked):
    def answers(fake, message):
        fake.queued(message)
        if len(fake.asks()) == 1:
            fake.answer(message, "This goes on and", done=False)
        else:
            fake.fail(message, "worker_failed", "The worker failed. Ask again.")

    page, fake = faked(ask=answers, cancel=lambda f, m: f.done(m, "cancelled"))
    turn = ask(page, "First?")
    phase(page, turn, "streaming")
    page.get_by_test_id("stop").click()
    phase(page, turn, "stopped")
    phase(page, ask(page, "Second?"), "failed")
    kept(page, 2)
    page.reload()
    page.get_by_test_id("failure").get_by_text("The worker failed").wait_for()
    first, second = page.get_by_test_id("turn").all()
    assert first.get_attribute("data-phase") == "stopped" and "goes on" in first.inner_text()
    assert second.get_by_test_id("question-text").inner_text() == "Second?"
    assert len(fake.asks()) == 2
    second.get_by_test_id("try-again").wait_for()


def test_a_duplicated_tab_takes_no_session(faked):
    page, fake = going_on(faked)
    # What a browser does: another page of the same context with a copy of what this tab keeps.
    copy = page.evaluate("() => JSON.stringify({...sessionStorage})")
    assert "s1" not in copy
    other = page.context.new_page()
    hellos = []
    other.route_web_socket("**/ws", lambda socket: socket.on_message(lambda m: hellos.append(m)))
    other.add_init_script(f"for (const [key, value] of Object.entries({copy})) sessionStorage.setItem(key, value);")
    other.goto(page.url)
    until(other, lambda: hellos)
    assert "resume" not in json.loads(hellos[0])
    other.get_by_text("Second?").wait_for()


def second_tab(page):
    """Another tab with the same conversation open, on a session of its own."""
    open_id = page.evaluate("() => sessionStorage.getItem('glimpse-open')")
    other = page.context.new_page()
    other.set_default_timeout(60_000)
    Fake(other)
    other.add_init_script(f"sessionStorage.getItem('glimpse-open') ?? sessionStorage.setItem('glimpse-open', {json.dumps(open_id)})")
    other.goto(page.url)
    other.get_by_text("There are three circles.").first.wait_for()
    card(other, "ready").wait_for()
    return other


RECORDS = """() => new Promise((done) => {
    const open = indexedDB.open('glimpse', 1);
    open.onsuccess = () => {
        const all = open.result.transaction('conversations').objectStore('conversations').getAll();
        all.onsuccess = () => { open.result.close(); done(all.result.map((c) => JSON.parse(c.turns).map((t) => t.question))); };
    };
})"""


def test_two_tabs_on_one_conversation(faked):
    page, _ = faked()
    ended(page, ask(page, "First?"))
    kept(page, 1)
    other = second_tab(page)
    # The second says so.
    other.get_by_test_id("store-notice").get_by_text("open in another tab").wait_for()
    assert page.get_by_test_id("store-notice").count() == 0
    # The first goes on, and the second is told: what it asks does not overwrite that.
    ended(page, ask(page, "Mine?"))
    other.get_by_test_id("store-notice").get_by_text("has gone on").wait_for()
    ended(other, ask(other, "Another?"))
    other.wait_for_timeout(200)
    assert page.evaluate(RECORDS) == [["First?", "Mine?"]]
    # A copy is kept beside it.
    other.get_by_test_id("make-copy").click()
    other.get_by_test_id("store-notice").wait_for(state="detached")
    until(other, lambda: sorted(page.evaluate(RECORDS)) == [["First?", "Another?"], ["First?", "Mine?"]])
    assert page.get_by_test_id("store-notice").count() == 0


def test_what_another_tab_has_kept_is_shown_on_demand(faked):
    page, _ = faked()
    ended(page, ask(page, "First?"))
    kept(page, 1)
    other = second_tab(page)
    ended(page, ask(page, "Mine?"))
    other.get_by_test_id("show-kept").click()
    other.get_by_text("Mine?").wait_for()
    other.get_by_test_id("store-notice").get_by_text("has gone on").wait_for(state="detached")


def test_what_another_tab_has_deleted_stays_deleted(faked):
    page, _ = faked()
    ended(page, ask(page, "First?"))
    kept(page, 1)
    other = second_tab(page)
    page.get_by_test_id("history").click()
    page.get_by_role("button", name="Delete: First?").click()
    until(page, lambda: page.evaluate(COUNT) == [])
    ended(other, ask(other, "Second?"))
    other.get_by_test_id("store-notice").get_by_text("has deleted").wait_for()
    assert page.evaluate(COUNT) == []
    other.get_by_test_id("make-copy").click()
    until(other, lambda: page.evaluate(RECORDS) == [["First?", "Second?"]])
