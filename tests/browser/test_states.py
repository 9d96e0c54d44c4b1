"""Every state has a face."""

import pytest

from driving import DESKTOP, ask, card, ended, give
from fake import Fake


@pytest.fixture
def faked(browser, server, circles):
    """Opens the page on a fake server, with a picture given if asked for."""
    contexts, wrong = [], []

    def faked(with_picture=True, locale="en-US", tolerate=("WebSocket",), **answers):
        context = browser.new_context(viewport=DESKTOP, locale=locale)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda m: wrong.append(m.text)
                if m.type == "error" and not any(t in m.text for t in tolerate) else None)
        fake = Fake(page, **answers)
        page.goto(server.url)
        if with_picture:
            page.locator("[data-testid=server-state][data-light=good]").wait_for()
            give(page, circles)
            card(page, "ready").wait_for()
        return page, fake

    yield faked
    for context in contexts:
        context.close()
    assert not wrong, wrong


def phase(page, turn, name):
    page.wait_for_function("([t, p]) => t.dataset.phase === p", arg=[turn.element_handle(), name])


def test_queued_with_its_position_thinking_and_streaming(faked):
    page, fake = faked(ask=lambda f, m: f.queued(m, 3))
    turn = ask(page, "How many?")
    phase(page, turn, "queued")
    assert "3 ahead" in turn.get_by_test_id("waiting").inner_text()
    message = fake.asks()[-1]
    fake.queued(message, 0)
    page.get_by_text("You're next").wait_for()
    fake.send("started", request=message["request"])
    phase(page, turn, "thinking")
    fake.tokens(message["request"], "One two")
    phase(page, turn, "streaming")
    fake.done(message)
    assert ended(page, turn) == "One two"


def test_waits_for_its_picture(faked):
    page, fake = faked(ask=lambda f, m: f.queued(m, None))
    turn = ask(page, "How many?")
    phase(page, turn, "waiting")
    assert "picture" in turn.get_by_test_id("waiting").inner_text()


def test_stop(faked):
    def streams(fake, message):
        fake.queued(message)
        fake.answer(message, "This goes on and", done=False)

    page, fake = faked(ask=streams, cancel=lambda f, m: f.done(m, "cancelled"))
    turn = ask(page, "How many?")
    phase(page, turn, "streaming")
    page.get_by_test_id("stop").click()
    phase(page, turn, "stopped")
    assert "Stopped" in turn.get_by_test_id("ending").inner_text()
    assert "goes on" in turn.get_by_test_id("answer").inner_text()


def test_cut_by_length_goes_on(faked):
    def cut(fake, message):
        fake.queued(message)
        fake.answer(message, "Half of", "length")

    page, fake = faked(ask=cut)
    turn = ask(page, "Tell me.")
    phase(page, turn, "length")
    turn.get_by_test_id("continue").click()
    page.wait_for_function("() => document.querySelectorAll('[data-testid=turn]').length === 2")
    assert fake.asks()[-1]["conversation"] == "c1"


def test_a_failure_offers_the_way_out(faked):
    def fails(fake, message):
        fake.queued(message)
        if len(fake.asks()) == 1:
            fake.fail(message, "worker_failed", "The worker failed in the middle. Ask again.", retry_after_ms=500)
        else:
            fake.answer(message, "Three.")

    page, fake = faked(ask=fails)
    turn = ask(page, "How many?")
    phase(page, turn, "failed")
    assert "The worker failed" in turn.get_by_test_id("failure").inner_text()
    turn.get_by_test_id("try-again").click()
    again = page.get_by_test_id("turn").last
    assert ended(page, again) == "Three."
    assert page.get_by_test_id("turn").count() == 1


def test_busy_tells_the_wait(faked):
    def busy(fake, message):
        fake.queued(message)
        fake.fail(message, "busy", "The queue is full.", retry_after_ms=3500)

    page, _ = faked(ask=busy)
    turn = ask(page, "How many?")
    phase(page, turn, "failed")
    assert "4 s" in turn.get_by_test_id("failure").inner_text()


def test_regenerate_and_edit_carry_the_history(faked):
    page, fake = faked()
    ended(page, ask(page, "First?"))
    turn = ask(page, "Second?")
    ended(page, turn)
    turn.get_by_test_id("regenerate").click()
    page.wait_for_function("() => true")
    ended(page, page.get_by_test_id("turn").nth(1))
    last = fake.asks()[-1]
    assert last["text"] == "Second?"
    assert last["history"] == [{"question": "First?", "answer": "There are three circles."}]
    first = page.get_by_test_id("turn").first
    first.hover()
    first.get_by_test_id("edit").click()
    page.get_by_test_id("edit-text").fill("First, but better?")
    page.get_by_test_id("edit-send").click()
    ended(page, page.get_by_test_id("turn").first)
    assert page.get_by_test_id("turn").count() == 1
    last = fake.asks()[-1]
    assert (last["text"], last["history"]) == ("First, but better?", [])


def test_questions_sent_at_once_share_a_conversation(faked):
    page, fake = faked(ask=lambda f, m: None)
    ask(page, "First?")
    ask(page, "Second?")
    page.wait_for_timeout(200)
    assert len(fake.asks()) == 1
    first = fake.asks()[0]
    assert "conversation" not in first and first["image"] == "i1"
    fake.queued(first)
    page.wait_for_function("() => document.querySelector('[data-phase=sent]')")
    assert fake.asks()[1]["conversation"] == "c1"


def test_the_server_loads_and_says_how_far(faked):
    page, fake = faked(with_picture=False, hello=lambda f, m: f.welcome(state="loading"))
    face = page.get_by_test_id("server-face")
    face.wait_for()
    fake.send("status", state="loading", progress=0.42)
    page.get_by_text("42 %").wait_for()
    fake.send("status", state="warming")
    page.get_by_text("warming up").first.wait_for()
    fake.send("status", state="ready")
    face.wait_for(state="detached")


def test_no_demo_banner_for_the_real_model(faked):
    page, _ = faked()
    assert page.get_by_test_id("demo-banner").count() == 0
    assert "glm-4v-9b" in page.get_by_test_id("server-state").inner_text()


def test_a_key_is_asked_for(faked):
    def hello(fake, message):
        if message.get("token") == "right":
            return fake.welcome()
        fake.send("error", code="unauthorized", message="This server asks for a key.")
        fake.socket.close(code=4401)

    page, fake = faked(with_picture=False, hello=hello)
    form = page.get_by_test_id("key-form")
    form.wait_for()
    assert "asks for a key" in form.inner_text()
    form.locator("input").fill("wrong")
    form.locator("button").click()
    page.get_by_text("not accepted").wait_for()
    page.get_by_test_id("key-form").locator("input").fill("right")
    page.get_by_test_id("key-form").locator("button").click()
    page.locator("[data-testid=server-state][data-light=good]").wait_for()
    assert "right" not in page.url


def test_a_changed_protocol_asks_for_a_reload(faked):
    page, _ = faked(with_picture=False, hello=lambda f, m: f.welcome(protocol="glimpse.v2"))
    page.get_by_role("button", name="Reload").wait_for()


def test_reconnecting_loses_no_word(faked):
    def hello(fake, message):
        resume = message.get("resume")
        if not resume:
            return fake.welcome()
        fake.resumed = resume
        fake.welcome(resumed=True)
        request = fake.asks()[-1]
        fake.tokens(request["request"], "three circles.", first=2)
        fake.done(request)

    def streams(fake, message):
        fake.queued(message)
        fake.answer(message, "There are ", done=False)

    page, fake = faked(hello=hello, ask=streams)
    turn = ask(page, "How many?")
    phase(page, turn, "streaming")
    seen = fake.event
    fake.socket.close(code=1011)
    assert ended(page, turn) == "There are three circles."
    assert fake.resumed == {"session": "s1", "last_event": seen}
    assert len(fake.asks()) == 1


def test_what_was_not_heard_is_said_again_after_a_resume(faked):
    def hello(fake, message):
        fake.welcome(**({"resumed": True} if message.get("resume") else {}))

    page, fake = faked(hello=hello, ask=lambda f, m: f.queued(m) or f.answer(m, "Three.") if len(f.asks()) > 1 else None)
    turn = ask(page, "How many?")
    phase(page, turn, "sent")
    fake.socket.close(code=1011)
    assert ended(page, turn) == "Three."
    assert fake.asks()[0] == fake.asks()[1]


def test_a_lost_session_starts_over_by_itself(faked):
    def hello(fake, message):
        if message.get("resume"):
            fake.session, fake.event = "s2", 0
            return fake.welcome(resumed=False, reason="unknown")
        fake.welcome()

    def answers(fake, message):
        fake.queued(message)
        if len(fake.asks()) == 2:
            fake.answer(message, "Half a", done=False)
        else:
            fake.answer(message, "A whole answer.")

    page, fake = faked(hello=hello, ask=answers)
    ended(page, ask(page, "First?"))
    turn = ask(page, "Second?")
    phase(page, turn, "streaming")
    fake.socket.close(code=1011)
    assert ended(page, turn) == "A whole answer."
    last = fake.asks()[-1]
    assert last["history"] == [{"question": "First?", "answer": "A whole answer."}]
    assert "conversation" not in last and ("image" in last or "upload" in last)


def test_silence_after_sleep_is_noticed(faked):
    page, fake = faked(with_picture=False)
    page.locator("[data-testid=server-state][data-light=good]").wait_for()
    fake.answers["ping"] = lambda f, m: None
    before = len(fake.sockets)
    page.evaluate("() => window.dispatchEvent(new Event('online'))")
    page.wait_for_timeout(3500)
    assert len(fake.sockets) > before


def test_chinese_by_the_browsers_language_with_a_switch(faked):
    page, _ = faked(with_picture=False, locale="zh-CN")
    page.get_by_text("选择图片").first.wait_for()
    assert page.locator("html").get_attribute("lang") == "zh"
    page.get_by_test_id("language").click()
    page.get_by_text("Choose a picture").first.wait_for()
    page.reload()
    page.get_by_text("Choose a picture").first.wait_for()


MARKDOWN = """# Title

Some **bold** and *soft* `code`.

- one
- two

| a | b |
|---|--:|
| 1 | 2 |

```js
const x = "<img src=x>";
```

<script>alert(1)</script> <img src="http://example.org/x.png"> ![y](http://example.org/y.png)

[good](https://example.org/) [bad](javascript:alert(1))"""


def test_markdown_is_drawn_safely_and_finished_blocks_are_left_alone(faked):
    def streams(fake, message):
        fake.queued(message)
        fake.send("started", request=message["request"])

    page, fake = faked(ask=streams)
    turn = ask(page, "Show me.")
    phase(page, turn, "thinking")
    message = fake.asks()[-1]
    pieces = [MARKDOWN[i : i + 7] for i in range(0, len(MARKDOWN), 7)]
    half = MARKDOWN.index("- one") // 7 + 3
    for i, piece in enumerate(pieces):
        fake.send("token", request=message["request"], index=i, text=piece)
        if i == half:
            page.wait_for_function("() => document.querySelector('[data-testid=answer]').children.length > 2")
            page.evaluate(
                """() => {
                    window.touched = 0;
                    const answer = document.querySelector('[data-testid=answer]');
                    for (const block of [answer.children[0], answer.children[1]])
                        new MutationObserver((all) => { window.touched += all.length; })
                            .observe(block, {childList: true, subtree: true, characterData: true, attributes: true});
                }"""
            )
    fake.done(message)
    ended(page, turn)
    answer = turn.get_by_test_id("answer")
    counts = answer.evaluate(
        "a => Object.fromEntries(['h2', 'strong', 'em', 'li', 'td', 'pre code', 'a', 'img', 'script'].map(t => [t, a.querySelectorAll(t).length]))"
    )
    assert counts == {"h2": 1, "strong": 1, "em": 1, "li": 2, "td": 2, "pre code": 1, "a": 1, "img": 0, "script": 0}
    assert answer.locator("a").get_attribute("rel") == "noopener noreferrer"
    assert "<script>alert(1)</script>" in answer.inner_text()
    assert page.evaluate("() => window.touched") == 0


def test_a_long_answer_stays_smooth(faked):
    def streams(fake, message):
        fake.queued(message)
        fake.send("started", request=message["request"])

    page, fake = faked(ask=streams)
    page.evaluate(
        """() => {
            const send = WebSocket.prototype.send;
            WebSocket.prototype.send = function (data) { window.socket = this; return send.call(this, data); };
        }"""
    )
    turn = ask(page, "A long one.")
    phase(page, turn, "thinking")
    request = fake.asks()[-1]["request"]
    # The main thread's own processor time, so that a busy machine changes nothing.
    clock = page.context.new_cdp_session(page)
    clock.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy():
        metrics = clock.send("Performance.getMetrics")["metrics"]
        return next(m["value"] for m in metrics if m["name"] == "TaskDuration")

    spent = []
    for quarter in range(4):
        before = busy()
        # Through the page's own socket: a test's messages would not keep up.
        page.evaluate(
            """async ([request, event, first]) => {
                for (let i = first; i < first + 1000; i++) {
                    const text = `word${i}` + (i % 50 == 49 ? '\\n\\n' : ' ');
                    const message = {type: 'token', at: 1000, event: event + i, request, index: i, text};
                    window.socket.dispatchEvent(new MessageEvent('message', {data: JSON.stringify(message)}));
                    if (i % 4 === 3) await new Promise(requestAnimationFrame);
                }
            }""",
            [request, fake.event + 1, 1000 * quarter],
        )
        spent.append(busy() - before)
    fake.event += 4000
    fake.done(fake.asks()[-1])
    text = ended(page, turn)
    assert "word0 " in text and "word3999" in text
    # 250 frames of four tokens each: all of a frame's work fits into its 16 ms, and the end costs what the beginning did.
    assert max(spent) / 250 < 0.016, spent
    assert spent[3] < 2 * spent[0] + 0.2, spent


def test_scrolling_sticks_to_the_end_only_at_the_end(faked):
    def streams(fake, message):
        fake.queued(message)
        fake.answer(message, "\n\n".join(f"Line {i}" for i in range(60)), done=False)

    page, fake = faked(ask=streams)
    turn = ask(page, "Many lines.")
    phase(page, turn, "streaming")
    page.get_by_text("Line 59").wait_for()
    place = "() => { const t = document.querySelector('.turns'); return [t.scrollTop, t.scrollHeight - t.clientHeight]; }"
    page.wait_for_function("() => { const t = document.querySelector('.turns'); return t.scrollHeight - t.scrollTop - t.clientHeight < 4; }")
    page.evaluate("() => { document.querySelector('.turns').scrollTop = 40; }")
    page.wait_for_timeout(100)
    request = fake.asks()[-1]["request"]
    fake.tokens(request, "\n\nmore\n\nand more", first=60)
    page.get_by_text("and more").wait_for()
    assert page.evaluate(place)[0] == 40


def test_screen_readers_hear_sentences(faked):
    def streams(fake, message):
        fake.queued(message)
        fake.answer(message, "There are three cats. One is", done=False)

    page, fake = faked(ask=streams)
    turn = ask(page, "How many?")
    phase(page, turn, "streaming")
    page.wait_for_function("() => document.querySelector('[data-testid=said]').innerText.includes('three cats.')")
    assert "One is" not in page.get_by_test_id("said").inner_text()
    fake.tokens(fake.asks()[-1]["request"], " black.", first=10)
    fake.done(fake.asks()[-1])
    page.wait_for_function("() => document.querySelector('[data-testid=said]').innerText.includes('One is black.')")
    assert page.locator("[data-testid=said] p").count() == 2


def test_the_latency_panel(faked):
    page, fake = faked()
    turn = ask(page, "How many?")
    ended(page, turn)
    line = turn.get_by_test_id("latency")
    assert "first word" in line.inner_text()
    assert turn.get_by_test_id("latency-panel").count() == 0
    line.click()
    panel = turn.get_by_test_id("latency-panel").inner_text()
    for word in ("read", "upload", "decode", "look", "prefill", "first word", "median", "p95", "±"):
        assert word in panel, word


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
    page.wait_for_timeout(500)
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
    page.wait_for_timeout(500)
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


def test_copying_works_without_a_secure_context(faked, browser, server):
    page, _ = faked()
    ended(page, ask(page, "How many?"))
    page.evaluate(
        """() => {
            Object.defineProperty(window, 'isSecureContext', {value: false});
            document.addEventListener('copy', () => { window.copied = getSelection().toString() || document.activeElement.value; });
        }"""
    )
    page.get_by_test_id("copy").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("() => window.copied") == "There are three circles."
