#!/usr/bin/env bash
# Fuzzes what strangers can send, with AddressSanitizer and coverage (libFuzzer, through cargo-fuzz).
#   scripts/fuzz.sh                    every target for twenty minutes
#   scripts/fuzz.sh pictures 60        one target for so many seconds
# What is found lies in fuzz/artifacts and becomes a test; what was learnt, in fuzz/corpus, is gone on from next time.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

CARGO_FUZZ=0.13.2
# What clang links for its sanitizers is only recommended by its package.
have clang || install_packages clang libclang-rt-dev llvm
cargo_tool cargo-fuzz $CARGO_FUZZ cargo-fuzz

# The sanitizer's flags are for nightly compilers; the stable one has all that they need, and takes them if told to.
export RUSTC_BOOTSTRAP=1
# libjpeg-turbo, the one parser written in C, is looked into as well. Its assembly can't be.
export CC=clang CFLAGS="-fsanitize=address,fuzzer-no-link -g -O1"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/fuzz

seeds() {
    case $1 in
        pictures) echo tests/pixels/{fixtures,heif,tiff} ;;
        *) echo "fuzz/seeds/$1" ;;
    esac
}

for target in ${1:-exif frames messages pictures png tiff tokenizer webp}; do
    say "Fuzzing $target for ${2:-1200} s"
    mkdir -p "fuzz/corpus/$target"
    # shellcheck disable=SC2046  # several folders
    cargo fuzz run "$target" "fuzz/corpus/$target" $(seeds "$target") -- \
        -max_total_time="${2:-1200}" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=65536 -print_final_stats=1
done
