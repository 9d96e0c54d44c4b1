#!/usr/bin/env bash
# Asks Glimpse with nothing but a shell and websocat (https://github.com/vi/websocat, version 1).
#   examples/websocat.sh 'How many boats are there?' [PICTURE]          GLIMPSE_URL=ws://127.0.0.1:8080/ws
# Prints every message as it comes, the last being the answer's end.
set -euo pipefail

question=$1 picture=${2:-}

# websocat's lines: T is a text frame, B a binary one in base64.
coproc SOCKET {
    exec websocat --no-close --buffer-size 131072 --text-prefix T --binary-prefix B --base64 \
        --protocol glimpse.v1 "${GLIMPSE_URL:-ws://127.0.0.1:8080/ws}"
}
exec {to}>&"${SOCKET[1]}" {from}<&"${SOCKET[0]}"
socket=$SOCKET_PID
trap 'kill "$socket" 2>/dev/null || true' EXIT

say() { printf 'T%s\n' "$1" >&"$to"; }
quoted() { printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g'; }

upload=
if [ -n "$picture" ]; then
    bytes=$(($(wc -c <"$picture")))
    say "{\"type\":\"upload\",\"upload\":1,\"bytes\":$bytes}"
    for ((piece = 0; piece * 65536 < bytes; piece++)); do
        # The upload's number in four bytes, then the file's.
        printf 'B%s\n' "$({ printf '\0\0\0\1' && dd if="$picture" bs=65536 skip=$piece count=1 status=none; } | base64 -w 0)" >&"$to"
    done
    upload=',"upload":1'
fi
say "{\"type\":\"ask\",\"request\":\"1\",\"text\":\"$(quoted "$question")\"$upload}"

while read -r line <&"$from"; do
    printf '%s\n' "${line#T}"
    case $line in
        *'"type":"done"'*) exit 0 ;;
        *'"type":"error"'*) exit 1 ;;
    esac
done
exit 1
