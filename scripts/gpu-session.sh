#!/usr/bin/env bash
# Everything that is to be known of a machine with a card, each part in its own time: the kernels' tests, the model's
# stages beside PyTorch's, and the whole server with a folder of the published size, plain and in 4 bits.
#   scripts/gpu-session.sh [OUT] [tests|stages|folder …]     all parts if none is named
# Needs target/gpu (scripts/cuda.sh build; scripts/cuda.sh tests), and for the comparisons Python with PyTorch. What each
# part says goes to OUT (default gpu-report), and its last lines to the terminal.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
out=${1:-gpu-report}
shift $(($# > 0 ? 1 : 0))
parts=("$@")
mkdir -p "$out"
bin=${CARGO_TARGET_DIR:-target}/gpu
# Packed they are small enough to be carried about.
for packed in "$bin"/*.gz; do
    [ -e "$packed" ] && [ "$packed" -nt "${packed%.gz}" ] && gunzip -kf "$packed"
done
config=tests/data/glm-4v-9b.config.json

# CUDA's libraries, where only Python has them.
nvidia=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
[ -z "$nvidia" ] || export LD_LIBRARY_PATH=$nvidia/cu13/lib:$nvidia/cublas/lib:$nvidia/curand/lib:${LD_LIBRARY_PATH:-}

wanted() { [ ${#parts[@]} -eq 0 ] || [[ " ${parts[*]} " == *" $1 "* ]]; }

# run SECONDS NAME COMMAND…
run() {
    local limit=$1 name=$2 start=$SECONDS
    shift 2
    echo "== $name"
    timeout "$limit" "$@" >"$out/$name.txt" 2>&1
    local status=$?
    tail -n "${LINES_SHOWN:-40}" "$out/$name.txt"
    echo "-- $name: status $status, $((SECONDS - start)) s"
}

# The card's memory in use, and this process's at its peak, four times a second until it ends.
watch_memory() {
    local pid=$1 file=$2 card
    while kill -0 "$pid" 2>/dev/null; do
        card=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits 2>/dev/null | sort -n | tail -1)
        echo "${card:-?} MiB card, $(awk '/VmHWM/ { print $2 " " $3 }' "/proc/$pid/status" 2>/dev/null) host" >>"$file"
        sleep 0.25
    done
}

# serve NAME SECONDS ARGS…: loads, answers about pictures over and over, and tells times and memory.
serve() {
    local name=$1 limit=$2 start=$SECONDS server
    shift 2
    : >"$out/$name.memory"
    "$bin/glimpse" serve --listen 127.0.0.1:18123 --log info,glimpse::device=debug "$@" >"$out/$name.log" 2>&1 &
    server=$!
    watch_memory "$server" "$out/$name.memory" &
    local watcher=$!
    for _ in $(seq "$((5 * limit))"); do
        sleep 0.2
        kill -0 "$server" 2>/dev/null || break
        curl -sf http://127.0.0.1:18123/readyz >/dev/null && break
    done
    echo "== $name: ready after $((SECONDS - start)) s" | tee "$out/$name.txt"
    timeout 60 "$bin/glimpse" bench --url ws://127.0.0.1:18123/ws --runs "${RUNS:-20}" --cold 0 --before none \
        --max-new-tokens 128 --out "$out/$name-bench" >>"$out/$name.txt" 2>&1
    tail -n "${LINES_SHOWN:-40}" "$out/$name.txt"
    grep -E " loaded | memory (for|in) " "$out/$name.log" | sed 's/\x1b\[[0-9;]*m//g'
    kill "$server" 2>/dev/null
    wait "$server" "$watcher" 2>/dev/null
    sort -n "$out/$name.memory" | tail -1
}

random=(--random-weights 1 --config "$config" --dtype bf16 --device cuda)

# It takes a minute, and the tests don't mind.
if wanted folder; then
    folder=$(mktemp -d)/glm-4v-9b
    trap 'rm -rf "$(dirname "$folder")"' EXIT
    run 240 write python3 tests/reference/write_full_size.py "$folder" &
    writer=$!
fi
if wanted tests; then
    run 240 tests "$bin/gpu-tests" --nocapture --test-threads 1
fi
if wanted folder; then
    wait "$writer"
fi
if wanted stages; then
    run 180 peer python3 tests/reference/peer_torch.py
    run 180 stages "$bin/glimpse" bench --stages "${random[@]}" --peer "$out/peer.txt"
    run 180 stages-q4 "$bin/glimpse" bench --stages "${random[@]}" --quantize q4 --peer "$out/peer.txt"
fi
# With the least memory for conversations, so that what is told is what the model itself takes.
if wanted folder; then
    serve folder 120 --model "$folder" --device cuda --cache-bytes 1
    serve folder-q4 120 --model "$folder" --device cuda --quantize q4 --max-batch 1 --cache-bytes 1
fi
