#!/usr/bin/env bash
# Builds the program with the page inside: target/release/glimpse. What either needs to be built is set up first, once.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

scripts/setup.sh server page-packages
# Side by side, since neither keeps all cores busy. The part that holds the page waits for it, and is compiled once.
said=$(mktemp)
page_comes
trap 'rm -f "$said" "$GLIMPSE_PAGE_COMING"' EXIT
(
    trap page_is_there EXIT
    scripts/setup.sh page && scripts/page.sh
) >"$said" 2>&1 &
build=(cargo build --locked --release -p glimpse)
CARGO_BUILD_JOBS=$JOBS "${build[@]}" || { kill $! 2>/dev/null; exit 1; }
if ! wait $!; then
    cat "$said" >&2
    exit 1
fi
# Nothing is left to do, but where only the page has changed.
"${build[@]}"
