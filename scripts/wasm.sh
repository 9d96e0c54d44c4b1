# shellcheck shell=bash
# The compiler for the page. Source it after lib.sh.
#
# wasm_setup  makes sure that something here can compile for wasm32: the target of the toolchain in use, added through
#             rustup where that works, or else Debian's Rust, which brings the standard library's source and builds it.
# in_wasm     runs a command with the settings which that takes, and which nothing but the page must see.
#
# GLIMPSE_WASM=rustup or =debian takes that way only.

WASM=wasm32-unknown-unknown

wasm_target_here() { [ -d "$(rustc --print target-libdir --target $WASM 2>/dev/null)" ]; }

debian_rust_here() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -x /usr/bin/cargo-clippy ] &&
        [ -d /usr/lib/rustlib/src/rust/library/std ]
}

wasm_setup() {
    local way=${GLIMPSE_WASM:-auto}
    case $way in auto | rustup | debian) ;; *) die "GLIMPSE_WASM is '$way': set it to rustup or debian, or unset it." ;; esac
    if [ "$way" != debian ]; then
        if wasm_target_here; then return; fi
        if [ "$way" = auto ] && debian_rust_here; then return; fi
        if have rustup; then
            say "Adding the target $WASM through rustup"
            if timeout 300 rustup target add $WASM && wasm_target_here; then return; fi
        fi
        [ "$way" = auto ] || die "rustup could not add $WASM: check its network, or unset GLIMPSE_WASM to use Debian's Rust."
        have apt-get || die "The page needs the Rust target $WASM: run 'rustup target add $WASM' where there is a network, then run the same command again."
        say "rustup can't add it here: taking Debian's Rust for the page, beside the one for the server"
    fi
    debian_rust_here || install_packages rustc-web cargo-web rust-web-src rust-web-clippy
    debian_rust_here || die "Debian's Rust is not complete: run 'rustup target add $WASM' where there is a network, then run the same command again."
}

in_wasm() (
    # Optimisations for this machine's processor are not for the page, nor is clippy, which may be another compiler's.
    unset CARGO_ENCODED_RUSTFLAGS RUSTC_WORKSPACE_WRAPPER
    # Views forget their types, so that each is not compiled for every place where it stands.
    export RUSTFLAGS="--cfg erase_components"
    # Trunk's own backtraces would bury the compiler's message.
    export RUST_BACKTRACE=0
    # shellcheck disable=SC2030  # this function is a subshell for just that
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/page
    if [ "${GLIMPSE_WASM:-auto}" = debian ] || ! wasm_target_here; then
        local linker
        linker=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
        [ -x "$linker" ] || die "There is no linker for the page at $linker: install Rust with rustup (https://rustup.rs), then run the same command again."
        export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$linker
        export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=std,panic_abort
        PATH=$TOOLS/bin:$TOOLS/node_modules/.bin:/usr/bin:$PATH
    fi
    "$@"
)
