#!/usr/bin/env bash
# Builds the page into dist/, unless it is there already and nothing it is made of has changed since.
#   scripts/page.sh          build
#   scripts/page.sh clippy   clippy on the page instead, warnings as errors
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/wasm.sh

case ${1:-build} in
    build)
        sources=(frontend shared public Trunk.toml Cargo.toml Cargo.lock)
        if [ -f dist/index.html ] && [ -z "$(find "${sources[@]}" -newer dist/index.html -print -quit)" ]; then
            exit 0
        fi
        say "Building the page into dist/"
        in_wasm trunk --skip-version-check build --release ||
            die "The page could not be built: the compiler's message above says why."
        ;;
    clippy)
        # The profile of the build, so that its build scripts and macros serve here too.
        in_wasm cargo clippy --locked --target $WASM --profile page -p glimpse-page -- -D warnings
        ;;
    *) die "page.sh knows build and clippy, not '$1'." ;;
esac
