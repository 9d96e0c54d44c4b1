#!/usr/bin/env bash
# Installs what is missing, once, and nothing else.
#   scripts/setup.sh server   what the server's build needs
#   scripts/setup.sh page     what the page's build needs
#   scripts/setup.sh page-packages   of that, what may ask for a password: the rest can be built beside other things
#   scripts/setup.sh trunk    trunk, which no target needs: for `trunk serve`, and the test that it makes the same page
#   scripts/setup.sh lints    rustfmt and clippy
#   scripts/setup.sh test     what the tests need beside these
#   scripts/setup.sh test-packages   of that, what may ask for a password
#   scripts/setup.sh clients  what `make test-clients` needs beside these
#   scripts/setup.sh dist     what `make dist` needs beside server and page
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/wasm.sh

TRUNK=0.21.14
BINARYEN=132.0.0
CARGO_DEB=3.8.0
CARGO_CYCLONEDX=0.5.9
GECKODRIVER=0.37.1

have cargo || die "Rust is missing: install it from https://rustup.rs, then run the same command again."

setup_server() {
    # shellcheck disable=SC2046
    install_packages $(missing "gcc libc6-dev" cc; missing cmake cmake; missing nasm nasm yasm)
}

setup_page-packages() {
    wasm_setup
    # shellcheck disable=SC2046
    install_packages $(wasm_opt_here || missing npm npm; missing python3 python3)
}

setup_page() {
    setup_page-packages
    setup_wasm_opt
}

setup_trunk() {
    setup_page
    # Of the very version that the page is compiled with; unoptimised, it takes too long on the page.
    local bindgen
    bindgen=$(awk '$1 == "name" { name = $3 } $1 == "version" && name == "\"wasm-bindgen\"" { gsub("\"", "", $3); print $3; exit }' Cargo.lock)
    OPT_LEVEL=1 cargo_tool wasm-bindgen-cli "$bindgen" wasm-bindgen --no-default-features --bin wasm-bindgen
    # Without what it downloads with: all that it runs is here.
    cargo_tool trunk $TRUNK trunk --no-default-features
}

# Debian's wasm-opt is too old for what today's compiler emits; npm carries a current one.
wasm_opt_here() {
    local found
    found=$(wasm-opt --version 2>/dev/null | awk '{print $3}') || true
    [ "${found:-0}" -ge 120 ] 2>/dev/null
}

setup_wasm_opt() {
    if wasm_opt_here; then return; fi
    say "Installing wasm-opt (npm's binaryen $BINARYEN) into $TOOLS"
    mkdir -p "$TOOLS"
    npm install --prefix "$TOOLS" --no-save --no-audit --no-fund --loglevel=error "binaryen@$BINARYEN" ||
        die "wasm-opt could not be had: check the network, or put a wasm-opt of version 120 or later on the PATH, then run the same command again."
}

setup_test-packages() {
    # shellcheck disable=SC2046
    install_packages $(
        missing chromium chromium chromium-browser google-chrome
        missing chromium-driver chromedriver
        missing firefox-esr firefox-esr firefox
        missing webkit2gtk-driver WebKitWebDriver
        missing xvfb Xvfb
        missing xdotool xdotool
        missing iproute2 ip
        missing fontconfig fc-list
        has_font :lang=en || echo fonts-dejavu-core
        has_font :lang=zh || echo fonts-noto-cjk
        has_font :lang=und-zsye || echo fonts-noto-color-emoji
    )
    # shellcheck disable=SC2046
    unpack_packages $(missing nginx nginx /usr/sbin/nginx; missing caddy caddy; missing nats-server nats-server /usr/sbin/nats-server)
}

setup_test() {
    setup_test-packages
    setup_python
    # Debian has none.
    cargo_tool geckodriver $GECKODRIVER geckodriver
}

setup_lints() {
    for component in rustfmt clippy; do
        cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component" ||
            die "The check needs $component: run 'rustup component add $component', then run the same command again."
    done
}

has_font() { [ -n "$(fc-list "$1" 2>/dev/null | head -n 1)" ]; }

setup_python() { setup_venv .venv tests/requirements.txt "The Python tests' packages"; }

setup_clients() { setup_venv .venv-clients tests/clients/requirements.txt "The clients of \`make test-clients\`"; }

# The linker and C compiler for an old glibc, and what makes packages. Man pages are made of what --help says.
setup_dist() {
    setup_venv .venv-dist packaging/requirements.txt "What \`make dist\` builds with"
    # shellcheck disable=SC2046
    install_packages $(missing help2man help2man; missing binutils objdump; missing xz-utils xz)
    cargo_tool cargo-deb $CARGO_DEB cargo-deb --no-default-features
    cargo_tool cargo-cyclonedx $CARGO_CYCLONEDX cargo-cyclonedx
}

# setup_venv FOLDER LIST NAME: a virtual environment with the packages of a list, made anew when the list has changed.
setup_venv() {
    local folder=$PWD/$1 list=$2 name=$3
    if cmp -s "$list" "$folder/requirements.txt"; then return; fi
    have python3 || install_packages python3 python3-venv
    say "Installing into $1: $name"
    rm -rf "$folder"
    if ! python3 -m venv "$folder" >/dev/null 2>&1; then
        install_packages python3-venv
        python3 -m venv "$folder" || die "python3 can't make a virtual environment: install its venv module, then run the same command again."
    fi
    "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$list" ||
        die "$name could not be installed: check the network (and that python3 is 3.10 or later), then run the same command again."
    cp "$list" "$folder/requirements.txt"
}

for part; do
    case $part in
        server | page | page-packages | trunk | lints | test | test-packages | clients | dist) "setup_$part" ;;
        *) die "There is nothing called '$part' to set up: it is server, page, page-packages, trunk, lints, test, test-packages, clients or dist." ;;
    esac
done
