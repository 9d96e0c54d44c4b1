#!/usr/bin/env bash
# Everything that is to be known of a machine with a card, each part in its own time. What each says goes to OUT (default
# gpu-report), and its last lines to the terminal.
#   scripts/gpu-session.sh [OUT] [PART …]     all parts if none is named
#     tests       the kernels' tests
#     stages      the model's stages beside PyTorch's, plain, in 8-bit floats and in 4 bits
#     folder      the whole server with a folder of the published size, plain and in 4 bits
#     ready       how soon a model can be asked that has just come, from a hub on this machine
#     quality     what bf16, 8 bits, 8-bit floats and 4 bits do to the demo's answers (target/gpu/held-out: see below)
#     cards       four users on one card, and on all of them
#     sanitizer   the kernels' tests under compute-sanitizer, and what it found by kind
# Needs target/gpu (scripts/cuda.sh build; scripts/cuda.sh tests), and for some parts Python with PyTorch. The pictures and
# questions of `quality` come from `models/demo/train/evaluate.py --save target/gpu/held-out --small --each 12`, which needs
# the training's assets.
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
random=(--random-weights 1 --config "$config" --dtype bf16)
address=127.0.0.1:18123

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

# start NAME SECONDS ARGS…: a server, until it is ready or the time is over.
start() {
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    "$bin/glimpse" serve --listen "$address" --log info,glimpse_model::device=debug "$@" >"$out/$name.log" 2>&1 &
    server=$!
    for _ in $(seq "$((5 * limit))"); do
        sleep 0.2
        kill -0 "$server" 2>/dev/null || break
        curl -sf "http://$address/readyz" >/dev/null && break
    done
    echo "== $name: ready after $((SECONDS - start)) s"
}

# stop NAME: ends it, and tells what it logged of its model.
stop() {
    grep -E " computing | loaded | memory (for|in) " "$out/$1.log" | sed 's/\x1b\[[0-9;]*m//g'
    kill "$server" 2>/dev/null
    wait "$server" 2>/dev/null
}

# bench NAME SECONDS ARGS…: measures the server that was started, and tells the tables.
bench() {
    local name=$1 limit=$2
    shift 2
    timeout "$limit" "$bin/glimpse" bench --url "ws://$address/ws" --cold 0 --before none --max-new-tokens 128 \
        --out "$out/$name-bench" "$@" >"$out/$name.txt" 2>&1 || tail -n 5 "$out/$name.txt"
    awk '/^## / { on = !/What the stages/ } on && /^(## |\|)/ && !/^\|--|spans|exported/' "$out/$name.txt"
}

# serve NAME SECONDS ARGS…: loads, answers about pictures over and over, and tells times and memory.
serve() {
    local name=$1 limit=$2
    : >"$out/$name.memory"
    start "$@"
    watch_memory "$server" "$out/$name.memory" &
    local watcher=$!
    bench "$name" 150 --runs "${RUNS:-12}"
    stop "$name"
    wait "$watcher" 2>/dev/null
    sort -n "$out/$name.memory" | tail -1
}

# share NAME SECONDS ARGS…: four users at once, and what each card did meanwhile.
share() {
    local name=$1 watcher
    start "$@" --cache-bytes 4GiB
    nvidia-smi --query-gpu=index,memory.used,utilization.gpu --format=csv,noheader,nounits -lms 250 >"$out/$name.cards" &
    watcher=$!
    bench "$name" 90 --runs 0 --users 4 --duration 20
    kill "$watcher"
    wait "$watcher" 2>/dev/null
    awk -F', ' '{ if ($2 > most[$1]) most[$1] = $2; busy[$1] += $3; n[$1]++ }
        END { for (card in n) printf "card %s: %d MiB at most, busy for %.0f %% of the time\n", card, most[card], busy[card] / n[card] }' \
        "$out/$name.cards" | sort
    curl -sf "http://$address/metrics" >"$out/$name.metrics"
    grep -E '^glimpse_device_memory_(used|size)_bytes ' "$out/$name.metrics"
    stop "$name"
}

# The tokens a second of a load.
rate() { awk -F' [|] ' '/^[|] 4 users [|]/ { print $4; exit }' "$out/$1.txt"; }

# What compute-sanitizer found, by kind and kernel. "Program hit" is a call of the driver that failed, which the program may
# have expected; everything else is a fault of a kernel.
found() {
    awk 'function tell() { if (kind != "") print kind; kind = "" }
        /^=+ [^ ]/ { tell(); if (!/COMPUTE-SANITIZER|SUMMARY/) { kind = $0; sub(/^=+ /, "", kind) } }
        /^=+ +at / && kind !~ /^Program hit| at / { sub(/^=+ +/, ""); sub(/[+]0x.*/, ""); kind = kind " " $0 }
        END { tell() }' "$1" | sort | uniq -c | sort -rn
    grep -h 'ERROR SUMMARY' "$1" || echo "It did not come to its end."
}

# It takes a minute, and the tests don't mind.
if wanted folder || wanted ready; then
    folder=$(mktemp -d)/glm-4v-9b
    # In memory, since the disk may not hold the model twice.
    cache=$(mktemp -d -p /dev/shm)
    trap 'rm -rf "$(dirname "$folder")" "$cache"' EXIT
    run 240 write python3 tests/reference/write_full_size.py "$folder" &
    writer=$!
fi
if wanted tests; then
    run 240 tests "$bin/gpu-tests" --nocapture --test-threads 1
fi
if wanted folder || wanted ready; then
    wait "$writer"
fi
if wanted ready; then
    hub=http://127.0.0.1:18124
    python3 tests/hub/serve_folder.py "$folder" "${hub##*:}" >"$out/hub.txt" 2>&1 &
    serving=$!
    until grep -q "$hub" "$out/hub.txt"; do
        kill -0 "$serving" || break
        sleep 0.5
    done
    python3 tests/hub/time_to_ready.py "http://$address" >"$out/ready.txt" &
    asking=$!
    HF_ENDPOINT=$hub HF_HOME=$cache start ready-server 240 --model zai-org/glm-4v-9b --device cuda --cache-bytes 1
    # Whoever asks would go on asking one that has ended, or never is ready.
    curl -sf "http://$address/readyz" >/dev/null || kill "$asking"
    wait "$asking"
    cat "$out/ready.txt"
    stop ready-server
    kill "$serving"
    rm -rf "${cache:?}"/*
fi
if wanted stages; then
    run 180 peer python3 tests/reference/peer_torch.py
    run 180 stages "$bin/glimpse" bench --stages "${random[@]}" --device cuda --peer "$out/peer.txt"
    run 180 stages-fp8 "$bin/glimpse" bench --stages "${random[@]}" --device cuda --quantize fp8 --peer "$out/peer.txt"
    run 180 stages-q4 "$bin/glimpse" bench --stages "${random[@]}" --device cuda --quantize q4 --peer "$out/peer.txt"
fi
# With the least memory for conversations, so that what is told is what the model itself takes.
if wanted folder; then
    serve folder 120 --model "$folder" --device cuda --cache-bytes 1
    serve folder-q4 120 --model "$folder" --device cuda --quantize q4 --max-batch 1 --cache-bytes 1
fi
if wanted quality; then
    if [ -f "$bin/held-out/questions.jsonl" ]; then
        LINES_SHOWN=44 run 180 quality "$bin/glimpse" bench --agreement "$bin/held-out/questions.jsonl" --model models/demo --device cuda
    else
        echo "== quality: there is no $bin/held-out, so it is left out (this script's first lines say where it comes from)"
    fi
fi
if wanted cards; then
    model=("${random[@]}")
    [ -z "${folder:-}" ] || model=(--model "$folder")
    cards=$(nvidia-smi --list-gpus 2>/dev/null | wc -l)
    if [ "$cards" -gt 1 ]; then
        share card 120 "${model[@]}" --device cuda:0
        share cards 120 "${model[@]}" --device auto
        echo "four users: $(rate card) tokens/s on one card, $(rate cards) on $cards"
    else
        echo "== cards: there are not several here, so it is left out"
    fi
fi
if wanted sanitizer; then
    sanitizer=
    for place in "$(command -v compute-sanitizer)" "${CUDA_HOME:-/usr/local/cuda}"/{bin,compute-sanitizer}/compute-sanitizer \
        /usr/local/cuda*/{bin,compute-sanitizer}/compute-sanitizer "${nvidia:-/none}"/cu13/bin/compute-sanitizer; do
        [ -n "$sanitizer" ] || [ ! -x "$place" ] || sanitizer=$place
    done
    if [ -n "$sanitizer" ]; then
        rm -f "$out/sanitizer.log"
        LINES_SHOWN=4 run "${SANITIZER_SECONDS:-420}" sanitizer "$sanitizer" --tool memcheck --report-api-errors explicit \
            --print-limit 0 --log-file "$out/sanitizer.log" "$bin/gpu-tests" --nocapture --test-threads 1
        found "$out/sanitizer.log"
    else
        echo "== sanitizer: there is no compute-sanitizer here, so it is left out"
    fi
fi
