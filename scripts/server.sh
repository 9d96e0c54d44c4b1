#!/usr/bin/env bash
# Builds the program with the page inside: target/release/glimpse. What either needs to be built is set up first, once.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

scripts/setup.sh server page-packages
# Side by side, since neither keeps all cores busy. The page only has to be there when the program is put together.
page=$(mktemp)
trap 'rm -f "$page"' EXIT
{ scripts/setup.sh page && scripts/page.sh; } >"$page" 2>&1 &
build=(cargo build --locked --release -p glimpse)
"${build[@]}" || { kill $! 2>/dev/null; exit 1; }
if ! wait $!; then
    cat "$page" >&2
    exit 1
fi
"${build[@]}"
