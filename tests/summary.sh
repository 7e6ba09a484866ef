#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# summary.sh [-e N] DIRECTORY... - add up the results (*.trs) of the test harness below the directories,
# name what did not pass, and end with the line "N passed, M failed". Only PASS is passed: a skipped
# test, an expected failure, a test without a plan count as failed. -e N: that many failures more, which
# left no result (a build that broke). Exit code 1 unless all passed.

set -euo pipefail

extra=0
if [ "${1:-}" = -e ]; then
	extra=$2
	shift 2
fi
[ $# -gt 0 ] || {
	echo "usage: summary.sh [-e N] DIRECTORY..." >&2
	exit 2
}

# The harness leaves for each test x.trs, with one ":test-result:" a check, and x.log, with the output
# and a line such as "FAIL: tests/x 3 - text" behind each check.
find "$@" -name '*.trs' -print0 | sort -z > "${TMPDIR:-/tmp}/kvs-summary.$$"
trap 'rm -f "${TMPDIR:-/tmp}/kvs-summary.$$"' EXIT
passed=0
failed=$extra
tests=0
while IFS= read -r -d '' trs; do
	good=$(grep -c '^:test-result: PASS' "$trs" || true)
	all=$(grep -c '^:test-result: ' "$trs" || true)
	tests=$((tests + 1))
	passed=$((passed + good))
	[ "$all" -ne "$good" ] || [ "$all" -eq 0 ] || continue
	log=${trs%.trs}.log
	if [ "$all" -eq 0 ]; then
		echo "ERROR: no result   ($log)"
		failed=$((failed + 1))
		continue
	fi
	failed=$((failed + all - good))
	{ grep -aE '^(FAIL|ERROR|SKIP|XFAIL|XPASS): ' "$log" || echo "FAIL: $trs"; } | cut -c 1-300 |
		awk -v n=20 'NR <= n { print } END { if (NR > n) print "... and " NR - n " more" }'
	echo "    $log"
done < "${TMPDIR:-/tmp}/kvs-summary.$$"

if [ "$tests" -eq 0 ]; then
	echo "no test has left a result: was it built?"
	failed=$((failed + 1))
fi
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
