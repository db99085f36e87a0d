#!/usr/bin/env bash
# Runs go test: go-test.sh [FLAGS] -- PACKAGES. Machines on which this runs are busy and slow, and a test of many processes or machines can
# fail by that alone: up to three that fail run once more, each by itself. What passes then does not stop a change, but is told last, as
# unsteady: it is a fault, of the test or of the product, and its first output stays in out/test. What fails twice, a fourth failure, a
# panic or code that does not build counts at once; with STRICT=1 everything does. What failed is shown once more in the end, without what
# else was printed meanwhile.
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
# what_failed LOG: what the tests that failed have printed, with -v the last 150 lines of each.
what_failed() {
	awk '/^=== RUN   [^\/]*$/ { verbose = 1; n = 0 }
		/^(--- |FAIL|PASS|ok )/ { follows = 0 }
		{ text[n++ % 150] = $0 }
		/^--- FAIL: / {
			print "\nfailed: " $3
			for (i = verbose && n > 150 ? n - 150 : verbose ? 0 : n - 1; i < n; i++) print text[i % 150]
			follows = !verbose
			next
		}
		follows' "$1"
}
if [[ ${STRICT:-} == 1 || -z $failed ]] || grep -q '^-' <<<"$failed" || (($(wc -l <<<"$failed") > 3)); then
	what_failed "$log"
	exit "$status"
fi
while read -r package name; do
	echo
	echo "once more: $name of $package"
	if ! go test "${flags[@]}" -count 1 -run "^$name\$" "$package" </dev/null 2>&1 | tee "$log.again"; then
		what_failed "$log"
		what_failed "$log.again"
		exit 1
	fi
	rm "$log.again"
done <<<"$failed"
what_failed "$log"
echo
echo "unsteady: failed, and passed when they ran once more; see $log:"
sed 's/^/  /' <<<"$failed"
