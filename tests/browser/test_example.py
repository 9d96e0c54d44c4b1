"""The example for programs in a browser, run as its first line says."""

import functools
import http.server
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
PICTURE = ROOT / "public/samples/animals.jpg"
QUESTION = "How many cats are there?"


def test_browser(serve, browser, binary):
    """The same file as Node's, in a page that is not the server's own."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=EXAMPLES / "javascript"))
    threading.Thread(target=files.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{files.server_port}"
    server = serve("--allow-origin", origin)
    server.wait_ready()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"{origin}/ask.html")
        page.get_by_label("Server").fill(server.ws)
        page.get_by_label("Picture").set_input_files(PICTURE)
        page.get_by_label("Question").fill(QUESTION)
        page.get_by_role("button", name="Ask", exact=True).click()
        page.wait_for_function("() => /done|failed/.test(document.querySelector('output').dataset.state)", timeout=60_000)
        said = page.locator("output").inner_text().strip()
        alone = [binary, "generate", "--image", PICTURE, "--prompt", QUESTION, "--greedy"]
        assert said == subprocess.run(alone, capture_output=True, text=True, timeout=120, check=True).stdout.strip()
    finally:
        context.close()
        files.shutdown()
