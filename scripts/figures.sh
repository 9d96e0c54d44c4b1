#!/usr/bin/env bash
# Puts what `make bench` printed into docs/figures.md, and its first table into README.md, between the marks there.
#   scripts/figures.sh [REPORT.md]
set -euo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/lib.sh

report=${1:-bench-report/report.md}
[ -f "$report" ] || die "there is no $report: run make bench first."
grep -q '^## Each stage' "$report" || die "$report has no table of stages: run make bench with at least one round."

fact() { sed -n "s/^- $1: //p" "$report" | head -1; }
# The lines below a heading, to the next one, without the empty ones.
section() { awk -v name="## $1" 'index($0, "## ") == 1 { on = index($0, name) == 1; next } on && NF' "$report"; }

new=$(mktemp)
trap 'rm -f "$new"' EXIT
{
    sed '/^<!-- figures -->$/q' README.md
    echo
    section 'Each stage'
    echo
    echo "$(fact Command | sed 's/^/Printed by /'), $(fact Date), on $(fact Machine); $(fact 'Other work on it'). All times in"
    echo "milliseconds, on $(fact Model); the picture is $(fact Picture)."
    echo
    sed -n '/^<!-- \/figures -->$/,$p' README.md
} > "$new"
grep -q '^<!-- /figures -->$' "$new" || die "README.md has lost its marks <!-- figures --> and <!-- /figures -->."
cp "$report" docs/figures.md
cat "$new" > README.md
say "docs/figures.md and README.md have the figures of $(fact Date)."
