"""What replaces or deletes can be taken back for eight seconds, and until then nobody is told."""

from driving import COUNT, ask, bring, card, ended, give, kept, phase, picture, until

BEFORE = 7500
AFTER = 1000


def question(page, at=0):
    return page.get_by_test_id("turn").nth(at).get_by_test_id("question-text").inner_text()


def answer(page, at=0):
    return page.get_by_test_id("turn").nth(at).get_by_test_id("answer").inner_text()


def undo(page):
    page.get_by_test_id("undo").get_by_role("button", name="Undo").last.click()


def focused(page):
    return page.evaluate("() => document.activeElement.dataset.testid || document.activeElement.tagName")


def streams(fake, message):
    fake.queued(message)
    fake.answer(message, "Half a", done=False)


def stopped(faked, **answers):
    """A page whose time stands still, with an answered question."""
    page, fake = faked(stopped=True, **answers)
    page.get_by_test_id("question").fill("How many?")
    page.get_by_test_id("question").press("Enter")
    fake.time.until(lambda: page.locator("[data-testid=turn][data-phase=done]").count())
    fake.time.until(lambda: page.get_by_test_id("answer").inner_text())
    return page, fake


def test_a_conversation_that_was_left_comes_back_with_the_answer_that_went_on(faked):
    page, fake = faked(ask=streams)
    phase(page, ask(page, "How many?"), "streaming")
    for leave in (lambda: page.get_by_test_id("new").click(), lambda: bring(page, "drop", "two.png", data=picture(circles=2))):
        leave()
        page.get_by_test_id("undo").wait_for()
        assert page.get_by_test_id("turn").count() == 0
        # Nobody was told, so the answer goes on.
        assert fake.heard_of("cancel") == []
        fake.tokens(fake.asks()[-1]["request"], " more", first=fake.event)
        undo(page)
        page.get_by_test_id("turn").wait_for()
        assert focused(page) == "question"
        assert "circles.png" in page.get_by_test_id("picture-card").inner_text()
    page.get_by_test_id("answer").get_by_text("Half a more more").wait_for()
    fake.done(fake.asks()[-1])
    ended(page, page.get_by_test_id("turn").first)
    # What it was left for is put away in turn.
    undo(page)
    page.wait_for_function("() => document.querySelector('[data-testid=picture-card]').innerText.includes('two.png')")


def test_after_eight_seconds_the_server_is_told(faked):
    page, fake = stopped(faked)
    fake.answers["ask"] = streams
    page.get_by_test_id("question").fill("And now?")
    page.get_by_test_id("question").press("Enter")
    fake.time.until(lambda: page.locator("[data-testid=turn][data-phase=streaming]").count())
    page.get_by_test_id("new").click()
    fake.time.passes(BEFORE)
    assert fake.heard_of("cancel") == []
    assert page.get_by_test_id("undo").count() == 1
    fake.time.passes(AFTER)
    until(page, lambda: fake.heard_of("cancel"))
    assert fake.heard_of("cancel") == [{"type": "cancel", "request": fake.asks()[-1]["request"]}]
    fake.time.until(lambda: page.get_by_test_id("undo").count() == 0)


def test_whoever_is_at_it_has_all_the_time(faked):
    page, fake = stopped(faked)
    page.get_by_test_id("new").click()
    fake.time.until(lambda: page.get_by_test_id("undo").count())
    # By the keys: it stands before the question.
    page.get_by_test_id("question").focus()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("() => document.activeElement.innerText") == "Undo"
    fake.time.passes(3 * (BEFORE + AFTER))
    page.keyboard.press("Enter")
    fake.time.until(lambda: page.get_by_test_id("turn").count())
    assert focused(page) == "question"


def test_versions_of_a_question_and_what_stands_behind_each(faked):
    def numbered(fake, message):
        fake.queued(message)
        fake.answer(message, f"Answer {len(fake.asks())}.")

    page, fake = faked(ask=numbered)
    ended(page, ask(page, "First?"))
    ended(page, ask(page, "Second?"))
    # Asked again: another version, and what stood behind the first stays with it.
    page.get_by_test_id("turn").first.hover()
    page.get_by_test_id("turn").first.get_by_test_id("regenerate").click()
    page.get_by_test_id("answer").get_by_text("Answer 3.").wait_for()
    assert page.get_by_test_id("turn").count() == 1
    assert page.get_by_test_id("version").inner_text() == "2/2"
    assert fake.asks()[-1]["history"] == []
    # Edited, over several lines.
    page.get_by_test_id("turn").hover()
    page.get_by_test_id("edit").click()
    field = page.get_by_test_id("edit-text")
    assert field.evaluate("e => e.tagName") == "TEXTAREA"
    field.press("End")
    field.press("Shift+Enter")
    field.press_sequentially("In words.")
    field.press("Enter")
    page.get_by_test_id("answer").get_by_text("Answer 4.").wait_for()
    assert fake.asks()[-1]["text"] == "First?\nIn words."
    assert question(page) == "First?\nIn words."
    assert page.get_by_test_id("version").inner_text() == "3/3"
    assert focused(page) == "question"
    # Back to the first, with the second question behind it; the cursor stays at the buttons.
    for number in ("2/3", "1/3"):
        page.get_by_test_id("version-before").click()
        page.wait_for_function("n => document.querySelector('[data-testid=version]').innerText === n", arg=number)
        page.wait_for_function("() => document.activeElement.dataset.testid?.startsWith('version-')")
    assert [question(page, i) for i in (0, 1)] == ["First?", "Second?"]
    assert [answer(page, i) for i in (0, 1)] == ["Answer 1.", "Answer 2."]
    # The next question is asked where the person is.
    ended(page, ask(page, "Third?"))
    told = [turn["answer"] for turn in fake.asks()[-1]["history"]]
    assert told == ["Answer 1.", "Answer 2."]
    # All of it is kept.
    kept(page, 5)
    page.reload()
    page.get_by_test_id("answer").get_by_text("Answer 5.").wait_for()
    assert page.get_by_test_id("version").inner_text() == "1/3"
    page.get_by_test_id("version-after").click()
    page.get_by_test_id("answer").get_by_text("Answer 3.").wait_for()


def test_asking_again_is_taken_back(faked):
    page, fake = faked()
    ended(page, ask(page, "First?"))
    ended(page, ask(page, "Second?"))
    fake.answers["ask"] = streams
    page.get_by_test_id("turn").first.hover()
    page.get_by_test_id("turn").first.get_by_test_id("regenerate").click()
    page.get_by_test_id("answer").get_by_text("Half a").wait_for()
    undo(page)
    page.wait_for_function("() => document.querySelectorAll('[data-testid=turn]').length === 2")
    assert [question(page, i) for i in (0, 1)] == ["First?", "Second?"]
    assert page.get_by_test_id("version").count() == 0
    # What was asked again is not wanted any more.
    until(page, lambda: fake.heard_of("cancel"))
    assert fake.heard_of("cancel")[0]["request"] == fake.asks()[-1]["request"]


def test_an_edit_stops_nothing_before_its_eight_seconds(faked):
    page, fake = stopped(faked)
    fake.answers["ask"] = streams
    page.get_by_test_id("question").fill("And now?")
    page.get_by_test_id("question").press("Enter")
    fake.time.until(lambda: page.locator("[data-testid=turn][data-phase=streaming]").count())
    old = fake.asks()[-1]["request"]
    page.get_by_test_id("turn").last.hover()
    page.get_by_test_id("turn").last.get_by_test_id("edit").click()
    fake.time.until(lambda: page.get_by_test_id("edit-text").count())
    page.get_by_test_id("edit-text").fill("And then?")
    page.get_by_test_id("edit-send").click()
    # It does not wait for the other's end: it is a conversation of its own.
    until(page, lambda: len(fake.asks()) == 3)
    assert "conversation" not in fake.asks()[-1] and fake.asks()[-1]["image"] == "i1"
    assert [turn["question"] for turn in fake.asks()[-1]["history"]] == ["How many?"]
    fake.time.passes(BEFORE)
    assert fake.heard_of("cancel") == []
    fake.time.passes(AFTER)
    until(page, lambda: fake.heard_of("cancel"))
    assert fake.heard_of("cancel") == [{"type": "cancel", "request": old}]


def test_a_deleted_conversation_leaves_the_page_and_can_be_had_back(faked):
    page, fake = stopped(faked)
    until(page, lambda: len(page.evaluate(COUNT)) == 1)
    page.get_by_test_id("history").click()
    fake.time.until(lambda: page.get_by_test_id("kept").count())
    page.get_by_role("button", name="Delete: How many?").click()
    fake.time.until(lambda: page.get_by_test_id("deleted").count())
    fake.time.until(lambda: page.evaluate("() => document.activeElement.innerText") == "Undo")
    assert page.get_by_test_id("turn").count() == 0
    page.keyboard.press("Enter")
    fake.time.until(lambda: page.get_by_test_id("kept").count())
    assert page.get_by_test_id("turn").count() == 1
    # Not taken back it is gone for good: nothing that goes on here brings it back.
    page.get_by_role("button", name="Delete: How many?").click()
    fake.time.until(lambda: page.get_by_test_id("deleted").count())
    page.keyboard.press("Escape")
    fake.time.passes(BEFORE)
    assert len(page.evaluate(COUNT)) == 1 and fake.heard_of("forget") == []
    fake.time.passes(AFTER)
    until(page, lambda: page.evaluate(COUNT) == [])
    assert {"type": "forget", "conversation": "c1"} in fake.heard_of("forget")
    assert {"type": "forget", "image": "i1"} in fake.heard_of("forget")


def test_clearing_asks_first_and_can_be_taken_back(faked):
    page, fake = faked()
    ended(page, ask(page, "How many?"))
    kept(page, 1)
    page.get_by_test_id("settings").click()
    page.get_by_test_id("clear-all").click()
    page.get_by_test_id("clear-sure").wait_for()
    # The cursor is where nothing happens.
    page.wait_for_function("() => document.activeElement.innerText === 'Keep them'")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.dataset.testid === 'clear-all'")
    page.keyboard.press("Enter")
    page.get_by_test_id("clear-yes").click()
    page.get_by_test_id("drop-zone").wait_for()
    assert fake.heard_of("forget") == []
    undo(page)
    assert question(page) == "How many?"
    page.get_by_test_id("history").click()
    page.get_by_test_id("kept").wait_for()
