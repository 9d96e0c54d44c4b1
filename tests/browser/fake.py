"""A server of a test's own, in the page's WebSocket: for what a healthy server does seldom."""

import json
import time

LIMITS = {
    "message_bytes": 131072, "text_chars": 8000, "upload_bytes": 33554432, "image_pixels": 120000000,
    "open_uploads": 4, "images": 16, "session_image_bytes": 268435456, "open_requests": 16,
    "max_new_tokens": 4096, "upload_window": 1048576, "outbox_bytes": 4194304, "replay_bytes": 8388608,
    "resume_seconds": 60, "idle_seconds": 120, "upload_idle_seconds": 30, "request_seconds": 300, "stall_seconds": 30,
}
MODEL = {
    "name": "glm-4v-9b", "demo": False, "image_size": 1120, "max_positions": 8192, "device": "cuda:0",
    "dtype": "bf16", "quantization": "none",
}
TIMINGS = {
    "image_wait_ms": 0, "queue_ms": 1, "prefill_ms": 30, "first_token_ms": 40, "decode_ms": 100, "total_ms": 131,
    "tokens_per_second": 50,
}
USAGE = {"prompt_tokens": 1620, "image_tokens": 1602, "cached_tokens": 1604, "completion_tokens": 9}


class Fake:
    """Answers what the page sends; a test overrides what it wants otherwise, by message type."""

    def __init__(self, page, clock=None, **answers):
        """`clock`: a `Time` that the page and this server share; they have clocks of their own without it."""
        self.answers = answers
        self.time = clock
        self.said = []
        self.sockets = []
        self.event = 0
        self.session = "s1"
        self.began = time.monotonic()
        # The picture's bytes as they came, and what the fake says of its size.
        self.picture = bytearray()
        self.size = (640, 480)
        page.route_web_socket("**/ws", self.connected)

    @property
    def socket(self):
        return self.sockets[-1]

    def connected(self, socket):
        self.sockets.append(socket)
        socket.on_message(self.heard)

    def send(self, kind, at=None, **fields):
        if kind not in ("welcome", "pong", "status", "upload_accepted", "upload_progress"):
            self.event += 1
            fields["event"] = self.event
        if at is None:
            at = 1e3 * (time.monotonic() - self.began) if self.time is None else self.time.ms
        self.socket.send(json.dumps({"type": kind, "at": at, **fields}))

    def welcome(self, **fields):
        defaults = {"session": self.session, "protocol": "glimpse.v1", "state": "ready", "model": MODEL, "limits": LIMITS}
        self.send("welcome", **{**defaults, **fields})

    def heard(self, message):
        if isinstance(message, bytes):
            self.picture += message[4:]
            kind, message = "frame", {"bytes": len(message) - 4, "upload": int.from_bytes(message[:4], "big")}
        else:
            message = json.loads(message)
            kind = message["type"]
        if kind not in ("ping", "frame"):
            self.said.append(message)
        answer = self.answers.get(kind) or getattr(self, "on_" + kind, None)
        if answer:
            answer(message) if kind not in self.answers else answer(self, message)

    def on_hello(self, message):
        self.welcome(**({"resumed": True} if message.get("resume") else {}))

    def on_ping(self, message):
        # In the midst of time that passes the page is between what `time` was and what it will be: only the page knows where.
        ahead = self.time and self.time.page_ahead
        self.send("pong", None if ahead is None else message["t"] - ahead, t=message["t"])

    def on_upload(self, message):
        self.bytes = message["bytes"]
        self.picture.clear()
        self.send("upload_accepted", upload=message["upload"], received=0)

    def on_frame(self, message):
        self.bytes -= message["bytes"]
        if self.bytes == 0:
            self.received(message)
            self.ready()

    def received(self, message):
        self.send("upload_received", upload=message["upload"], image="i1", bytes=1, sha256="0" * 64)

    def ready(self):
        self.send("image_ready", image="i1", width=self.size[0], height=self.size[1], format="png",
                  timings={"upload_ms": 1, "decode_ms": 2, "preprocess_ms": 1})
        self.send("image_encoded", image="i1", tokens=1602, timings={"queue_ms": 0, "vision_ms": 90, "prefill_ms": 40})

    def on_ask(self, message):
        self.queued(message)
        self.answer(message, "There are three circles.")

    def queued(self, message, position=0):
        conversation = message.get("conversation", "c1")
        self.send("queued", request=message["request"], conversation=conversation, position=position)

    def answer(self, message, text, reason="stop", done=True):
        request = message["request"]
        self.send("started", request=request)
        self.tokens(request, text)
        if done:
            self.done(message, reason)

    def tokens(self, request, text, first=0):
        words = text.split(" ")
        for i, word in enumerate(words):
            self.send("token", request=request, index=first + i, text=word + (" " if i + 1 < len(words) else ""))

    def done(self, message, reason="stop"):
        self.send("done", request=message["request"], conversation=message.get("conversation", "c1"),
                  finish_reason=reason, usage=USAGE, timings=TIMINGS)

    def fail(self, message, code, text, **fields):
        self.send("error", code=code, message=text, request=message["request"], **fields)

    def heard_of(self, kind):
        """What the page has said of this type."""
        return [m for m in self.said if m["type"] == kind]

    def asks(self):
        return self.heard_of("ask")
