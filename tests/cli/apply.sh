#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# apply.sh - kvs apply: each word of a script, encodings, errors and what they leave, acknowledgement by echo,
# kill -9; and KVS_TEST_FIXED, which makes images repeat.

set -euo pipefail
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

img=$tmp/a.kv

# script LINE...: a line each, with a tab for each "|"
script() { printf '%s\n' "$@" | tr '|' '\t'; }

# fails TEXT CODE REGEX LINE...: the script gives this status and a message.
fails() {
	local text=$1 code=$2 regex=$3 status=0
	shift 3
	script "$@" | kvs apply "$img" - > "$tmp/out" 2> "$tmp/err" || status=$?
	if [ "$status" -eq "$code" ] && [[ $(cat "$tmp/err") =~ $regex ]]; then
		ok "$text"
	else
		not_ok "$text" "status $status" "$(cat "$tmp/err")"
	fi
}

script 'put|a|1' 'put|empty|' 'append|empty|x' 'append|empty|' 'append|empty|yz' 'inc|a' 'inc|a|0x10' 'dec|a|20' \
	'dec|a' 'echo|two words' 'put|gone|1' 'del|gone' 'tree|fruit' 'put|pear|green' 'append|pear|ish' \
	'tree|main' 'put|b|2' sync 'echo|end' > "$tmp/script"
kvs apply "$img" "$tmp/script" > "$tmp/out" 2> "$tmp/err"
like 'a new image is created' "$(cat "$tmp/err")" 'created a new volume'
is 'echo prints its text' "$(cat "$tmp/out")" $'two words\nend'
is 'put, append, inc, dec, del, tree' "$(kvs dump "$img")" '{"key":"a","value":"-3"}
{"key":"b","value":"2"}
{"key":"empty","value":"xyz"}
{"tree":"fruit","key":"pear","value":"greenish"}'
script 'put|p|1' | kvs apply "$img" -t fruit -
is '--tree is the tree at first' "$(kvs get "$img" -t fruit p)" 1
printf 'put\t00ff\t0a09\n' | kvs apply "$img" - --enc hex
is '--enc' "$(kvs get "$img" --enc hex 00ff)" 0a09
check 'an empty script' kvs apply "$img" /dev/null
head -c 900000 /dev/zero | tr '\0' v > "$tmp/long"
{ printf 'put\tlong\t'; cat "$tmp/long"; printf '\nappend\tlong\t'; cat "$tmp/long"; printf '\n'; } |
	kvs apply "$img" -
kvs get "$img" long > "$tmp/got"
cat "$tmp/long" "$tmp/long" > "$tmp/want"
same 'append to a value longer than a buffer' "$tmp/want" "$tmp/got"

fails 'no such word' 2 'line 2: no tree, put' 'put|c|1' 'get|c'
is 'what came before an error stays' "$(kvs get "$img" c)" 1
fails 'del of a missing key' 1 "no key 'none'.*
.*1 lines were carried out" 'put|c|2' 'del|none' 'put|c|3'
is 'and ends the script' "$(kvs get "$img" c)" 2
fails 'append to a missing key' 1 "line 1 of the script: no key 'none'" 'append|none|x'
fails 'inc of a missing key' 1 "no key 'none'" 'inc|none'
fails 'inc of a text' 2 'line 1 of the script: .*integer' 'inc|long'
fails 'inc by a text' 2 "'x' is not an integer" 'inc|a|x'
fails 'too few operands' 2 "line 1: 'put' takes 2 to 2 operands" 'put|c'
fails 'too many operands' 2 "'del' takes 1 to 1 operands" 'del|c|d'
fails 'an empty key' 2 'the key is empty' 'put||x'
fails 'a bad tree' 2 'line 1 of the script' "tree|$(printf 't%.0s' {1..65})"
printf 'put\tc\t7\nput\tc\t8' > "$tmp/half"
check 'half a line at the end is an error' expect 2 kvs apply "$img" "$tmp/half"
is 'and is not carried out' "$(kvs get "$img" c)" 7
printf 'put\tc\t\0\n' > "$tmp/zero"
check 'a zero byte is an error' expect 2 kvs apply "$img" "$tmp/zero"
{ printf 'put\tc\t'; head -c 1100000 /dev/zero | tr '\0' v; echo; } > "$tmp/toolong"
check 'a line longer than the limit is an error' expect 2 kvs apply "$img" "$tmp/toolong"
check 'no script' expect 3 kvs apply "$img" "$tmp/none"
check 'check after all that' kvs check "$img"

# What was said to be done survives the death of the process.
mkfifo "$tmp/in"
kvs apply "$tmp/k.kv" "$tmp/in" > "$tmp/out" 2> /dev/null & pid=$!
exec 7> "$tmp/in"
script 'put|k|1' 'inc|k' 'echo|done' >&7
for ((i = 0; i < 600; i++)); do
	[ ! -s "$tmp/out" ] || break
	sleep 0.05
done
kill -9 "$pid"
wait "$pid" 2> /dev/null || true
exec 7>&-
is 'echo comes at once' "$(cat "$tmp/out")" 'done'
is 'and what came before it survives kill -9' "$(kvs get "$tmp/k.kv" k)" 2

# ---- images that repeat
export KVS_TEST_FIXED=1700000000,5
for n in 1 2; do kvs apply "$tmp/f$n.kv" "$tmp/script" > /dev/null 2> "$tmp/err"; done
like 'KVS_TEST_FIXED says so' "$(cat "$tmp/err")" 'warning: KVS_TEST_FIXED is set'
same 'the same clock and seed: the same image' "$tmp/f1.kv" "$tmp/f2.kv"
export KVS_TEST_FIXED=1700000000,6
kvs apply "$tmp/f3.kv" "$tmp/script" > /dev/null 2>&1
check 'another seed: another image' expect 1 cmp -s "$tmp/f1.kv" "$tmp/f3.kv"
for bad in '' 1 0,1 1,0 1,2,3 x,1 1,x -1,1 1,-1 99999999999999999999,1; do
	export KVS_TEST_FIXED=$bad
	check "KVS_TEST_FIXED='$bad' is refused" expect 2 kvs get "$img" a
done
unset KVS_TEST_FIXED
finish
