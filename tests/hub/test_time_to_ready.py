"""The tools with which it is measured how soon a model is ready that has just come."""

import signal
import subprocess
import sys

from caches import NAME, ROOT

TOOLS = ROOT / "tests/hub"


def test_a_folder_is_served_and_the_time_is_told(machine):
    folder = ROOT / "tests/data/checkpoints/two-groups-bf16"
    hub = subprocess.Popen([sys.executable, TOOLS / "serve_folder.py", folder, "0"], stdout=subprocess.PIPE, text=True)
    try:
        url = hub.stdout.readline().strip()
        server = machine.start("serve", "--model", NAME, "--device", "cpu", "--listen", "127.0.0.1:0", HF_ENDPOINT=url)
        try:
            line = server.stdout.readline()
            assert "http://" in line, line + server.stderr.read()
            told = subprocess.run([sys.executable, TOOLS / "time_to_ready.py", line.split()[-1]], capture_output=True, text=True, timeout=300)
            # So small a model may all be there before it is asked for the first time.
            assert told.returncode == 0 and "ready" in told.stdout, told.stdout + told.stderr
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)
    finally:
        hub.kill()
        hub.wait()
