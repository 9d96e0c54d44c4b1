"""Connections end, servers restart, tabs come and go: no word is lost."""

import re
import signal

from driving import ask, card, ended, give, kept, phase, picture, until


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
    page, fake = faked(ask=lambda f, m: f.queued(m) or f.answer(m, "Three.") if len(f.asks()) > 1 else None)
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
    pings = []
    page, fake = faked(with_picture=False, stopped=True, ping=lambda f, m: pings.append(m) or f.on_ping(m))
    good = page.locator("[data-testid=server-state][data-light=good]")
    fake.time.until(good.count)
    # The pongs of the three pings that a greeting brings are there, and older than what comes.
    fake.time.until(lambda: len(pings) >= 3)
    fake.time.passes(100)
    awake = "() => window.dispatchEvent(new Event('online'))"
    pings.clear()
    fake.answers["ping"] = lambda f, m: pings.append(m)
    page.evaluate(awake)
    until(page, lambda: pings)
    # Not before the two seconds that a pong may take.
    fake.time.passes(1900)
    assert len(fake.sockets) == 1
    late = fake.time.ms
    # The old one's end comes whenever the browser says so, and what follows it may take a turn of the clock.
    fake.time.until(lambda: len(fake.sockets) == 2)
    assert fake.time.ms - late < 2000
    # The pong comes: the connection stays.
    pings.clear()
    fake.answers["ping"] = lambda f, m: pings.append(m) or f.on_ping(m)
    fake.time.until(good.count)
    fake.time.passes(100)
    heard = len(pings)
    page.evaluate(awake)
    until(page, lambda: len(pings) > heard)
    fake.time.passes(2500)
    page.wait_for_timeout(100)
    assert len(fake.sockets) == 2


def quiet(faked):
    """A page whose time stands still, after the pings that a greeting brings; and what tells that it is connected."""
    pings = []
    page, fake = faked(with_picture=False, stopped=True, ping=lambda f, m: pings.append(m) or f.on_ping(m))
    good = page.locator("[data-testid=server-state][data-light=good]")
    fake.time.until(good.count)
    fake.time.until(lambda: len(pings) >= 3)
    # Their answers are older than what comes.
    page.wait_for_timeout(50)
    fake.time.passes(100)
    return page, fake, good


def test_a_silent_network_is_noticed_within_ten_seconds_and_heals(faked):
    page, fake, good = quiet(faked)
    fake.answers["ping"] = lambda f, m: None
    # Nobody tells; the next connection is not let through either.
    fake.answers["hello"] = lambda f, m: None
    silent = fake.time.ms
    fake.time.until(lambda: page.get_by_test_id("lost").count())
    assert fake.time.ms - silent < 10_000
    # The network is back, and nobody tells that either.
    fake.answers.pop("ping")
    fake.answers.pop("hello")
    fake.time.until(lambda: fake.time.passes(500) or good.count())
    fake.time.until(lambda: page.get_by_test_id("lost").count() == 0)


def test_the_browser_says_that_the_network_is_gone(faked):
    page, fake, _ = quiet(faked)
    fake.answers["ping"] = lambda f, m: None
    fake.answers["hello"] = lambda f, m: None
    gone = fake.time.ms
    page.evaluate("() => window.dispatchEvent(new Event('offline'))")
    fake.time.until(lambda: page.get_by_test_id("lost").count())
    assert fake.time.ms - gone < 4_000


def test_back_from_the_cache_of_pages(faked):
    page, fake = faked()
    page.evaluate("() => window.dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    page.evaluate("() => window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    until(page, lambda: len(fake.sockets) == 2)
    assert ended(page, ask(page, "How many?")) == "There are three circles."


def test_a_session_in_another_tab_can_be_had_back(faked):
    page, fake = faked()
    fake.socket.close(code=4001)
    page.get_by_text("goes on in another tab").wait_for()
    page.wait_for_timeout(1000)
    assert len(fake.sockets) == 1
    page.get_by_role("button", name="Use it here").click()
    until(page, lambda: len(fake.sockets) == 2)
    assert ended(page, ask(page, "How many?")) == "There are three circles."


def test_back_again_is_said_and_an_upload_goes_on(faked):
    page, fake = faked(with_picture=False, frame=lambda f, m: None)
    page.locator("[data-testid=server-state][data-light=good]").wait_for()
    data = picture(format="BMP")
    give(page, {"name": "big.bmp", "mimeType": "image/bmp", "buffer": data})
    until(page, lambda: len(fake.picture) >= 3 * 65536)
    had = bytes(fake.picture[: 2 * 65536])

    def again(fake, message):
        fake.bytes = message["bytes"] - len(had)
        fake.picture[:] = had
        fake.send("upload_accepted", upload=message["upload"], received=len(had))

    fake.answers["upload"] = again
    fake.answers.pop("frame")
    fake.socket.close(code=1011)
    page.get_by_text("Back again").wait_for()
    card(page, "ready").wait_for()
    assert bytes(fake.picture) == data
    assert len({m["upload"] for m in fake.heard_of("upload")}) == 1


def test_two_tabs_never_fight(open_page, circles):
    page = open_page()
    give(page, circles)
    card(page, "ready").wait_for()
    ended(page, ask(page, "How many circles are there?"))
    kept(page, 1)
    # A second tab of the same browser, opened from the first: it begins with all that the first keeps.
    with page.context.expect_page() as opening:
        page.evaluate("() => { window.open(location.href); }")
    other = opening.value
    other.get_by_test_id("turn").first.wait_for()
    card(other, "ready").wait_for()
    give(other, {**circles, "name": "two.png", "buffer": picture(circles=2)})
    for tab, right in ((page, r"3|three"), (other, r"2|two")) * 2:
        card(tab, "ready").wait_for()
        assert re.search(right, ended(tab, ask(tab, "How many circles are there?")), re.I)
    for tab in (page, other):
        assert tab.get_by_test_id("server-state").get_attribute("data-light") == "good"


def test_a_server_killed_in_mid_answer_is_asked_again(serve, open_page, circles):
    server = serve()
    server.wait_ready()
    page = open_page(server.url, tolerate=("WebSocket",))
    give(page, circles)
    card(page, "ready").wait_for()
    first = ended(page, ask(page, "How many circles are there?"))
    # Stopped first, so that the question is on its way, unanswered, when the server dies.
    server.process.send_signal(signal.SIGSTOP)
    turn = ask(page, "What colour are they?")
    phase(page, turn, "sent")
    server.process.kill()
    server.process.wait()
    page.get_by_test_id("lost").wait_for()
    serve(port=server.port).wait_ready()
    assert re.search("red", ended(page, turn), re.I)
    assert page.get_by_test_id("answer").first.inner_text() == first
    assert re.search(r"3|three", ended(page, ask(page, "How many circles are there?")), re.I)
