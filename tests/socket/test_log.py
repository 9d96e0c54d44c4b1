"""What whoever runs the server reads of a question, and what not."""

import hashlib
import json


def test_lines_have_the_request_and_nothing_of_what_was_said(serve, connect, scene):
    server = serve("--log-format", "json", "--log", "debug")
    server.wait_ready()
    client = connect(server.ws)
    session = client.session
    client.upload(1, scene(), name="unspeakable.jpg")
    client.ask("q-1", "How many unmistakable circles are there?", upload=1)
    client.done("q-1")
    client.send(type="ask", request="q-2", text="And now?", image="none")
    client.error("unknown_image")
    answer = client.answer("q-1").strip()
    server.stop()

    text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    tag = hashlib.sha256(session.encode()).hexdigest()[:8]
    (answered,) = [line["fields"] for line in lines if line["fields"].get("message") == "answered"]
    assert answered["request"] == '"q-1"' and answered["session"] == tag
    stages = {"request", "queue", "prefill", "decode", "picture", "upload", "encode"}
    for moment in ("new", "close"):
        told = [line for line in lines if line["fields"].get("message") == moment]
        assert stages <= {line["span"]["name"] for line in told}
        for line in told:
            assert line["span"]["session"] == tag
            assert line["span"].get("request", '"q-1"') == '"q-1"'
    for secret in (session, "unmistakable", "unspeakable", answer):
        assert secret not in text
