"""Asks Glimpse about a picture and prints the answer as it comes.

    pip install websockets
    python ask.py harbour.jpg 'How many boats are there?' [ws://127.0.0.1:8080/ws]

An API key goes into GLIMPSE_API_KEY.
"""

import asyncio
import json
import os
import struct
import sys
from pathlib import Path

# Not `websockets.sync`: its threads share a TLS connection, on which a message may get lost.
from websockets.asyncio.client import connect

PIECE = 64 * 1024


async def ask(url, picture, question, key=None):
    """Yields the answer in pieces."""
    headers = {"Authorization": f"Bearer {key}"} if key else None
    async with connect(url, subprotocols=["glimpse.v1"], additional_headers=headers) as socket:
        welcome = json.loads(await socket.recv())
        data = Path(picture).read_bytes()
        await socket.send(json.dumps({"type": "upload", "upload": 1, "bytes": len(data)}))
        # The question need not wait for the picture, nor the picture for the question.
        await socket.send(json.dumps({"type": "ask", "request": "1", "text": question, "upload": 1}))
        received = 0
        for at in range(0, len(data), PIECE):
            piece = data[at : at + PIECE]
            # No more than a window ahead of what the server has.
            while at + len(piece) > received + welcome["limits"]["upload_window"]:
                message = json.loads(await socket.recv())
                if message["type"] == "upload_progress":
                    received = message["received"]
                elif message["type"] == "error":
                    raise SystemExit(message["message"])
            await socket.send(struct.pack(">I", 1) + piece)
        async for frame in socket:
            message = json.loads(frame)
            if message["type"] == "token":
                yield message["text"]
            elif message["type"] == "done":
                # Leaving the `with` closes with 1000, which ends the session.
                return
            elif message["type"] == "error":
                raise SystemExit(message["message"])


async def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    picture, question, *rest = sys.argv[1:]
    url = rest[0] if rest else "ws://127.0.0.1:8080/ws"
    async for piece in ask(url, picture, question, os.environ.get("GLIMPSE_API_KEY")):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(main())
