#!/usr/bin/env python3
"""How long a server takes from its model's last byte until it is ready.

    tests/hub/time_to_ready.py http://127.0.0.1:8080

Asks /readyz fifty times a second, from before it listens until it is ready; exit status 1 if it fails. Needs nothing but Python."""

import json
import sys
import time
import urllib.error
import urllib.request


def stands(address: str) -> dict | None:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as not_ready:
        return json.load(not_ready)
    except OSError:
        return None


def main() -> int:
    address, began = sys.argv[1], time.monotonic()
    came = loaded = None
    while True:
        now, at = stands(address), time.monotonic() - began
        if now:
            download = now["download"]
            if download:
                came, bytes_ = at, download["total"]
                loaded = now["progress"]
            if now["state"] == "failed":
                print(now["error"])
                return 1
            if now["state"] == "ready":
                if came is None:
                    print(f"ready after {at:.2f} s; nothing had to come")
                else:
                    print(
                        f"{bytes_ / 1e9:.1f} GB had come after {came:.2f} s, {loaded or 0:.0%} of it on the device by then; "
                        f"ready {at - came:.2f} s later"
                    )
                return 0
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
