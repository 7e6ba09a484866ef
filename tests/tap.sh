# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# tap.sh - what shell tests share: TAP output and a scratch directory. Source it first:
#
#	. "${srcdir:?}/tests/tap.sh"
#	check 'get of a missing key gives 1' expect 1 kvs get "$tmp/a.kv" nokey
#	kvs get "$tmp/a.kv" key > "$tmp/out"
#	same 'get gives what put stored' "$tmp/want" "$tmp/out"
#	finish
#
# $srcdir and $builddir are absolute; $builddir is in PATH, so that kvs, kvs-fsck and kvbench are the
# ones just built. By hand: srcdir=$PWD builddir=$PWD/build bash tests/cli/x.sh
# finish prints the plan; a script that ends before it has no plan, and so has failed.

set -euo pipefail

: "${srcdir:?set it to the source tree}" "${builddir:?set it to the build directory}"
case $PATH in
"$builddir":*) ;;
*) PATH=$builddir:$PATH ;;
esac

tap_count=0
tap_failed=0
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kvs-test.XXXXXX")
# A test with more to clean up (mounts, processes) defines tap_cleanup.
tap_cleanup() { :; }
tap_exit() {
	local status=$?

	trap - EXIT
	tap_cleanup || true
	rm -rf "$tmp"
	exit "$status"
}
trap tap_exit EXIT

# ok TEXT: the check passed.
ok() {
	tap_count=$((tap_count + 1))
	printf 'ok %d - %s\n' "$tap_count" "$1"
}

# not_ok TEXT [DETAIL...]: the check failed; details are shown as comments.
not_ok() {
	tap_count=$((tap_count + 1))
	tap_failed=$((tap_failed + 1))
	printf 'not ok %d - %s\n' "$tap_count" "$1"
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" | sed 's/^/#   /'
}

# diag TEXT...: a remark that is no check.
diag() {
	printf '%s\n' "$@" | sed 's/^/# /'
}

# check TEXT COMMAND...: passes if the command gives 0. Its output is shown if not.
check() {
	local text=$1 status=0
	shift
	"$@" > "$tmp/tap.out" 2>&1 < /dev/null || status=$?
	if [ "$status" -eq 0 ]; then
		ok "$text"
	else
		not_ok "$text" "exit code $status: $*" "$(head -n 40 "$tmp/tap.out")"
	fi
}

# expect CODE COMMAND...: gives 0 if the command exits with that code. Keeps its stdin and output.
expect() {
	local want=$1 status=0
	shift
	"$@" || status=$?
	[ "$status" -eq "$want" ] || {
		echo "expected exit code $want, got $status: $*"
		return 1
	}
}

# is TEXT GOT WANT: compares two strings.
is() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		not_ok "$1" "got:  $(printf '%q' "$2")" "want: $(printf '%q' "$3")"
	fi
}

# like TEXT GOT REGEX: extended regular expression.
like() {
	if [[ $2 =~ $3 ]]; then
		ok "$1"
	else
		not_ok "$1" "got:  $(printf '%q' "$2")" "want: /$3/"
	fi
}

# same TEXT FILE FILE: compares two files byte by byte.
same() {
	check "$1" cmp "$2" "$3"
}

# told CODE REGEX COMMAND...: exits with that code, and says what matches on standard error. Output is in
# $tmp/out, messages in $tmp/err.
told() {
	local code=$1 regex=$2 got=0
	shift 2
	"$@" > "$tmp/out" 2> "$tmp/err" || got=$?
	if [ "$got" -eq "$code" ] && [[ $(cat "$tmp/err") =~ $regex ]]; then
		ok "$code, '$regex': $*"
	else
		not_ok "$code, '$regex': $*" "status $got" "$(cat "$tmp/err")"
	fi
}

# skip TEXT WHY: something is missing here. It counts as failed in the sum: what CI cannot run, nobody
# proves.
skip() {
	tap_count=$((tap_count + 1))
	printf 'ok %d - %s # SKIP %s\n' "$tap_count" "$1" "$2"
}

# finish: print the plan; the exit code tells the rest.
finish() {
	printf '1..%d\n' "$tap_count"
	[ "$tap_failed" -eq 0 ] || exit 1
	exit 0
}
