"""A server that dies in the middle of a question, and another in its place: the page goes on by itself."""

import signal

from driving import ask, ended, give


def test_a_killed_server_costs_no_word(serve, open_page, circles):
    server = serve()
    server.wait_ready()
    # What the browser itself says of a connection that broke is no fault of the page.
    page = open_page(server.url, tolerate=("WebSocket", "ERR_CONNECTION"))
    give(page, circles)
    first = ask(page, "How many circles are there?")
    said = ended(page, first)
    # It hears the next question no more.
    server.process.send_signal(signal.SIGSTOP)
    second = ask(page, "What colour are they?")
    server.process.kill()
    server.process.wait()
    again = serve(port=server.port)
    again.wait_ready()
    # The new server knows neither session nor picture: the page sends the picture and what was said, and asks again.
    assert "red" in ended(page, second).lower()
    assert first.get_by_test_id("answer").inner_text() == said
    assert page.get_by_test_id("turn").count() == 2
