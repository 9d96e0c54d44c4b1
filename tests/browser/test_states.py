"""Every state has a face."""

import pytest

from driving import DESKTOP, PHONE, ask, bring, card, ended, give, phase, until, violations
from screenshots import STATES, show


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


def test_the_model_comes_and_the_page_says_how_far(faked):
    page, fake = faked(with_picture=False, hello=lambda f, m: f.welcome(state="loading"))
    face = page.get_by_test_id("server-face")
    face.wait_for()
    coming = {"bytes": 9_700_000_000, "total": 27_800_000_000}
    fake.send("status", state="loading", progress=0.1, download=coming | {"bytes_per_second": 31_500_000.0})
    face.get_by_text("The model is being downloaded").wait_for()
    face.get_by_text("9.7 GB of 27.8 GB · 31.5 MB/s · 10 min left").wait_for()
    # Of the way, not of the device.
    assert "35 %" in face.inner_text() and "10 %" not in face.inner_text()
    # Nothing comes: no time is promised.
    fake.send("status", state="loading", progress=0.1, download=coming | {"bytes_per_second": 0.0})
    page.get_by_test_id("download").filter(has_not_text="left").wait_for()
    fake.send("status", state="failed", download=coming | {"bytes_per_second": 0.0, "error": "hub_unreachable"})
    face.get_by_text("could not be downloaded").wait_for()
    assert "the next start goes on with it" in face.inner_text()
    fake.send("status", state="loading", progress=0.97)
    face.get_by_text("The model is loading").wait_for()
    assert page.get_by_test_id("download").count() == 0
    fake.send("status", state="ready")
    face.wait_for(state="detached")


def test_a_question_waits_for_the_model_by_itself(faked, circles):
    page, fake = faked(with_picture=False, hello=lambda f, m: f.welcome(state="loading"))
    page.get_by_test_id("server-face").wait_for()
    give(page, circles)
    turn = ask(page, "How many?")
    page.get_by_text("Waiting for the model").wait_for()
    fake.send("status", state="warming")
    page.get_by_text("warming up").first.wait_for()
    assert fake.asks() == []
    # Ready, it says, and then that it is not quite.
    fake.answers["ask"] = lambda f, m: f.fail(m, "loading", "The model is still loading.", retry_after_ms=300)
    fake.send("status", state="ready")
    until(page, lambda: fake.asks())
    fake.answers.pop("ask")
    assert ended(page, turn) == "There are three circles."


def test_no_word_of_a_demo_for_the_real_model(faked):
    page, _ = faked()
    assert page.get_by_test_id("demo").count() == 0
    assert "glm-4v-9b" in page.get_by_test_id("server-state").inner_text()


def test_chinese_by_the_browsers_language_with_a_switch(faked):
    page, _ = faked(with_picture=False, locale="zh-CN")
    page.get_by_text("选择图片").first.wait_for()
    assert page.locator("html").get_attribute("lang") == "zh"
    page.get_by_test_id("language").click()
    page.get_by_text("Choose a picture").first.wait_for()
    page.reload()
    page.get_by_text("Choose a picture").first.wait_for()


def test_dragging_over_shows_where_to_let_go(faked):
    page, _ = faked(with_picture=False)
    here = page.get_by_text("Let go")
    for how, visible in (("dragenter", True), ("dragleave", False), ("dragenter", True)):
        bring(page, how, "x.png")
        here.wait_for(state="visible" if visible else "hidden")


def test_received_uploading_with_percent_and_speed_looking_ready(faked, circles):
    page, fake = faked(with_picture=False, upload=lambda f, m: None, frame=lambda f, m: None)
    page.locator("[data-testid=server-state][data-light=good]").wait_for()
    # Without a connection a picture is received and waits.
    fake.answers["hello"] = lambda f, m: None
    fake.socket.close(code=1011)
    page.get_by_test_id("lost").wait_for()
    give(page, circles)
    card(page, "received").wait_for()
    shown = page.get_by_test_id("picture-card").inner_text()
    assert "Received" in shown and "circles.png" in shown and "KB" in shown
    page.get_by_test_id("preview").wait_for()
    until(page, lambda: len(fake.heard_of("hello")) > 1)
    fake.welcome(resumed=True)
    card(page, "uploading").wait_for()
    number, size = fake.heard_of("upload")[-1]["upload"], fake.heard_of("upload")[-1]["bytes"]
    fake.send("upload_accepted", upload=number, received=0)
    page.wait_for_timeout(120)
    fake.send("upload_progress", upload=number, received=size // 2)
    page.wait_for_function("() => /Uploading (49|50) % · .+\\/s/.test(document.querySelector('[data-testid=picture-phase]').innerText)")
    fake.received({"upload": number})
    card(page, "looking").wait_for()
    fake.ready()
    card(page, "ready").wait_for()


def test_a_server_that_is_full_tells_the_wait(faked):
    def full(fake, message):
        fake.send("error", code="busy", message="The server is full.", retry_after_ms=3000)
        fake.socket.close(code=4429)

    page, fake = faked(with_picture=False, stopped=True, hello=full)
    banner = page.get_by_test_id("refused")
    banner.wait_for()
    assert "The server is full." in banner.inner_text() and "Next try in 3 s." in banner.inner_text()
    fake.time.passes(1100)
    page.get_by_text("Next try in 2 s.").wait_for()
    # It is tried again by itself, and not before.
    fake.answers["hello"] = lambda f, m: f.welcome()
    fake.time.passes(1800)
    page.wait_for_timeout(100)
    assert len(fake.sockets) == 1
    fake.time.until(lambda: len(fake.sockets) == 2)
    banner.wait_for(state="detached")


def test_a_picture_that_the_server_has_lost_is_sent_again(faked):
    def answers(fake, message):
        if len(fake.asks()) == 1:
            return fake.fail(message, "image_gone", "The picture is gone. Send it again.")
        fake.queued(message)
        fake.answer(message, "Three.")

    page, fake = faked(ask=answers)
    turn = ask(page, "How many?")
    phase(page, turn, "failed")
    turn.get_by_test_id("try-again").click()
    assert ended(page, page.get_by_test_id("turn").last) == "Three."
    assert len(fake.heard_of("upload")) == 2
    assert "image" in fake.asks()[1] or "upload" in fake.asks()[1]


@pytest.mark.parametrize("name", STATES)
def test_every_face_can_be_used_by_everyone(browser, server, name):
    """No rule of axe-core is broken and nothing moves on its own, in any state, light or dark, desktop or phone."""
    context = browser.new_context(viewport=DESKTOP, reduced_motion="reduce", locale="en-US")
    page = context.new_page()
    page.set_default_timeout(60_000)
    show(page, server.url, name)
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            assert violations(page) == [], (viewport, scheme)
    endless = "() => document.getAnimations().filter((a) => a.effect.getComputedTiming().activeDuration > 20).length"
    assert page.evaluate(endless) == 0
    overflow = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0
    context.close()
