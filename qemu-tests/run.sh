#!/usr/bin/env bash
# Runs tests that boot machines, one package after another, and closes with the minutes that each test took:
# run.sh [go test flags] PACKAGES. A test that failed because the emulator killed its machine's kernel (diedOfEmulation in
# qemu-tests/vm) says nothing: where all failures are of that kind, those tests run once more, and that counts.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
go test -v -count 1 -p 1 -timeout 80m "$@" </dev/null 2>&1 | tee "$log" || status=$?
killed=$(awk '/^=== RUN   [^\/]*$/ { test = $3; dead = 0 }
	/: the emulator ended it: / { dead = 1 }
	/^--- FAIL: / { if (!dead || $3 != test) { print "-"; exit } print test }' "$log" | paste -sd '|' -)
if ((status != 0)) && [[ -n $killed && $killed != *-* ]] && ! grep -q '^panic: ' "$log"; then
	echo
	echo "once more, for the emulator ended their machines: $killed"
	status=0
	go test -v -p 1 -timeout 80m "$@" -run "^($killed)\$" -count 1 </dev/null 2>&1 | tee -a "$log" || status=$?
fi
echo
echo "minutes a test:"
sed -n 's/^--- \([A-Z]*\): \([^ ]*\) (\([0-9.]*\)s)$/\1 \2 \3/p' "$log" | sort -k3,3nr |
	awk '{ printf "  %6.2f  %-4s  %s\n", $3/60, $1, $2; sum += $3 } END { printf "  %6.2f  in all\n", sum/60 }'
exit "$status"
