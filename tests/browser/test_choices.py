"""What a person sets, and what keys do anywhere on the page."""

from driving import COUNT, ask, card, ended, give, phase, until
from fake import MODEL


def background(page):
    return page.evaluate("() => getComputedStyle(document.body).backgroundColor")


def test_light_or_dark_is_the_persons_choice_and_stays(faked):
    page, _ = faked(with_picture=False)
    light = background(page)
    page.get_by_test_id("settings").click()
    page.get_by_text("Dark", exact=True).click()
    until(page, lambda: background(page) != light)
    dark = background(page)
    page.reload()
    until(page, lambda: background(page) == dark)
    page.get_by_test_id("settings").click()
    page.get_by_test_id("reset").click()
    until(page, lambda: background(page) == light)
    assert page.get_by_test_id("reset").is_disabled()


def test_top_p_goes_with_the_question(faked):
    page, fake = faked()
    page.get_by_test_id("settings").click()
    page.get_by_test_id("top-p").fill("0.4")
    page.get_by_test_id("top-p").press("Tab")
    page.keyboard.press("Escape")
    ended(page, ask(page, "How many?"))
    assert fake.asks()[-1]["sampling"] == {"top_p": 0.4}


def placeholders(page):
    return [page.get_by_test_id(name).get_attribute("placeholder") for name in ("temperature", "top-p", "max-tokens")]


def test_what_holds_without_a_choice_stands_in_the_fields(faked):
    page, fake = faked(
        with_picture=False,
        hello=lambda f, m: f.welcome(sampling={"temperature": 0.8, "top_p": 0.75, "top_k": 50, "max_new_tokens": 1024}),
    )
    page.get_by_test_id("settings").click()
    until(page, lambda: placeholders(page) == ["0.8", "0.75", "1024"])
    # It is shown, and not asked for.
    assert page.get_by_test_id("temperature").input_value() == ""
    # A server that doesn't say, or whose model still comes: until it is there.
    fake.welcome(state="loading")
    until(page, lambda: placeholders(page) == 3 * ["model's own"])
    sampling = {"temperature": 0.5, "top_p": 0.25, "max_new_tokens": 512}
    fake.send("status", state="ready", sampling=sampling, model={**MODEL, "demo": True})
    until(page, lambda: placeholders(page) == ["0.5", "0.25", "512"])
    page.keyboard.press("Escape")
    page.get_by_test_id("demo").wait_for()


def test_the_system_prompt_goes_with_the_picture_and_the_question_and_is_kept(faked, circles):
    page, fake = faked(with_picture=False)
    page.get_by_test_id("settings").click()
    page.get_by_test_id("system").fill("Answer in one word.\nIn French.")
    page.keyboard.press("Escape")
    give(page, circles)
    card(page, "ready").wait_for()
    words = "Answer in one word.\nIn French."
    assert fake.heard_of("upload")[-1]["system"] == words
    ended(page, ask(page, "How many?"))
    assert fake.asks()[-1]["system"] == words
    systems = COUNT.replace("c.id", "JSON.parse(c.turns).map((turn) => turn.system)")
    until(page, lambda: page.evaluate(systems) == [[words]])
    # Without one the server is told so, since it would go on with what it has.
    page.get_by_test_id("settings").click()
    assert page.get_by_test_id("system").input_value() == words
    page.get_by_test_id("reset").click()
    page.keyboard.press("Escape")
    ended(page, ask(page, "And now?"))
    assert fake.asks()[-1]["system"] == ""


def test_what_might_be_asked_fits_picture_and_checkpoint(faked, circles):
    page, _ = faked(with_picture=False)
    give(page, {**circles, "name": "Screenshot 2026-05-01.png"})
    card(page, "ready").wait_for()
    first = page.get_by_test_id("suggestion").first
    assert first.inner_text() == "What does this screen show?"
    first.click()
    page.get_by_test_id("turn").wait_for()
    assert page.get_by_test_id("suggestion").count() == 0


def test_keys_are_listed_and_what_is_typed_anywhere_goes_to_the_question(faked):
    page, _ = faked()
    page.get_by_test_id("history").focus()
    page.keyboard.press("?")
    page.get_by_test_id("keys").wait_for()
    page.keyboard.press("Escape")
    until(page, lambda: page.get_by_test_id("keys").count() == 0)
    page.get_by_test_id("history").focus()
    page.keyboard.type("How many?")
    assert page.get_by_test_id("question").input_value() == "How many?"
    # Within a field every key is its own.
    page.keyboard.press("?")
    assert page.get_by_test_id("question").input_value() == "How many??"
    page.keyboard.press("Control+k")
    page.get_by_test_id("search").wait_for()


# A browser that is busy draws its next frame whenever it comes to it.
HOLD = """() => {
    window.held = [];
    window.drawn = window.requestAnimationFrame;
    window.requestAnimationFrame = (then) => window.held.push(then);
}"""
DRAW = """() => {
    window.requestAnimationFrame = window.drawn;
    for (const then of window.held.splice(0)) then(performance.now());
}"""


def test_what_is_closed_before_the_next_frame_is_not_missed_by_it(faked):
    page, _ = faked()
    page.get_by_test_id("settings").click()
    page.get_by_test_id("clear-all").wait_for()
    page.evaluate(HOLD)
    page.get_by_test_id("clear-all").click()
    page.get_by_test_id("clear-sure").wait_for()
    page.keyboard.press("Escape")
    page.get_by_test_id("clear-sure").wait_for(state="detached")
    page.get_by_test_id("enlarge").click()
    page.get_by_test_id("stage").wait_for()
    page.keyboard.press("Escape")
    page.get_by_test_id("stage").wait_for(state="detached")
    assert page.evaluate("() => window.held.length") >= 2
    page.evaluate(DRAW)
    assert ended(page, ask(page, "How many?")) == "There are three circles."


def test_the_latest_is_one_click_away(faked):
    def streams(fake, message):
        fake.queued(message)
        fake.answer(message, "\n\n".join(f"Line {i}" for i in range(60)), done=False)

    page, fake = faked(ask=streams)
    phase(page, ask(page, "Many lines."), "streaming")
    page.get_by_text("Line 59").wait_for()
    assert page.get_by_test_id("latest").count() == 0
    page.evaluate("() => { document.querySelector('.turns').scrollTop = 40; }")
    page.get_by_test_id("latest").click()
    until(page, lambda: page.evaluate(
        "() => { const t = document.querySelector('.turns'); return t.scrollHeight - t.scrollTop - t.clientHeight < 4; }"))
    until(page, lambda: page.get_by_test_id("latest").count() == 0)
    # The view follows again.
    fake.tokens(fake.asks()[-1]["request"], "\n\nand more", first=200)
    page.get_by_text("and more").wait_for()
    until(page, lambda: page.evaluate(
        "() => { const t = document.querySelector('.turns'); return t.scrollHeight - t.scrollTop - t.clientHeight < 4; }"))
    assert page.evaluate("() => document.activeElement !== document.body")
    # Whoever reads in what came last is there already; from another turn it is one click again.
    fake.done(fake.asks()[-1])
    page.get_by_test_id("regenerate").wait_for()
    page.evaluate("() => { document.querySelector('.turns').scrollTop = 40; }")
    until(page, lambda: page.get_by_test_id("latest").count() == 0)
    phase(page, ask(page, "More lines."), "streaming")
    fake.done(fake.asks()[-1])
    page.get_by_test_id("regenerate").nth(1).wait_for()
    page.evaluate("() => { document.querySelector('.turns').scrollTop = 40; }")
    page.get_by_test_id("latest").wait_for()


def test_formulas_and_code_are_drawn_and_copied(faked):
    text = "So \\(a^2\\), and\n\n$$\\frac{1}{2}$$\n\nfor $5 and $10.\n\n```python\nx = 1\n```\n\n- [x] done"
    page, fake = faked(ask=lambda f, m: (f.queued(m), f.answer(m, text)))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    turn = ask(page, "Why?")
    ended(page, turn)
    answer = turn.get_by_test_id("answer")
    answer.locator("math").first.wait_for()
    assert answer.locator("math").count() == 2
    assert answer.evaluate("a => a.querySelector('math').namespaceURI").endswith("MathML")
    assert answer.locator("[style]").count() == 0
    words = answer.inner_text()
    assert "$5 and $10" in words and "☑ done" in words
    turn.locator(".code > button").click()
    page.get_by_text("Copied", exact=True).wait_for()
    assert page.evaluate("() => navigator.clipboard.readText()") == "x = 1\n"


def test_an_answer_stands_there_before_what_draws_it_is_loaded(faked):
    waiting = []
    page, fake = faked(routes={"**/glimpse-page-extras*.wasm": lambda route: waiting.append(route)})
    turn = ask(page, "How many?")
    assert ended(page, turn) == "There are three circles."
    assert turn.locator("[data-testid=answer] p").count() == 0
    until(page, lambda: waiting)
    # Its words never go, not even for the moment between two frames.
    page.evaluate(
        """() => {
            const answer = document.querySelector('[data-testid=answer]');
            window.words = new Set();
            new MutationObserver(() => window.words.add(answer.textContent)).observe(answer, {childList: true, subtree: true});
        }"""
    )
    for route in waiting:
        route.continue_()
    turn.locator("[data-testid=answer] p").wait_for()
    assert page.evaluate("() => [...window.words]") == ["There are three circles."]
    assert turn.get_by_test_id("answer").inner_text() == "There are three circles."
