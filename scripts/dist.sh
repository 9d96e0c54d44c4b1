#!/usr/bin/env bash
# Makes what a release holds, in target/dist (CARGO_TARGET_DIR says where else):
#   scripts/dist.sh            everything, and then `check`
#   scripts/dist.sh cpu        the program with page and demo, for every x86-64 Linux since glibc 2.28
#   scripts/dist.sh cuda 90    the same for a kind of NVIDIA's cards (80, 86, 89, 90): the driver and cuBLAS are opened as it runs
#   scripts/dist.sh deb        the first of these as a Debian package, with a service and man pages
#   scripts/dist.sh sbom       what is in it, as a CycloneDX document
#   scripts/dist.sh sums       SHA256SUMS of what is there
#   scripts/dist.sh check      whether what is there is what it should be
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

TARGET=$(realpath -m "${CARGO_TARGET_DIR:-target}")
OUT=$TARGET/dist
TRIPLE=x86_64-unknown-linux-gnu
GLIBC=2.28
CARDS=(80 86 89 90)
VERSION=$(awk -F '"' '/^\[workspace.package\]/ { here = 1 } here && /^version/ { print $2; exit }' Cargo.toml)
BESIDE=$TARGET/$TRIPLE/release
BUILT=$BESIDE/glimpse
# Archives are the same, whenever they are made of the same.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

# The page first, since the program holds it; what compiles for an old C library after it.
setup() {
    scripts/setup.sh server page dist
    scripts/page.sh
    PATH=$PWD/.venv-dist/bin:$PATH
    mkdir -p "$OUT"
}

# zigbuild ARGS…: cargo's build with zig as linker and as compiler of what is C, against the C library of $GLIBC.
zigbuild() { cargo zigbuild --locked --release --target "$TRIPLE.$GLIBC" -p glimpse --bin glimpse "$@"; }

# archive NAME: the program that was built last, and what has to be with it.
archive() {
    local folder
    folder=$(mktemp -d)
    mkdir "$folder/$1"
    install -m 755 "$BUILT" "$folder/$1/glimpse"
    install -m 644 README.md README.zh.md LICENSE-APACHE LICENSE-MIT packaging/glimpse.service "$folder/$1/"
    python3 packaging/licences.py "$TRIPLE" >"$folder/$1/THIRD-PARTY.txt"
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$folder" -c "$1" | gzip -9n >"$OUT/$1.tar.gz"
    rm -rf "$folder"
    say "$OUT/$1.tar.gz is there."
}

cpu() {
    zigbuild
    archive "glimpse-$VERSION-linux-x86_64"
}

# Each kind of card has kernels of its own; the rest of the build is shared.
cuda() {
    CUDA_COMPUTE_CAP=$1 GLIMPSE_ZIG=$TRIPLE.$GLIBC scripts/cuda.sh release
    archive "glimpse-$VERSION-linux-x86_64-cuda$1"
}

# man NAME COMMAND TITLE: a page made of what --help says.
man() {
    help2man --no-info --no-discard-stderr --version-string="glimpse $VERSION" --source="glimpse $VERSION" -n "$3" "$2" |
        sed "s/^\.TH .*/.TH ${1^^} 1 \"\" \"glimpse $VERSION\" \"User Commands\"/" | gzip -9n >"$BESIDE/man/$1.1.gz"
}

deb() {
    [ -x "$BUILT" ] || zigbuild
    local command title
    rm -rf "$BESIDE/man"
    mkdir -p "$BESIDE/man"
    man glimpse "$BUILT" "answers questions about a picture, on your own hardware"
    "$BUILT" help | sed -n '/^Commands:/,/^$/s/^  \([a-z]\+\)  *\(.*\)/\1\t\2/p' | while IFS=$'\t' read -r command title; do
        [ "$command" = help ] || man "glimpse-$command" "$BUILT $command" "$title"
    done
    python3 packaging/licences.py "$TRIPLE" >"$BESIDE/THIRD-PARTY.txt"
    cargo deb --no-build --no-strip --locked -p glimpse --target "$TRIPLE" --output "$OUT/glimpse_${VERSION}_amd64.deb"
}

# In a copy, since it writes beside every Cargo.toml.
sbom() {
    local copy
    copy=$(mktemp -d)
    git ls-files -z | xargs -0 cp --parents -t "$copy"
    (cd "$copy" && cargo cyclonedx --manifest-path server/Cargo.toml --format json --spec-version 1.5 --target "$TRIPLE" --override-filename glimpse --quiet)
    cp "$copy/server/glimpse.json" "$OUT/glimpse-$VERSION.cdx.json"
    rm -rf "$copy"
}

sums() { (cd "$OUT" && sha256sum -- *.tar.gz *.deb *.json >SHA256SUMS); }

check() { python3 packaging/check.py "$OUT" "$VERSION" "$GLIBC"; }

case ${1:-all} in
    all)
        setup
        rm -rf "${OUT:?}"/*
        cpu
        deb
        for card in "${CARDS[@]}"; do cuda "$card"; done
        sbom
        sums
        check
        ;;
    cpu | deb | sbom) setup && "$1" ;;
    cuda)
        [[ " ${CARDS[*]} " == *" ${2:-none} "* ]] || die "Say for which cards: scripts/dist.sh cuda 80, 86, 89 or 90."
        setup && cuda "$2"
        ;;
    sums | check) "$1" ;;
    *) die "dist.sh knows cpu, cuda, deb, sbom, sums and check, not '$1'." ;;
esac
