#!/usr/bin/env bash
# Puts what `make bench` printed into docs/figures.md, and its first table into README.md and, in its words, README.zh.md,
# between the marks there.
#   scripts/figures.sh [REPORT.md]
set -euo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/lib.sh

report=${1:-bench-report/report.md}
[ -f "$report" ] || die "there is no $report: run make bench first."
grep -q '^## Each stage' "$report" || die "$report has no table of stages: run make bench with at least one round."
for readme in README.md README.zh.md; do
    for mark in '<!-- figures -->' '<!-- /figures -->'; do
        grep -qx "$mark" "$readme" || die "$readme has lost its mark $mark."
    done
done

fact() { sed -n "s/^- $1: //p" "$report" | head -1; }
# The lines below a heading, to the next one, without the empty ones.
section() { awk -v name="## $1" 'index($0, "## ") == 1 { on = index($0, name) == 1; next } on && NF' "$report"; }

figures() {
    section 'Each stage'
    echo
    echo "Printed by $(fact Command), $(fact Date), on $(fact Machine); $(fact 'Other work on it')."
    echo "All times in milliseconds, on $(fact Model); the picture is $(fact Picture)."
}
in_chinese() { sed -E -f scripts/figures.zh.sed; }

# put FILE: what comes in goes between its marks.
put() {
    {
        sed '/^<!-- figures -->$/q' "$1"
        echo
        cat
        echo
        sed -n '/^<!-- \/figures -->$/,$p' "$1"
    } > "$new"
    cat "$new" > "$1"
}

new=$(mktemp)
trap 'rm -f "$new"' EXIT
figures > "$new"
alike=$(in_chinese < "$new" | grep -v -e '^|--' -e '^$' | grep -Fx -f "$new" || true)
[ -z "$alike" ] || die "scripts/figures.zh.sed has no Chinese for: $alike"
cp "$report" docs/figures.md
figures | put README.md
figures | in_chinese | put README.zh.md
say "docs/figures.md, README.md and README.zh.md have the figures of $(fact Date)."
