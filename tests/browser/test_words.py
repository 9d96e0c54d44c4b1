"""Words arrive, nothing else moves; where the time went; words taken away."""

import json
import re

from driving import ask, ended, phase
from fake import TIMINGS, USAGE


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
    # One number, and nothing else.
    assert re.fullmatch(r"[\d.]+ m?s", line.inner_text().strip())
    assert turn.get_by_test_id("latency-panel").count() == 0
    # However little room there is for all of it, what it says first is seen.
    page.set_viewport_size({"width": 1280, "height": 560})
    line.click()
    above = "e => e.closest('.turns').getBoundingClientRect().top - e.getBoundingClientRect().top"
    page.wait_for_function("() => document.querySelector('.turns').scrollTop > 0")
    assert turn.get_by_test_id("most-of-it").evaluate(above) <= 0
    panel = turn.get_by_test_id("latency-panel").inner_text()
    words = ("read", "upload", "decode", "preprocess", "wait", "look", "prefill", "first word", "median", "p95", "±", "the server", "most of it")
    # Nine tokens tell nothing of a rate.
    assert "per second" not in panel
    for word in words:
        assert word in panel, word
    # As JSON, on the clipboard.
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    turn.get_by_test_id("copy-json").click()
    page.get_by_text("Copied", exact=True).wait_for()
    told = json.loads(page.evaluate("() => navigator.clipboard.readText()"))
    assert told["question"] == "How many?" and told["first_word_ms"] > 0 and told["clock_uncertainty_ms"] >= 0
    assert {"look", "decode", "upload"} <= {span["span"] for span in told["picture"]}
    assert told["session"]["answers"] == 1


def test_a_wait_is_drawn_where_it_was(faked):
    def begins(fake, message):
        fake.queued(message)
        fake.send("started", request=message["request"])

    page, fake = faked(stopped=True, ask=begins)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    # It asks whether the server is still there, while no time passes: that joins the clocks to the millisecond.
    page.evaluate("() => window.dispatchEvent(new Event('online'))")
    asked = fake.time.ms
    turn = ask(page, "How many?")
    phase(page, turn, "thinking")
    request = fake.asks()[-1]["request"]
    fake.time.passes(300)
    fake.tokens(request, "One")
    # Drawn in the next frame.
    fake.time.until(lambda: turn.get_by_test_id("answer").inner_text() == "One")
    fake.time.passes(200)
    answered = fake.time.ms - asked
    fake.send("done", request=request, conversation="c1", finish_reason="stop", usage=USAGE,
              timings={**TIMINGS, "queue_ms": 10, "prefill_ms": 280, "first_token_ms": 300, "decode_ms": 210, "total_ms": 510})
    fake.time.until(lambda: turn.get_attribute("data-phase") == "done")
    fake.time.until(turn.get_by_test_id("latency").count)
    turn.get_by_test_id("latency").click()
    fake.time.until(turn.get_by_test_id("copy-json").count)
    turn.get_by_test_id("copy-json").click()
    fake.time.until(page.get_by_text("Copied", exact=True).count)
    told = json.loads(page.evaluate("() => navigator.clipboard.readText()"))
    spans = {span["span"]: span for span in told["answer"]}
    # The server's clock is joined to the page's: what the server measured lies where the page saw it.
    first = spans["first word"]["end_ms"]
    assert abs(first - 300) <= 1 and first <= told["first_word_ms"] + 1
    assert spans["prefill"]["end_ms"] - spans["prefill"]["begin_ms"] == 280
    assert spans["write"]["begin_ms"] == first and first + 190 <= spans["write"]["end_ms"] <= answered + 1


def test_copying_works_without_a_secure_context(faked):
    page, _ = faked()
    ended(page, ask(page, "How many?"))
    page.evaluate(
        """() => {
            Object.defineProperty(navigator, 'clipboard', {value: undefined});
            document.addEventListener('copy', () => { window.copied = getSelection().toString() || document.activeElement.value; });
        }"""
    )
    page.get_by_test_id("copy").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("() => window.copied") == "There are three circles."


def test_copied_is_said_only_when_it_is_true(faked):
    page, _ = faked()
    turn = ask(page, "How many?")
    ended(page, turn)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    turn.get_by_test_id("copy").click()
    page.get_by_text("Copied", exact=True).wait_for()
    assert page.evaluate("() => navigator.clipboard.readText()") == "There are three circles."
    # The browser refuses the new way: the old one steps in. It refuses both: that is said, and nothing else.
    page.evaluate(
        """() => {
            navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError'));
            window.old = [];
            document.execCommand = (what) => { window.old.push([what, document.activeElement.value]); return window.works; };
        }"""
    )
    for works, word in ((True, "Copied"), (False, "did not let me copy")):
        page.evaluate("works => { window.works = works; }", works)
        turn.get_by_test_id("copy").click()
        page.wait_for_function("n => window.old.length === n", arg=1 if works else 2)
        page.get_by_text(word).last.wait_for()
    assert page.evaluate("() => window.old") == [["copy", "There are three circles."]] * 2
    assert page.get_by_text("Copied", exact=True).count() == 0


def test_what_was_cut_short_stays_as_it_was_drawn(faked):
    def cut(fake, message):
        fake.queued(message)
        fake.answer(message, "Some **bold words", "length")

    page, _ = faked(ask=cut)
    turn = ask(page, "Tell me.")
    phase(page, turn, "length")
    page.wait_for_function("() => document.querySelector('[data-testid=answer] strong')?.innerText === 'bold words'")
    assert "*" not in turn.get_by_test_id("answer").inner_text()
