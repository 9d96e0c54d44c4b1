"""The line between a browser and the server: a test holds it, cuts it, and lets it go on.

Each has a port of its own, and so for a browser an origin with a storage of its own: tests share browsers and server, and nothing
else.
"""

import socket
import threading


class Frames:
    """What a server says in a WebSocket, frame by frame: RFC 6455, 5.2. It masks nothing."""

    def __init__(self):
        self.came = b""

    def whole(self, piece):
        """Those that are whole now, of which the last bytes are in `piece`."""
        self.came += piece
        while len(self.came) >= 2:
            length, head = self.came[1], 2
            if length >= 126:
                size = 2 if length == 126 else 8
                length, head = int.from_bytes(self.came[2 : 2 + size], "big"), 2 + size
            if len(self.came) < head + length:
                return
            frame, self.came = self.came[: head + length], self.came[head + length :]
            yield frame


class Line:
    def __init__(self, port, address="127.0.0.1"):
        self.port_behind = port
        self.listening = socket.create_server((address, 0))
        self.port = self.listening.getsockname()[1]
        self.url = f"http://{address}:{self.port}/"
        self.moved = threading.Condition()
        # Nothing that the server says in the socket passes from the message on that has this in it.
        self.held = None
        self.open = set()
        self.away = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.port_behind))
            except OSError:
                near.close()
                continue
            with self.moved:
                if self.away:
                    near.close(), far.close()
                    continue
                self.open |= {near, far}
            for one, other, held in ((near, far, False), (far, near, True)):
                threading.Thread(target=self.carry, args=(one, other, held), daemon=True).start()

    def carry(self, one, other, held):
        frames = None
        try:
            while piece := one.recv(65536):
                if held and piece.startswith(b"HTTP/1.1 101"):
                    head, end, piece = piece.partition(b"\r\n\r\n")
                    other.sendall(head + end)
                    frames = Frames()
                for part in [piece] if frames is None else frames.whole(piece):
                    if frames is not None:
                        self.passes(part)
                    other.sendall(part)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self.moved:
            self.open -= {one, other}
        one.close()

    def passes(self, frame):
        """Waits until something that the server says may pass."""
        with self.moved:
            self.moved.wait_for(lambda: self.held is None or self.held not in frame)

    def hold(self, kind=None):
        """From now on nothing of what the server says gets through, or nothing from its next message of this kind on, and nobody
        is told."""
        with self.moved:
            self.held = f'"type":"{kind}"'.encode() if kind else b""

    def release(self):
        with self.moved:
            self.held = None
            self.moved.notify_all()

    def cut(self):
        """All that is open ends."""
        with self.moved:
            ends = list(self.open)
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def leaves(self):
        """The server is away: whoever comes is turned away, and all that is open ends."""
        with self.moved:
            self.away = True
        self.release()
        self.cut()

    def returns(self):
        with self.moved:
            self.away = False

    def close(self):
        self.leaves()
        self.listening.close()
