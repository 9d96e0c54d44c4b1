"""Who may in: names, pages, keys, limits, TLS."""

import asyncio
import json
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from certificates import self_signed
from websockets.asyncio.client import connect as connect_tls
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as open_socket

GOOD, OTHER = "a-good-key-of-some-length", "another-key-of-some-length"


def get(url, **headers):
    """Status and headers; a refusal is no exception."""
    request = urllib.request.Request(url, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read()


@pytest.mark.parametrize("path", ["/", "/ws", "/healthz", "/readyz", "/metrics", "/nothing"])
def test_a_name_that_was_pointed_at_us_does_not_get_in(server, path):
    for host in (
        "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example",
        "localhost:1@evil.example", "localhost@evil.example", "localhost:", "localhost:x", "localhost:99999", "localhost:1:2",
    ):  # fmt: skip
        assert get(server.url + path, Host=host)[0] == 403, host
    for host in ("localhost", "localhost:1234", "192.168.7.7", "[::1]:80"):
        assert get(server.url + path, Host=host)[0] != 403, host


def test_pages_from_elsewhere_do_not_get_in(server):
    own = f"http://127.0.0.1:{server.port}"
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{server.port + 1}", "https://127.0.0.1"):
        with pytest.raises(InvalidStatus) as refused:
            open_socket(server.ws, origin=origin).__enter__()
        assert refused.value.response.status_code == 403, origin
    with open_socket(server.ws, origin=own) as socket:
        assert json.loads(socket.recv())["type"] == "welcome"


def test_a_refusal_is_logged_once_with_what_would_let_in(serve):
    server = serve()
    server.wait_ready()
    for _ in range(3):
        status, _, body = get(server.url, Host="pictures.example:81")
        assert status == 403 and b"--allow-host pictures.example" in body
        status, _, body = get(server.url, Origin="https://other.example")
        assert status == 403 and b"--allow-origin https://other.example" in body
    log = server.log.read_text()
    assert log.count("--allow-host pictures.example") == 1
    assert log.count("--allow-origin https://other.example") == 1
    before = len(log)
    for number in range(500):
        assert get(server.url, Host=f"{number}.evil.example")[0] == 403
    assert len(server.log.read_text()) - before < 64 * 500


def test_allowed_names_and_pages(serve):
    server = serve("--allow-host", "pictures.example", "--allow-origin", "https://other.example")
    server.wait_ready()
    assert get(server.url, Host="Pictures.Example")[0] == 200
    with open_socket(server.ws, origin="https://other.example") as socket:
        assert json.loads(socket.recv())["type"] == "welcome"


@pytest.mark.parametrize(
    "path",
    ["/../Cargo.toml", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/./index.html/../../x", "/\\..\\x", "/%00"],
)
def test_path_tricks_lead_nowhere(server, path):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status in (400, 404)
    assert b"root:" not in answer.read()


def test_every_answer_has_the_security_headers(server):
    for path in ("/", "/healthz", "/nothing"):
        headers = get(server.url + path)[1]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe-inline" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


@pytest.fixture(scope="module")
def keyed(serve, tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    path.write_text(f"# who may in\n{GOOD} asks=2\n{OTHER} connections=1\n")
    server = serve("--api-key-file", str(path))
    server.wait_ready()
    return server


def refusal(socket):
    """The one error, and the code that the server closes with."""
    messages = []
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            messages.append(json.loads(socket.recv(timeout=120)))
    assert [m["type"] for m in messages] == ["error"], messages
    return messages[0]["code"], closed.value.rcvd.code


@pytest.mark.parametrize(
    "first",
    [
        {"type": "hello"},
        {"type": "hello", "token": "wrong"},
        {"type": "hello", "token": GOOD + " "},
        {"type": "ping"},
        {"type": "ask", "request": "r", "text": "?"},
        {"type": "hello", "token": "x" * 5000},
    ],
)
def test_without_a_key_nothing_is_said(keyed, first):
    with open_socket(keyed.ws) as socket:
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.3)
        socket.send(json.dumps(first))
        assert refusal(socket) == ("unauthorized", 4401)


def test_no_hello_in_time(keyed):
    before = time.monotonic()
    with open_socket(keyed.ws) as socket:
        assert refusal(socket) == ("unauthorized", 4401)
        assert time.monotonic() - before > 8


def test_a_key_opens_a_session_and_only_it_resumes(keyed, connect):
    client = connect(keyed.ws, wait=False)
    client.send(type="hello", token=GOOD)
    session = client.until("welcome")["session"]
    client.cut()
    for token, resumed in ((OTHER, False), (GOOD, True)):
        with open_socket(keyed.ws) as socket:
            resume = {"session": session, "last_event": 0}
            socket.send(json.dumps({"type": "hello", "token": token, "resume": resume}))
            while True:
                message = json.loads(socket.recv(timeout=10))
                if message["type"] == "welcome" and "resumed" in message:
                    break
            assert message["resumed"] is resumed
            assert (message["session"] == session) is resumed


def test_a_bearer_key_is_as_good(keyed):
    with open_socket(keyed.ws, additional_headers={"Authorization": f"Bearer {GOOD}"}) as socket:
        assert json.loads(socket.recv(timeout=10))["type"] == "welcome"
    with open_socket(keyed.ws, additional_headers={"Authorization": "Bearer wrong"}) as socket:
        assert refusal(socket) == ("unauthorized", 4401)


def test_keys_have_limits_of_their_own(keyed, connect):
    client = connect(keyed.ws, wait=False)
    client.send(type="hello", token=GOOD)
    client.until("welcome")
    for request in ("a", "b"):
        client.ask(request, "Hello", sampling={"max_new_tokens": 2})
        client.done(request)
    client.ask("c", "Hello")
    error = client.error("rate_limited")
    assert error["request"] == "c" and error["retry_after_ms"] > 0
    first = connect(keyed.ws, wait=False)
    first.send(type="hello", token=OTHER)
    first.until("welcome")
    with open_socket(keyed.ws) as socket:
        socket.send(json.dumps({"type": "hello", "token": OTHER}))
        assert refusal(socket) == ("rate_limited", 4429)


def test_metrics_take_a_key_where_there_are_keys(keyed, server):
    assert get(server.url + "/metrics")[0] == 200
    assert get(keyed.url + "/metrics")[0] == 401
    assert get(keyed.url + "/metrics", Authorization="Bearer wrong")[0] == 401
    status, _, body = get(keyed.url + "/metrics", Authorization=f"Bearer {GOOD}")
    assert status == 200 and b"glimpse_sessions" in body
    for path in ("/healthz", "/readyz"):
        assert get(keyed.url + path)[0] == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/"])
def test_monitors_may_ask_for_the_head_alone(server, path):
    head = urllib.request.Request(server.url + path, method="HEAD")
    with urllib.request.urlopen(head, timeout=10) as answer:
        assert (answer.status, answer.read()) == (200, b"")


def test_keys_are_not_in_the_log(keyed):
    log = keyed.log.read_text()
    assert GOOD not in log and OTHER not in log


def test_connections_from_one_address(serve):
    server = serve("--connections-per-address", "3", "--limit-loopback", "on")
    server.wait_ready()
    sockets = [open_socket(server.ws).__enter__() for _ in range(3)]
    for socket in sockets:
        assert json.loads(socket.recv(timeout=10))["type"] == "welcome"
    with open_socket(server.ws) as socket:
        assert refusal(socket) == ("rate_limited", 4429)
    for socket in sockets:
        socket.close()
    with open_socket(server.ws) as socket:
        assert json.loads(socket.recv(timeout=10))["type"] == "welcome"


def test_a_trusted_proxy_tells_who_the_client_is(serve):
    server = serve("--connections-per-address", "1", "--trusted-proxy", "127.0.0.1")
    server.wait_ready()
    far = {"additional_headers": {"X-Forwarded-For": "203.0.113.5"}}
    with open_socket(server.ws, **far) as first, open_socket(server.ws, **far) as second:
        assert json.loads(first.recv(timeout=10))["type"] == "welcome"
        assert refusal(second) == ("rate_limited", 4429)
        # Whoever is no proxy is not believed; the machine itself is not limited.
        with open_socket(server.ws) as third:
            assert json.loads(third.recv(timeout=10))["type"] == "welcome"


UNREADABLE = ["unknown", "_hidden", "", "203.0.113.9:1:2", "[::1", "\xe9", "203.0.113.9, unknown"]


@pytest.mark.parametrize(
    "name, same",
    [
        ("X-Forwarded-For", ["203.0.113.5", "203.0.113.5:4711", ' "203.0.113.5:80" ', "198.51.100.1, 203.0.113.5:1"]),
        ("X-Forwarded-For", ["2001:db8::5", "[2001:db8::5]", "[2001:db8::6]:4711", '"[2001:db8::7]:80"']),
        ("X-Forwarded-For", UNREADABLE),
        ("X-Forwarded-For", ["127.0.0.1", "127.0.0.1:80"]),
        ("Forwarded", ["for=203.0.113.5", 'proto=https;For="203.0.113.5:4711"', "for=1.1.1.1, for=203.0.113.5"]),
        ("X-Nothing", ["1", "2"]),
    ],
)
def test_who_comes_through_a_proxy_always_has_limits(serve, name, same):
    server = serve("--connections-per-address", "1", "--trusted-proxy", "127.0.0.1")
    server.wait_ready()
    with open_socket(server.ws, additional_headers={name: same[0]}) as first:
        assert json.loads(first.recv(timeout=10))["type"] == "welcome"
        for value in same:
            with open_socket(server.ws, additional_headers={name: value}) as more:
                assert refusal(more) == ("rate_limited", 4429), value
            if value.isascii():
                assert get(server.url + "/healthz", **{name: value})[0] == 429, value
        other = {"X-Forwarded-For": "203.0.113.77"}
        assert get(server.url + "/healthz", **other)[0] == 200
        with open_socket(server.ws, additional_headers=other) as more:
            assert json.loads(more.recv(timeout=10))["type"] == "welcome"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_a_proxy_that_nobody_named(serve, header):
    """It is said, once, and its clients share the limits of one: that they come from this machine sets none of them free."""
    server = serve("--connections-per-address", "2")
    server.wait_ready()
    many = [open_socket(server.ws).__enter__() for _ in range(4)]
    assert all(json.loads(each.recv(timeout=10))["type"] == "welcome" for each in many)
    assert "--trusted-proxy" not in server.log.read_text()
    sockets = [open_socket(server.ws, additional_headers={header: f"203.0.113.{n}"}).__enter__() for n in range(3)]
    assert [json.loads(each.recv(timeout=10))["type"] for each in sockets] == ["welcome", "welcome", "error"]
    assert server.log.read_text().count("--trusted-proxy 127.0.0.1") == 1


def test_where_a_proxy_is_likely_it_is_asked_for(serve, tmp_path):
    likely = serve("--allow-host", "pictures.example")
    named = serve("--allow-host", "pictures.example", "--trusted-proxy", "127.0.0.1")
    for server in (likely, named):
        server.wait_ready()
    assert "--trusted-proxy 127.0.0.1" in likely.log.read_text()
    assert "--trusted-proxy" not in named.log.read_text()


def until_logged(server, text, count=1):
    end = time.monotonic() + 60
    while server.log.read_text().count(text) < count:
        assert time.monotonic() < end, server.log.read_text()
        time.sleep(0.05)


def test_keys_are_read_anew(serve, connect, tmp_path):
    third = "a-third-key-of-some-length"
    path = tmp_path / "keys.txt"
    path.write_bytes(f"\ufeff{GOOD} asks=2  \r\n{OTHER}\r\n".encode())
    server = serve("--api-key-file", str(path))
    server.wait_ready()

    def enter(token):
        client = connect(server.ws, wait=False)
        client.send(type="hello", token=token)
        client.session = client.until("welcome")["session"]
        return client

    good, other, away = enter(GOOD), enter(OTHER), enter(OTHER)
    away.cut()
    good.ask("a", "Hello", sampling={"max_new_tokens": 2})
    good.done("a")
    # A file that is none changes nothing.
    path.write_text("short\n")
    server.process.send_signal(signal.SIGHUP)
    until_logged(server, "the keys stay what they were")
    other.send(type="ping", t=1)
    other.until("pong")
    path.write_text(f"{third}\n{GOOD} asks=3\n")
    server.process.send_signal(signal.SIGHUP)
    until_logged(server, "the keys were read anew")
    assert other.error("unauthorized") and other.closed() == 4401
    for client in (other, away):
        for token in (OTHER, third):
            resume = {"session": client.session, "last_event": 0}
            with open_socket(server.ws) as socket:
                socket.send(json.dumps({"type": "hello", "token": token, "resume": resume}))
                if token == OTHER:
                    assert refusal(socket) == ("unauthorized", 4401)
                    continue
                while "resumed" not in (message := json.loads(socket.recv(timeout=10))):
                    pass
                assert message["resumed"] is False
    # Nobody else noticed, and the limits are the new ones: three, of which one was used.
    for request in ("b", "c"):
        good.ask(request, "Hello", sampling={"max_new_tokens": 2})
        good.done(request)
    good.ask("d", "Hello")
    good.error("rate_limited")
    enter(third)
    log = server.log.read_text()
    assert GOOD not in log and OTHER not in log and third not in log


def test_sighup_without_anything_to_read_anew(serve, connect):
    server = serve()
    server.wait_ready()
    client = connect(server.ws)
    server.process.send_signal(signal.SIGHUP)
    until_logged(server, "SIGHUP")
    client.send(type="ping", t=1)
    client.until("pong")
    assert get(server.url + "/healthz")[0] == 200


def test_certificates_are_read_anew(serve, tmp_path):
    import shutil
    import ssl

    first, second = (self_signed(tmp_path, name, "IP:127.0.0.1") for name in ("first", "second"))
    used = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(pair):
        for source, target in zip(pair, used, strict=True):
            shutil.copy(source, target)

    put(first)
    server = serve("--tls-cert", str(used[0]), "--tls-key", str(used[1]))

    def shown():
        return ssl.get_server_certificate(("127.0.0.1", server.port), timeout=10)

    until_logged(server, "listening on https")
    assert shown() == first[0].read_text()
    context = ssl.create_default_context(cafile=str(first[0]))

    async def through():
        async with connect_async(server, context) as socket:
            assert json.loads(await asyncio.wait_for(socket.recv(), 10))["type"] == "welcome"
            # A key that is not the certificate's.
            shutil.copy(second[0], used[0])
            server.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(until_logged, server, "the certificates stay what they were")
            assert await asyncio.to_thread(shown) == first[0].read_text()
            put(second)
            server.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(until_logged, server, "the certificates were read anew")
            assert await asyncio.to_thread(shown) == second[0].read_text()
            await socket.send(json.dumps({"type": "ping", "t": 1}))
            while json.loads(await asyncio.wait_for(socket.recv(), 10))["type"] != "pong":
                pass

    asyncio.run(through())


def connect_async(server, context):
    return connect_tls(f"wss://127.0.0.1:{server.port}/ws", ssl=context)


def test_all_connections_together(serve):
    server = serve("--max-connections", "2")
    server.wait_ready()
    with open_socket(server.ws), open_socket(server.ws), open_socket(server.ws) as third:
        assert refusal(third) == ("busy", 4429)


def test_tls(serve, tmp_path):
    import socket as plain
    import ssl

    certificate, key = self_signed(tmp_path, "localhost", "IP:127.0.0.1")
    server = serve("--tls-cert", str(certificate), "--tls-key", str(key))
    context = ssl.create_default_context(cafile=str(certificate))
    end = time.monotonic() + 60
    while True:
        try:
            plain.create_connection(("127.0.0.1", server.port), timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < end, server.log.read_text()
            time.sleep(0.1)

    async def first_message():
        # Not by threads: two on one TLS connection may lose what one of them sends, which is Python's doing.
        async with connect_async(server, context) as socket:
            return json.loads(await asyncio.wait_for(socket.recv(), 10))

    assert asyncio.run(first_message())["type"] == "welcome"
    # Plain http is told nothing.
    with plain.create_connection(("127.0.0.1", server.port), timeout=10) as socket:
        socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not socket.recv(100).startswith(b"HTTP")


@pytest.mark.parametrize(
    "flags, word",
    [
        (["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"], "nowhere.pem"),
        (["--api-key-file", "/nowhere.txt"], "nowhere.txt"),
        (["--allow-host", "http://x"], "--allow-host"),
        (["--images", "0"], "--images"),
    ],
)
def test_settings_that_can_not_be(binary, flags, word, tmp_path):
    result = subprocess.run(
        [binary, "serve", "--listen", "127.0.0.1:0", *flags], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode != 0
    assert word in result.stderr


def test_listening_to_everyone_without_a_key_is_said_loudly(binary, tmp_path):
    process = subprocess.Popen(
        [binary, "serve", "--listen", "0.0.0.0:0"], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline().startswith("listening on http://0.0.0.0:")
    finally:
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert "ANYONE" in err and "--api-key-file" in err


def test_the_page_comes_compressed_and_hashed_names_for_ever(server):
    status, headers, body = get(server.url + "/", Accept_Encoding="identity")
    assert status == 200 and headers["Cache-Control"] == "no-cache"
    assert get(server.url + "/", If_None_Match=headers["ETag"])[0] == 304
    names = {word for word in body.decode().replace("'", '"').split('"') if word.endswith((".js", ".wasm", ".css"))}
    assert names, "the page was not built into this binary"
    for name in names:
        path = "/" + name.lstrip("./")
        plain = get(server.url + path, Accept_Encoding="identity")
        assert plain[0] == 200
        if "-" in name:
            assert "immutable" in plain[1]["Cache-Control"]
        for encoding in ("br", "gzip"):
            status, headers, body = get(server.url + path, Accept_Encoding=encoding)
            if len(plain[2]) > 2000:
                assert headers["Content-Encoding"] == encoding and len(body) < len(plain[2]) / 1.5
        if path.endswith(".wasm"):
            assert headers["Content-Type"] == "application/wasm"
