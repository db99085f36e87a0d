#!/usr/bin/env bash
# Runs the fuzz targets of the module for a time each: fuzz.sh TIME [REGEXP], where the expression chooses among lines like
# 'hw/luks FuzzHeader'. New failing inputs land in the package's testdata/fuzz, ready to be committed as regressions; the
# grown corpus stays in out/cache/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?usage: fuzz.sh TIME [REGEXP], for example fuzz.sh 30s '^hw/luks '}
chosen=${2:-.}
workers=${GOMAXPROCS:-2}
module=$(go list -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

targets=0 failed=0
# Found by their declaration, not by `go test -list`: that would link every test binary of the module to find a few.
while IFS= read -r dir; do
	mapfile -t names < <(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*testing\.F).*/\1/p' "$dir"/*_test.go | sort -u |
		sed "s|^|$dir |" | { grep -E -- "$chosen" || true; } | sed 's/.* //')
	((${#names[@]})) || continue
	cache=$PWD/out/cache/fuzz/$module/$dir
	mkdir -p "$cache"
	# One instrumented binary a package, for all its targets.
	go test -c -fuzz=. -o "$work/fuzz.test" "./$dir"
	for name in "${names[@]}"; do
		targets=$((targets + 1))
		# Without minimizing: of inputs as large as a disk's header it takes a minute each, in which nothing else is tried.
		run() {
			(cd "$dir" && "$work/fuzz.test" -test.run '^$' -test.fuzz "^$name\$" -test.fuzztime "$time" -test.fuzzminimizetime 0s \
				-test.fuzzcachedir "$cache" -test.parallel "$workers" </dev/null >"$work/log" 2>&1)
		}
		# A worker that is still busy when the time is up may fail the run with nothing but 'context deadline exceeded':
		# that, with no failing input, says nothing about the target. Try again; a busy machine may take a few.
		tries=1
		until run || ((tries == 5)) || ! grep -q 'context deadline exceeded' "$work/log" || grep -q 'Failing input written' "$work/log"; do
			tries=$((tries + 1))
		done
		if tail -n 1 "$work/log" | grep -qx PASS; then
			echo "fuzz ok   $dir $name: $(sed -n 's/^fuzz: elapsed: .*execs: \([0-9]*\).*/\1/p' "$work/log" | tail -n 1) inputs"
		else
			failed=$((failed + 1))
			echo "fuzz FAIL $dir $name"
			cat "$work/log"
		fi
	done
done < <(git ls-files -co --exclude-standard '*_test.go' | xargs -r grep -l '^func Fuzz[A-Za-z0-9_]*(.*testing\.F)' | xargs -rn1 dirname | sort -u)
echo "fuzz: $targets targets, $failed failed"
((targets > 0 && failed == 0))
