#!/usr/bin/env bash
# Runs go test: go-test.sh [FLAGS] -- PACKAGES. Machines on which this runs are busy and slow, and a test of many processes or machines can
# fail by that alone: up to three that fail run once more, each by itself. What passes then does not stop a change, but is told last, as
# unsteady: it is a fault, of the test or of the product, and its first output stays in out/test. What fails twice, a fourth failure, a
# panic or code that does not build counts at once; with STRICT=1 everything does.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p out/test
log=$(mktemp out/test/XXXXXX.log)
flags=()
while [[ $1 != -- ]]; do
	flags+=("$1")
	shift
done
shift
status=0
go test "${flags[@]}" "$@" </dev/null 2>&1 | tee "$log" || status=$?
if ((status == 0)); then
	rm "$log"
	exit 0
fi
# PACKAGE TEST, a line for each test that failed; a - where a package failed without one.
failed=$(awk '/^--- FAIL: / { tests[++n] = $3 }
	/^panic: |\[build failed\]|\[setup failed\]/ { print "-" }
	/^FAIL\t/ { if (!n) print "-"; for (i = 1; i <= n; i++) print $2, tests[i]; n = 0 }' "$log" | sort -u)
if [[ ${STRICT:-} == 1 || -z $failed ]] || grep -q '^-' <<<"$failed" || (($(wc -l <<<"$failed") > 3)); then
	exit "$status"
fi
while read -r package name; do
	echo
	echo "once more: $name of $package"
	go test "${flags[@]}" -count 1 -run "^$name\$" "$package" </dev/null || exit 1
done <<<"$failed"
echo
echo "unsteady: failed, and passed when they ran once more; see $log:"
sed 's/^/  /' <<<"$failed"
