#!/usr/bin/env bash
# Builds the page into dist/, unless it is there already and nothing it is made of has changed since.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/wasm.sh

sources=(frontend shared server/api public Trunk.toml Cargo.toml Cargo.lock)
if [ -f dist/index.html ] && [ -z "$(find "${sources[@]}" -newer dist/index.html -print -quit)" ]; then
    exit 0
fi
say "Building the page into dist/"
in_wasm trunk --skip-version-check build --release ||
    die "The page could not be built: the compiler's message above says why."

# What is loaded later gets a name that changes with it, as trunk gives the page itself. Until that is done there is no page, so
# that one left half done is built again.
mv dist/index.html dist/.index.html
extras=glimpse-page-extras
hash=$(cat dist/$extras.js dist/${extras}_bg.wasm | sha256sum | cut -c 1-16)
sed "s/${extras}_bg\.wasm/$extras-${hash}_bg.wasm/" dist/$extras.js >"dist/$extras-$hash.js"
mv dist/${extras}_bg.wasm "dist/$extras-${hash}_bg.wasm"
rm dist/$extras.js
sed -i "s/$extras\.js/$extras-$hash.js/" dist/.index.html

# The service worker knows its build, and the files that it keeps.
build=$(cd dist && { cat .index.html && find . -type f ! -name '.*' -exec sha256sum {} + | sort; } | sha256sum | cut -c 1-16)
files=$(cd dist && { echo index.html && find . -type f ! -name '.*' ! -name sw.js -printf '%P\n'; } | sort | sed 's/.*/"&"/' | paste -sd, -)
sed -i "s|^const VERSION = \"\"|const VERSION = \"$build\"|; s|^const FILES = \[\]|const FILES = [$files]|" dist/sw.js
sed "s/const build = \"\"/const build = \"$build\"/" dist/.index.html >dist/index.html
rm dist/.index.html
