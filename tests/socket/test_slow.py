"""Clients that read or send slowly, or not at all, over plain HTTP: each costs little and goes soon, and nobody else
notices."""

import http.client
import json
import socket
import ssl
import time

import pytest
from certificates import self_signed
from websockets.sync.client import connect as open_socket

# Where others come from: an address of this machine that is not the attackers'.
OTHERS = ("127.0.0.2", 0)


def get(server, path):
    """Status and body, for somebody else."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60, source_address=OTHERS)
    connection.request("GET", path, headers={"Connection": "close"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def biggest(server) -> tuple[str, int]:
    """The page's biggest file: its path and its size."""
    page = get(server, "/")[1].decode().replace("'", '"')
    names = {"/" + word.lstrip("./") for word in page.split('"') if word.endswith(".wasm")}
    assert names, "the page was not built into this binary"
    return max(((name, len(get(server, name)[1])) for name in names), key=lambda each: each[1])


def resident(server) -> int:
    status = open(f"/proc/{server.process.pid}/status").read()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def kernel(server) -> list[int]:
    """Of each of the server's connections, whoever still has it: bytes that the kernel has not delivered."""
    queues = []
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        fields = line.split()
        port, state = int(fields[1].split(":")[1], 16), int(fields[3], 16)
        # Neither the listener nor what only waits for the client's own end.
        if port == server.port and state not in (0x0A, 0x03, 0x05, 0x06):
            queues.append(int(fields[4].split(":")[0], 16))
    return queues


def dial(port: int) -> socket.socket:
    """A connection that takes in little."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    return connection


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def others_are_served(server, path: str, size: int) -> None:
    assert get(server, "/healthz")[0] == 200
    status, body = get(server, path)
    assert (status, len(body)) == (200, size)
    with open_socket(server.ws, source_address=OTHERS) as client:
        assert json.loads(client.recv(timeout=60))["type"] == "welcome"


def until(what, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def rest(connection: socket.socket) -> bytes:
    """What still comes, up to the end, however that comes."""
    data = b""
    try:
        while more := connection.recv(1 << 16):
            data += more
    except ConnectionError:
        pass
    return data


@pytest.mark.parametrize("limited", [False, True])
def test_readers_that_do_not_read(serve, limited):
    count, most = 300, 20
    flags = ["--limit-loopback", "on", "--connections-per-address", str(most)] if limited else []
    server = serve("--stall-seconds", "5", *flags)
    server.wait_ready()
    path, size = biggest(server)
    before = resident(server)
    readers = [dial(server.port) for _ in range(count)]
    for reader in readers:
        try:
            reader.sendall(request(path))
        except ConnectionError:
            assert limited
    others_are_served(server, path, size)
    if limited:
        # Beyond the limit some are told so, and the rest is closed at once.
        until(lambda: len(kernel(server)) < 2 * most)
    # Of the file each has a few pieces, not all.
    assert resident(server) - before < (16 << 20) + count * (size // 4)
    assert sum(kernel(server)) < count * (512 << 10)
    others_are_served(server, path, size)
    until(lambda: not kernel(server))
    # Ended in the middle, not served to the end.
    answers = [rest(reader) for reader in readers]
    assert all(len(answer) < size for answer in answers)
    if limited:
        assert any(answer.startswith(b"HTTP/1.1 429") for answer in answers)
    others_are_served(server, path, size)


def test_a_reader_that_is_merely_slow_gets_it_all(serve):
    server = serve("--stall-seconds", "4")
    server.wait_ready()
    path, size = biggest(server)
    with dial(server.port) as reader:
        reader.sendall(request(path))
        data = b""
        while b"\r\n\r\n" not in data or len(data.split(b"\r\n\r\n", 1)[1]) < size:
            more = reader.recv(8192)
            assert more, len(data)
            data += more
            time.sleep(0.1)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_readers_that_do_not_read_over_tls(serve, tmp_path, version):
    certificate, key = self_signed(tmp_path, "localhost")
    # Whoever reads has so long for it too, on however busy a machine.
    server = serve("--tls-cert", str(certificate), "--tls-key", str(key), "--stall-seconds", "10")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion[version]

    def fetch(path: str):
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context)
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().read()

    end = time.monotonic() + 60
    while True:
        try:
            page = fetch("/").decode()
            break
        except ConnectionError:
            assert time.monotonic() < end, server.log.read_text()
            time.sleep(0.1)
    path = next("/" + word.lstrip("./") for word in page.replace("'", '"').split('"') if word.endswith(".wasm"))
    size = len(fetch(path))
    silent = [dial(server.port) for _ in range(10)]
    readers = [context.wrap_socket(dial(server.port)) for _ in range(20)]
    for reader in readers:
        reader.sendall(request(path))
    assert len(fetch(path)) == size
    until(lambda: not kernel(server))
    assert len(fetch(path)) == size
    for each in silent + readers:
        each.close()


ENDLESS = {
    "nothing": (b"", b""),
    "a head": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"x"),
    "a head of much": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"x" * 30_000),
    "a body in chunks": (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a body": (b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", b"x"),
    "a body to the socket": (b"GET /ws HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_requests_without_end(serve, what):
    server = serve("--stall-seconds", "2")
    server.wait_ready()
    first, more = ENDLESS[what]
    with dial(server.port) as sender:
        sender.sendall(first)
        end = time.monotonic() + 120
        try:
            while more or sender.recv(1000):
                assert time.monotonic() < end
                sender.sendall(more)
                time.sleep(0.05)
        except ConnectionError:
            pass
        until(lambda: not kernel(server))


def test_plain_connections_count_as_any(serve):
    server = serve("--limit-loopback", "on", "--connections-per-address", "3", "--stall-seconds", "120")
    server.wait_ready()
    kept = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(2)]
    for connection in kept:
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
    with open_socket(server.ws) as client:
        assert json.loads(client.recv(timeout=60))["type"] == "welcome"
        one_more = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        one_more.request("GET", "/healthz")
        answer = one_more.getresponse()
        assert answer.status == 429 and int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Connection"] == "close" and b"connections" in answer.read()
        assert get(server, "/healthz")[0] == 200
    kept[0].close()
    until(lambda: len(kernel(server)) <= 1)
    with open_socket(server.ws) as client:
        assert json.loads(client.recv(timeout=60))["type"] == "welcome"


def test_a_socket_that_does_not_read_is_gone_in_the_end(serve, raw):
    """What was still to be sent to it is not kept for ever either."""
    server = serve("--stall-seconds", "2")
    server.wait_ready()
    client = raw(server.port)
    client.sock.setblocking(False)
    ping = client.frame(0x81, json.dumps({"type": "ping", "t": "x" * 60_000}).encode())
    unsent = b""
    end = time.monotonic() + 120
    while kernel(server):
        assert time.monotonic() < end
        try:
            unsent = unsent or ping
            unsent = unsent[client.sock.send(unsent) :]
        except BlockingIOError:
            time.sleep(0.05)
        except ConnectionError:
            time.sleep(0.05)
    assert get(server, "/healthz")[0] == 200


def test_keyless_connections_do_not_keep_keys_out(serve, tmp_path):
    key = "a-good-key-of-some-length"
    keys = tmp_path / "keys.txt"
    keys.write_text(key)
    server = serve("--max-connections", "20", "--api-key-file", str(keys))
    server.wait_ready()
    bearer = {"Authorization": f"Bearer {key}"}
    with open_socket(server.ws, additional_headers=bearer) as first:
        assert json.loads(first.recv(timeout=60))["type"] == "welcome"
        for _ in range(3):
            # Half of them ask for the socket, and then say nothing.
            strangers = [dial(server.port) for _ in range(40)]
            upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            for stranger in strangers[::2]:
                try:
                    stranger.sendall(request("/ws")[:-2] + upgrade)
                except ConnectionError:
                    pass
            with open_socket(server.ws, source_address=OTHERS) as client:
                client.send(json.dumps({"type": "hello", "token": key}))
                assert json.loads(client.recv(timeout=60))["type"] == "welcome"
                client.send(json.dumps({"type": "ping", "t": 1}))
                while json.loads(client.recv(timeout=60))["type"] != "pong":
                    pass
            for stranger in strangers:
                stranger.close()
        # Whoever had a session kept it.
        first.send(json.dumps({"type": "ping", "t": 1}))
        while json.loads(first.recv(timeout=60))["type"] != "pong":
            pass
