#!/usr/bin/env bash
# What a build for NVIDIA's cards takes, also on a machine that has no card.
#   scripts/cuda.sh build     target/gpu/glimpse, without the demo
#   scripts/cuda.sh release   what `make dist` ships: with the demo, by zig for an old C library, and so that the driver and CUDA's
#                             libraries are opened as it runs: it starts where they are not
#   scripts/cuda.sh tests     target/gpu/gpu-tests: one binary that runs alone on a machine with a card
#   scripts/cuda.sh lint      clippy with the feature cuda, its kernels left out
#   scripts/cuda.sh kernels   registers, spills and shared memory of every kernel, as ptxas tells them
# With nvcc on the PATH or CUDA_HOME set, that toolkit is taken; otherwise CUDA 13.0's compiler and libraries come from
# PyPI, once, into .tools/cuda. CUDA_COMPUTE_CAP says for which cards: 80 A100, 86 3060, 89 4090, 90 H100 (the default here,
# where there is no card to ask). With GLIMPSE_CUBINS=ptx the tests for an older card run on a newer one.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

OUT=${CARGO_TARGET_DIR:-target}/gpu

# functions PART: the names that cudarc knows of a library.
functions() {
    local file
    for file in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"cudarc-$(cudarc_version)/src/$1/sys/mod.rs"; do
        sed -n 's/^pub unsafe fn \(\(cu\|nvrtc\)[A-Za-z0-9_]*\).*/\1/p' "$file" | grep -vx culib | sort -u
        return
    done
}

cudarc_version() { awk '$3 == "\"cudarc\"" { getline; gsub("\"", "", $3); print $3; exit }' Cargo.lock; }

setup() {
    scripts/setup.sh server
    if have nvidia-smi; then :; else export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}; fi
    if [ "${1:-}" != pypi ] && { [ -n "${CUDA_HOME:-}" ] || have nvcc; }; then return; fi
    local root=$TOOLS/cuda cuda
    if [ ! -e "$root/ready" ]; then
        say "Installing CUDA 13.0's compiler and libraries (NVIDIA's packages on PyPI) into $root"
        mkdir -p "$root/stub"
        python3 -m venv "$root/venv"
        "$root/venv/bin/pip" install -q --no-deps \
            nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85 \
            nvidia-cuda-runtime==13.0.96 nvidia-cuda-nvrtc==13.0.88 nvidia-curand==10.4.0.35 nvidia-cublas==13.0.2.14 ||
            die "CUDA's compiler could not be had: check the network, or install NVIDIA's CUDA toolkit (12 or 13), then run the same command again."
        cuda=$(echo "$root"/venv/lib/python3*/site-packages/nvidia/cu13)
        ln -sfn lib "$cuda/lib64"
        local file
        for file in "$cuda"/lib/*.so.*; do
            [ -e "${file%%.so.*}.so" ] || ln -s "$(basename "$file")" "${file%%.so.*}.so"
        done
        # The driver's library comes with the driver. One with nothing but its names is enough for the linker.
        cargo fetch --locked
        functions driver | sed 's/.*/void &(void) {}/' | cc -shared -fPIC -x c - -o "$root/stub/libcuda.so" -Wl,-soname,libcuda.so.1
        touch "$root/ready"
    fi
    cuda=$(echo "$root"/venv/lib/python3*/site-packages/nvidia/cu13)
    export CUDA_HOME=$cuda CUDA_PATH=$cuda CUDA_ROOT=$cuda NVCC=$cuda/bin/nvcc PATH=$cuda/bin:$PATH
    export LIBRARY_PATH=$cuda/lib:$root/stub${LIBRARY_PATH:+:$LIBRARY_PATH}
}

# A toolkit whose libraries are stand-ins (packaging/lazy.py), after setup: each returns what says that there is no card, no
# library. Whatever else is linked is the runtime, from an archive. To the linker each is a shared library, since for nothing else
# does zig look: a script that names the file.
opened_as_it_runs() {
    local open=$TOOLS/cuda/open real=$CUDA_HOME part library status folder
    archive() { echo "INPUT($2)" >"$open/lib64/$1.so"; }
    rm -rf "$open"
    mkdir -p "$open/lib64"
    for folder in bin include nvvm; do ln -s "$real/$folder" "$open/$folder"; done
    while read -r part library status; do
        functions "$part" | python3 packaging/lazy.py "$library" "$status" |
            cc -c -O2 -fPIC -x c - -o "$open/lib64/$part.o"
        archive "${library%%.so.*}" "$open/lib64/$part.o"
    done <<-'EOF'
	driver libcuda.so.1 100
	cublas libcublas.so.13 1
	cublaslt libcublasLt.so.13 1
	curand libcurand.so.10 203
	nvrtc libnvrtc.so.13 11
	EOF
    archive libcudart "$real/lib/libcudart_static.a"
    export CUDA_HOME=$open CUDA_PATH=$open CUDA_ROOT=$open LIBRARY_PATH=$open/lib64
}

FLAGS=(--locked --release --no-default-features --features cuda)

case ${1:-} in
    build)
        setup
        cargo build "${FLAGS[@]}" --features cluster,formats,mcp -p glimpse --bin glimpse
        mkdir -p "$OUT"
        cp "${CARGO_TARGET_DIR:-target}/release/glimpse" "$OUT/glimpse"
        gzip -9 -kf "$OUT/glimpse"
        say "$OUT/glimpse is there, and packed as glimpse.gz."
        ;;
    release)
        setup pypi
        opened_as_it_runs
        cargo zigbuild --locked --release --features cuda -p glimpse --bin glimpse --target "${GLIMPSE_ZIG:-x86_64-unknown-linux-gnu.2.28}"
        ;;
    tests)
        setup
        built=$(cargo test "${FLAGS[@]}" -p glimpse-model --no-run --test gpu --message-format json-render-diagnostics |
            sed -n 's/.*"executable":"\([^"]*gpu[^"]*\)".*/\1/p' | tail -1)
        [ -n "$built" ] || die "The tests did not compile: see above."
        mkdir -p "$OUT"
        cp "$built" "$OUT/gpu-tests"
        strip "$OUT/gpu-tests"
        gzip -9 -kf "$OUT/gpu-tests"
        say "$OUT/gpu-tests is there: copy it to a machine with a card and run it (--nocapture tells what was skipped)."
        ;;
    lint)
        setup
        GLIMPSE_CUBINS=none cargo clippy "${FLAGS[@]}" -p glimpse-model -p glimpse-engine --lib --test gpu -- -D warnings
        GLIMPSE_CUBINS=none cargo clippy "${FLAGS[@]}" --features cluster,formats,mcp -p glimpse -p glimpse-bench --lib --bins -- -D warnings
        ;;
    kernels)
        setup
        arch=${CUDA_COMPUTE_CAP:-90}
        [ "$arch" != 90 ] || arch=90a
        for file in server/model/cuda/*.cu; do
            case $file in */hopper*.cu) [ "$arch" = 90a ] || continue ;; esac
            "${NVCC:-nvcc}" -cubin -O3 -std=c++17 "-arch=sm_$arch" -Xptxas -v -o /dev/null "$file" 2>&1 |
                awk '/Compiling entry/ { split($0, a, "\x27"); name = a[2] }
                     /spill stores/ { spill = $0; sub(/.*frame, /, "", spill) }
                     /Used/ { used = $0; sub(/.*Used/, "", used); printf "%-36s%s; %s\n", name, used, spill }'
        done
        ;;
    *) die "cuda.sh knows build, release, tests, lint and kernels." ;;
esac
