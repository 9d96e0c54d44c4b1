# shellcheck shell=bash
# Shared by the scripts: where things are, and how they speak. Source it from the repository's root.

# The project's own tools live here, at exact versions, apart from the user's.
TOOLS=${GLIMPSE_TOOLS:-$PWD/.tools}
# shellcheck disable=SC2034  # for the scripts that source this
VENV=$PWD/.venv
PATH=$TOOLS/bin:$TOOLS/node_modules/.bin:$PATH

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

# One sentence that says what to do, and the end.
die() {
    printf '\033[1;31mglimpse:\033[0m %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# page_comes: says to a build of the server, which server/build.rs hears, that the page is built beside it and worth waiting for, until
# page_is_there. What waits takes one of the build's jobs, so it gets JOBS.
page_comes() {
    GLIMPSE_PAGE_COMING=$(mktemp)
    export GLIMPSE_PAGE_COMING
    # shellcheck disable=SC2034  # for the scripts that source this
    JOBS=$((${CARGO_BUILD_JOBS:-$(nproc)} + 1))
}
page_is_there() { rm -f "$GLIMPSE_PAGE_COMING"; }

# missing PACKAGE COMMAND…: prints the package unless one of the commands is there.
missing() {
    local package=$1 command
    shift
    for command; do
        if have "$command"; then return; fi
    done
    echo "$package"
}

# install_packages PACKAGE…: Debian packages, through sudo unless root.
install_packages() {
    [ $# -gt 0 ] || return 0
    say "Installing system packages: $*"
    local sudo=
    have apt-get || die "This needs $*: install them with your system's package manager, then run the same command again."
    if [ "$(id -u)" != 0 ]; then
        have sudo || die "As root, run 'apt-get install --no-install-recommends $*', then run the same command again."
        sudo=sudo
    fi
    local apt="$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600"
    # A list that can't be refreshed (one mirror down) need not stop the packages from being had.
    $apt update || say "The package lists could not all be refreshed; going on with those that are there."
    # Another apt run may clean the downloaded packages away in between, so there is a second try.
    $apt install -y --no-install-recommends "$@" ||
        { $sudo dpkg --configure -a && $apt install -y --fix-broken --no-install-recommends "$@"; } ||
        die "Debian's packages could not be installed: check the network and 'apt-get install --no-install-recommends $*', then run the same command again."
}

# unpack_packages PACKAGE…: the programs of Debian packages, into $TOOLS: installed, these would start serving.
unpack_packages() {
    [ $# -gt 0 ] || return 0
    say "Unpacking $* into $TOOLS"
    have apt-get || die "The tests need $*: install them with your system's package manager, then run the same command again."
    local sudo= program folder
    [ "$(id -u)" = 0 ] || sudo=sudo
    folder=$(mktemp -d)
    local download=(apt-get -q -o APT::Sandbox::User=root download "$@")
    # On a machine that never asked for them the package lists come first.
    (cd "$folder" && { "${download[@]}" || { $sudo apt-get -q update && "${download[@]}"; }; }) ||
        die "Debian's packages could not be downloaded: check the network and 'apt-get download $*', then run the same command again."
    mkdir -p "$TOOLS/debian" "$TOOLS/bin"
    for program in "$folder"/*.deb; do dpkg-deb -x "$program" "$TOOLS/debian"; done
    for program in "$TOOLS"/debian/usr/*bin/*; do ln -sf "$(realpath "$program")" "$TOOLS/bin/"; done
    rm -rf "$folder"
}

# cargo_tool NAME VERSION ARGS…: a tool of exactly this version, built without optimisation (it runs for seconds).
cargo_tool() {
    local crate=$1 version=$2 program=$3
    shift 3
    if [ -x "$TOOLS/bin/$program" ] && grep -qF "\"$crate $version (" "$TOOLS/.crates.toml" 2>/dev/null; then return; fi
    if have "$program" && [ "$("$program" --version 2>/dev/null | awk 'NR == 1 {print $2}')" = "$version" ]; then return; fi
    say "Building $crate $version into $TOOLS (once, some minutes)"
    local install=(cargo install "$crate" --version "=$version" --root "$TOOLS" --force "$@")
    # Away from the project's settings for cargo, and with the lock file the tool was released with, where that still resolves.
    (
        unset RUSTFLAGS CARGO_BUILD_TARGET RUSTC_WORKSPACE_WRAPPER
        export CARGO_TARGET_DIR=$TOOLS/build CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0
        export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=${OPT_LEVEL:-0}
        "${install[@]}" --locked || "${install[@]}"
    ) || die "$crate $version could not be built: check the network, or install it with 'cargo install $crate --version $version', then run the same command again."
    rm -rf "$TOOLS/build"
}
