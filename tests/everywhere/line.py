"""The line between a browser and the server: a test holds it, cuts it, and lets it go on one message at a time.

Each has a port of its own, and so for a browser an origin with a storage of its own: tests share browsers and server, and nothing
else.
"""

import socket
import threading


class Line:
    def __init__(self, port, address="127.0.0.1"):
        self.port_behind = port
        self.listening = socket.create_server((address, 0))
        self.port = self.listening.getsockname()[1]
        self.url = f"http://{address}:{self.port}/"
        self.moved = threading.Condition()
        # What comes from the server: all of it, or as many more pieces as a test lets pass.
        self.allowed = None
        self.waiting = 0
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
        socket_opened = False
        try:
            # Smaller than an answer: so there is always a middle of it.
            while piece := one.recv(256 if socket_opened else 65536):
                if held and socket_opened:
                    self.passes()
                socket_opened |= held and piece.startswith(b"HTTP/1.1 101")
                other.sendall(piece)
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

    def passes(self):
        """Waits until a piece of what the server says in the socket may pass."""
        with self.moved:
            self.waiting += 1
            self.moved.notify_all()
            self.moved.wait_for(lambda: self.allowed is None or self.allowed > 0)
            self.waiting -= 1
            if self.allowed is not None:
                self.allowed -= 1

    def hold(self):
        """From now on nothing of what the server says gets through, and nobody is told."""
        with self.moved:
            self.allowed = 0

    def one(self):
        """One piece more of what is held."""
        with self.moved:
            self.allowed += 1
            self.moved.notify_all()

    def release(self):
        with self.moved:
            self.allowed = None
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
