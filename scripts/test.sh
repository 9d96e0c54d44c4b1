#!/usr/bin/env bash
# Every check, in order; each runs even when one before it failed. The last line tells how many tests passed and failed.
#   scripts/test.sh            all
#   scripts/test.sh lint       formatting, clippy, licences
# Everything is compiled once, with the release profile: the tests drive the very binary that `make serve` runs.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/lib.sh

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()
# shellcheck disable=SC2031
bin=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/glimpse

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

lint() {
    check "Formatting" cargo fmt --all --check
    check "Clippy: server, shared, tests" \
        cargo clippy --locked --release --workspace --exclude glimpse-page --all-targets -- -D warnings
    check "Clippy: page" scripts/page.sh clippy
    check "Licences and sources" cargo deny check licenses bans sources
}

tests() {
    check "Build: page" scripts/page.sh
    check "Build: server" cargo build --locked --release -p glimpse
    export GLIMPSE_BIN=$bin
    check "Tests: Rust" cargo test --locked --release --workspace --exclude glimpse-page --no-fail-fast
    # Apart, and without optimisation: a page's dependencies are many, and its units take no time.
    check "Tests: page's units" cargo test --locked --profile quick -p glimpse-page
    # Apart: Playwright leaves an event loop running, beside which others can't start theirs.
    check "Tests: sockets and tools" "$VENV/bin/python" -m pytest tests --ignore tests/browser
    check "Tests: browser" "$VENV/bin/python" -m pytest tests/browser
}

case ${1:-all} in
    all) lint; tests ;;
    lint) lint ;;
    *) die "test.sh knows all and lint, not '$1'." ;;
esac

# The runners' closing lines, added up. A check that failed without one (a compile error, say) is one failed test.
count() { grep -aE '^test result: |^=+ .* in [0-9.]+s' "$log" | grep -oE "[0-9]+ ($1)" | awk '{ n += $1 } END { print n + 0 }'; }
passed=$(count passed)
broken=$(count 'failed|errors?')
[ ${#failed[@]} -le "$broken" ] || broken=${#failed[@]}
if [ ${#failed[@]} -gt 0 ]; then
    say "Failed: $(printf '%s; ' "${failed[@]}")see above what each says; 'scripts/test.sh lint' runs formatting, clippy and licences alone."
fi
[ "${1:-all}" != all ] || echo "$passed passed, $broken failed"
[ ${#failed[@]} -eq 0 ]
