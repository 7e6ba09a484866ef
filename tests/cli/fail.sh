#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# fail.sh - kvs send and kvs receive while single allocations, reads, writes, flushes or allocations of space
# fail (fail_nth.c), once or from then on. Each failure is told, or does no harm; nothing that was there is
# lost; what is not whole is not taken for whole, and can be gone on with. CONTRACT C9 C10 C19.
#
# A few calls of each kind in the check; KV_TEST_LONG=1 ('make long-fail'): each one.
# shellcheck disable=SC2317 # sweep calls them

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

shim=$builddir/tests/cli/.libs/fail_nth.so
source=$tmp/source.kv
kinds='memory read write flush space'
most=${KV_TEST_LONG:+100000}
most=${most:-3}
runs=0
told=0

# faulty KIND NTH ON COMMAND...: the NTH call of that kind fails; ON: all behind it, too
faulty() {
	local kind=$1 nth=$2 on=$3
	shift 3
	env LD_PRELOAD="$shim" KV_FAIL="$kind" KV_FAIL_NTH="$nth" ${on:+KV_FAIL_ON=1} \
		KV_FAIL_COUNT="$tmp/count" "$@"
}

# whole SNAP IMAGE: it has the snapshot, and that is what the source has
whole() {
	kvs dump "$2" --at "$1" > "$tmp/now" 2> /dev/null && cmp -s "$tmp/want.$1" "$tmp/now"
}

# complain TEXT: what was wrong, and how to repeat it
complain() {
	failed=1
	diag "$1: status $status, $kind $nth${on:+ and all later}: $(head -c 300 "$tmp/err")"
}

# answered: it was told, in words, and nothing crashed
answered() {
	runs=$((runs + 1))
	[ "$status" -lt 128 ] || complain 'a signal'
	[ "$status" -eq 0 ] || told=$((told + 1))
	[ "$status" -eq 0 ] || grep -q '^kvs: ' "$tmp/err" || complain 'no message'
}

# sweep TEXT FUNCTION: FUNCTION for calls of each kind that it makes
sweep() {
	local text=$1 fn=$2 calls step
	for kind in $kinds; do
		failed=0
		nth=0 on=''
		"$fn"
		[ "$status" -eq 0 ] || complain 'without a failure'
		calls=$(cat "$tmp/count")
		step=$((calls / most + 1))
		for ((nth = 1 + step / 3; nth <= calls; nth += step)); do
			for on in '' 1; do
				[ "$most" -gt 3 ] || [ $((nth / step % 2)) -eq "${on:-0}" ] || continue
				"$fn"
			done
		done
		is "$text: $kind, some of $calls" "$failed" 0
	done
}

awk 'BEGIN { srand(1); for (i = 0; i < 300; i++) printf "put\tkey%04d\t%0*d\n", i, 10 + int(rand() * 1500), i }' \
	> "$tmp/script"
kvs apply "$source" "$tmp/script" 2> /dev/null
kvs snap "$source" create one
awk 'BEGIN { for (i = 0; i < 300; i += 3) printf "put\tkey%04d\tchanged %0*d\n", i, i * 7, i
	for (i = 1; i < 300; i += 5) printf "del\tkey%04d\n", i
	print "tree\tother\nput\ta\tb" }' > "$tmp/script"
kvs apply "$source" "$tmp/script"
head -c 400000 /dev/urandom | kvs put "$source" large -
kvs snap "$source" create two
for snap in one two; do
	kvs dump "$source" --at "$snap" > "$tmp/want.$snap"
done
kvs send "$source" --snap one | kvs receive "$tmp/base.kv" 2> /dev/null
kvs send "$source" --snap two > "$tmp/whole"
kvs send "$source" --snap two --base one > "$tmp/increment"
cp "$source" "$tmp/before.kv"

# What comes out is the stream, or is not taken for one.
send_fails() {
	status=0
	faulty "$kind" "$nth" "$on" kvs send "$source" --snap two --base one > "$tmp/out" 2> "$tmp/err" ||
		status=$?
	answered
	cmp -s "$source" "$tmp/before.kv" || complain 'the source has changed'
	if cmp -s "$tmp/increment" "$tmp/out"; then return; fi
	[ "$status" -ne 0 ] || complain 'a stream that is none'
	cp "$tmp/base.kv" "$tmp/t.kv"
	! kvs receive "$tmp/t.kv" "$tmp/out" > "$tmp/token" 2>&1 || complain 'it was received'
	whole one "$tmp/t.kv" || complain 'the base is lost'
}
sweep 'send' send_fails

# IMAGE STREAM: after a failure, or not
receive_once() {
	status=0
	faulty "$kind" "$nth" "$on" kvs receive "$1" "$2" > "$tmp/token" 2> "$tmp/err" || status=$?
	answered
	if [ -e "$1" ] && [ -s "$1" ]; then
		kvs-fsck -n "$1" > /dev/null 2>&1 || complain 'kvs-fsck'
	fi
	if [ -e "$1" ] && kvs snap "$1" 2> /dev/null | grep -q '^two'; then
		whole two "$1" || complain 'a part is taken for the whole'
	elif [ "$status" -eq 0 ]; then
		complain 'nothing is there'
	fi
	kvs receive "$1" "$2" > /dev/null 2> "$tmp/again" || grep -q 'here already' "$tmp/again" ||
		complain "receiving again: $(head -c 200 "$tmp/again")"
	whole two "$1" || complain 'not whole after receiving again'
}

increment_fails() {
	cp "$tmp/base.kv" "$tmp/t.kv"
	receive_once "$tmp/t.kv" "$tmp/increment"
	whole one "$tmp/t.kv" || complain 'the base is lost'
}
sweep 'receive an increment' increment_fails

new_fails() {
	rm -f "$tmp/n.kv"
	receive_once "$tmp/n.kv" "$tmp/whole"
}
sweep 'receive a whole volume' new_fails

diag "$runs runs, $told failures told"
check 'failures were told' test "$told" -gt $((runs / 4))
finish
