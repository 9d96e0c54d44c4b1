#!/usr/bin/env bash
# Builds the page into dist/, unless it is there already and nothing it is made of has changed since.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/wasm.sh

sources=(frontend shared server/api public scripts/bundle.py Cargo.toml Cargo.lock)
if [ -f dist/index.html ] && [ -z "$(find "${sources[@]}" -newer dist/index.html -print -quit)" ]; then
    exit 0
fi
say "Building the page into dist/"
cargo build --locked --profile tool -p glimpse-page-bindgen ||
    die "What makes the page's modules ready for browsers could not be built: the compiler's message above says why."
# What is loaded at once, and what is loaded when it is needed: one by one, so that neither gets features of the other's.
crates=(glimpse-page glimpse-page-extras)
for crate in "${crates[@]}"; do
    in_wasm cargo build --locked --profile page --target "$WASM" -p "$crate" ||
        die "The page could not be built: the compiler's message above says why."
done

bound=$(mktemp -d)
trap 'rm -rf "$bound"' EXIT
# bind CRATE: the compiler's module as a browser's, as small as it gets. A library's file is named with underscores.
bind() {
    # shellcheck disable=SC2031  # what in_wasm sets is for in_wasm
    local compiled=${CARGO_TARGET_DIR:-target}/page/$WASM/page name=$1
    [ -e "$compiled/$name.wasm" ] || name=${name//-/_}
    "${CARGO_TARGET_DIR:-target}/tool/glimpse-page-bindgen" "$compiled/$name.wasm" "$bound" "$1" &&
        wasm-opt -Oz "$bound/$1_bg.wasm" -o "$bound/$1_bg.wasm"
}
pids=()
for crate in "${crates[@]}"; do
    bind "$crate" &
    pids+=($!)
done
bad=
for pid in "${pids[@]}"; do wait "$pid" || bad=1; done
[ -z "$bad" ] || die "The page's modules could not be made ready for browsers: the message above says why."
python3 scripts/bundle.py "$bound" dist
# As old as the build that waits for it (server/build.rs), since to cargo whatever is younger has changed since.
[ -z "${GLIMPSE_PAGE_COMING:-}" ] || find dist -exec touch -r "$GLIMPSE_PAGE_COMING" {} +
