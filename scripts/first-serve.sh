#!/usr/bin/env bash
# How long `make serve` takes where nothing has been built or fetched: a fresh clone of what is committed, with an empty CARGO_HOME, no
# tools and an empty cache of npm's, until the server is ready. System packages that are there stay: what apt takes is not in it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

place=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$place"' EXIT
git clone -q . "$place/glimpse"
cd "$place/glimpse"
mkdir "$place/cargo"
unset CARGO_TARGET_DIR RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
export CARGO_HOME=$place/cargo GLIMPSE_TOOLS=$place/tools npm_config_cache=$place/npm

cpu() { awk '/^cpu / { printf "%d", ($2 + $3 + $4) / '"$(getconf CLK_TCK)"' }' /proc/stat; }
say "Building in $place, on $(nproc) cores, load average $(cut -d ' ' -f 1 /proc/loadavg)"
start=$SECONDS before=$(cpu)
time make server
target/release/glimpse serve --listen 127.0.0.1:0 >"$place/log" 2>&1 &
server=$!
ready() {
    local address
    address=$(sed -n 's/^listening on //p' "$place/log")
    [ -n "$address" ] && python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/readyz")' "$address" 2>/dev/null
}
until ready; do
    kill -0 "$server" 2>/dev/null || die "The server ended: $(tail -n 1 "$place/log")"
    sleep 0.2
done
took=$((SECONDS - start))
say "From nothing to a server that is ready: $((took / 60)) min $((took % 60)) s; all of this machine's processes took $(($(cpu) - before)) s of its cores."
