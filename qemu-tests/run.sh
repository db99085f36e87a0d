#!/usr/bin/env bash
# Runs tests that boot machines, one package after another, and closes with the minutes that each test took:
# run.sh [go test flags] -- PACKAGES. See tests/go-test.sh for what happens to a test that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
tests/go-test.sh -v -count 1 -p 1 -timeout 80m "$@" | tee "$log" || status=$?
echo
echo "minutes a test:"
sed -n 's/^--- \([A-Z]*\): \([^ ]*\) (\([0-9.]*\)s)$/\1 \2 \3/p' "$log" | sort -k3,3nr |
	awk '{ printf "  %6.2f  %-4s  %s\n", $3/60, $1, $2; sum += $3 } END { printf "  %6.2f  in all\n", sum/60 }'
exit "$status"
