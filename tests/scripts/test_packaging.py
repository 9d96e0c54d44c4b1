"""What a release is made with: workflows and container by their linters, and the scripts of `packaging/` one by one."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "packaging"))

import check  # noqa: E402

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def lint(tool: str, *arguments: str | Path) -> None:
    program = Path(sys.executable).parent / tool
    result = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_workflows_are_right_to_their_linter():
    assert len(WORKFLOWS) == 2
    lint("actionlint", *WORKFLOWS)


def test_the_container_is_right_to_its_linter():
    lint("hadolint", "Containerfile")


def test_workflows_trust_nothing_that_can_change():
    """Actions by their commit, no more rights than a job needs, and no checkout that leaves its token behind."""
    for workflow in WORKFLOWS:
        text = workflow.read_text()
        assert all(re.search(r"@[0-9a-f]{40} # v\d", line) for line in text.splitlines() if "uses:" in line)
        content = yaml.safe_load(text)
        assert content["permissions"] == {"contents": "read"}
        for job in content["jobs"].values():
            assert job["timeout-minutes"]
            for step in job["steps"]:
                if "checkout" in step.get("uses", ""):
                    assert step["with"]["persist-credentials"] is False


def test_workflows_run_what_is_there():
    """Every target and every part that they name."""
    text = "".join(workflow.read_text() for workflow in WORKFLOWS)
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)$", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    dist = (ROOT / "scripts/dist.sh").read_text()
    for part in re.findall(r"scripts/dist\.sh ([a-z]+)", text):
        assert re.search(rf"^    .*\b{part}\b.*\)", dist, re.MULTILINE), part
    (parts,) = re.findall(r"part: \[(.*)\]", text)
    cards = re.search(r"^CARDS=\((.*)\)", dist, re.MULTILINE)[1].split()
    assert re.findall(r"cuda (\d+)", parts) == cards == re.findall(r'card: "(\d+)"', text)


def test_what_the_container_copies_is_let_in():
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for manifest in ["Cargo.toml", *re.findall(r'"([^"]+)"', re.search(r"members = \[(.*)\]", (ROOT / "Cargo.toml").read_text())[1])]:
        assert manifest.split("/")[0] in let_in
    for copied in re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Containerfile").read_text(), re.MULTILINE):
        assert all(any((ROOT / entry).match(ROOT.joinpath(name).as_posix()) or entry == name.split("/")[0] for name in let_in) or entry == "."
                   for entry in [part.split("/")[0] if "LICENSE" not in part else "LICENSE-*" for part in copied.split()]), copied


REAL = """
double mix(int a, double b, const char *c, long d, float e, int f, int g, int h, double i) { return a + b + c[0] + d + e + f + g + h + i; }
int quick(void) { return 7; }
"""
USER = """
#include <stdio.h>
double mix(int, double, const char *, long, float, int, int, int, double);
int quick(void), gone(void);
int main(int count, char **arguments) {
    if (count > 1) return 0;
    int first = gone();
    printf("%d %d", first, quick());
    if (quick() == 7) printf(" %g", mix(1, .5, "A", 4, .25f, 8, 16, 32, 64));
    return 0;
}
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A program linked with a stand-in for libreal.so.9, in a folder of its own."""
    folder = tmp_path_factory.mktemp("lazy")
    names = "mix\nquick\ngone\n"
    stand_in = subprocess.run(
        [sys.executable, ROOT / "packaging/lazy.py", "libreal.so.9", "100"], input=names, capture_output=True, text=True, check=True
    ).stdout
    (folder / "lazy.c").write_text(stand_in)
    (folder / "user.c").write_text(USER)
    subprocess.run(["cc", "-Wall", "-Werror", "-O2", "user.c", "lazy.c", "-ldl", "-o", "user"], cwd=folder, check=True)
    return folder


def test_a_program_starts_where_a_library_is_not(user):
    assert subprocess.run([user / "user", "x"], capture_output=True, check=True).stderr == b""
    result = subprocess.run([user / "user"], capture_output=True, text=True, check=True)
    assert result.stdout == "100 100"
    assert result.stderr.count("glimpse: no libreal.so.9: ") == 1


def test_a_library_that_is_there_gets_every_argument(user):
    (user / "real.c").write_text(REAL)
    (user / "lib").mkdir()
    subprocess.run(["cc", "-shared", "-fPIC", "real.c", "-o", "lib/libreal.so.9"], cwd=user, check=True)
    environment = os.environ | {"LD_LIBRARY_PATH": str(user / "lib")}
    result = subprocess.run([user / "user"], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "100 7 190.75" and result.stderr == ""


def healthy(answer: bytes | None, **environment: str) -> bool:
    """What the container's health check makes of a server that says this, or of none."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked = b""
                while answer and not asked.endswith(b"\r\n\r\n"):
                    asked += connection.recv(1000)
                connection.sendall(answer)

        if answer is None:
            listener.close()
        else:
            threading.Thread(target=serve, daemon=True).start()
        variables = {"PATH": os.environ["PATH"], "GLIMPSE_LISTEN": f"0.0.0.0:{port}"} | environment
        return subprocess.run(["packaging/healthcheck"], cwd=ROOT, env=variables, capture_output=True, timeout=60).returncode == 0


def test_the_health_check_tells_a_server_that_answers_from_one_that_does_not():
    assert healthy(b"HTTP/1.1 200 OK\r\n\r\n")
    assert not healthy(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    assert not healthy(None)
    assert healthy(b"", GLIMPSE_TLS_CERT="/cert.pem")


def test_the_service_names_flags_that_there_are(glimpse):
    help_ = subprocess.run([glimpse, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    text = (ROOT / "packaging/glimpse.default").read_text() + (ROOT / "Containerfile").read_text() + (ROOT / "packaging/healthcheck").read_text()
    variables = set(re.findall(r"GLIMPSE_[A-Z_]+", text))
    assert variables and all(variable in help_ for variable in variables), variables


@pytest.fixture
def glimpse():
    return os.environ.get("GLIMPSE_BIN") or ROOT / "target/release/glimpse"


SYMBOLS = "0000 DF *UND* 0000 (GLIBC_2.2.5) pow\n0000 DF *UND* 0000 (GLIBC_2.17) clock_gettime\n0000 DF *UND* 0000  GLIBC_2.9  x\n"


def test_versions_are_compared_as_numbers():
    assert check.newest(SYMBOLS) == (2, 17)
    assert check.newest("nothing") == (0,)


def test_a_release_with_something_wrong_is_found_out(tmp_path, capsys):
    """An archive without its licences, of a program that needs too much and is another version; a sum that is not one."""
    folder = tmp_path / "glimpse-1.0.0-linux-x86_64"
    folder.mkdir()
    shutil.copy(os.path.realpath(sys.executable), folder / "glimpse")
    with tarfile.open(tmp_path / "glimpse-1.0.0-linux-x86_64.tar.gz", "w:gz") as tar:
        tar.add(folder, folder.name)
    shutil.rmtree(folder)
    (tmp_path / "glimpse-1.0.0.cdx.json").write_text('{"bomFormat": "CycloneDX", "specVersion": "1.5"}')
    (tmp_path / "SHA256SUMS").write_text("0" * 64 + "  glimpse-1.0.0-linux-x86_64.tar.gz\n")
    assert check.main(tmp_path, "1.0.0", "2.1") == 1
    said = capsys.readouterr().out
    for problem in ("LICENSE-MIT", "2.1 at most is promised", "glimpse 1.0.0 was expected", "it is about None", "FAILED", "names: glimpse-1.0.0.cdx.json"):
        assert problem in said, said
