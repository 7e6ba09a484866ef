#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# gc.sh - kvs gc: overwritten values give their space back, nothing else changes, a signal does no harm.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

image=$tmp/gc.kv

# lines ROUND: a script of kvs apply that sets a part of 4000 keys to values of 2000 bytes
lines() {
	awk -v round="$1" 'BEGIN {
		srand(round)
		for (i = 0; i < 4000; i++)
			if (round == 0 || rand() < 0.6)
				printf "put\tkey%05d\t%s%0*d\n", i, "r" round "-", 2000, i * 7919 + round
	}'
}

for round in 0 1 2; do
	lines "$round" > "$tmp/script"
	check "round $round" kvs apply "$image" "$tmp/script"
done
kvs dump "$image" > "$tmp/before"
kvs gc "$image" > "$tmp/said" || not_ok 'kvs gc'
is 'the output says what was done' "$(sed -E 's/[0-9]+/N/g' "$tmp/said")" \
	'moved N bytes; log N -> N bytes, of them live N'
read -r before after < <(sed -E 's/.*log ([0-9]+) -> ([0-9]+) .*/\1 \2/' "$tmp/said")
if [ "$after" -lt $((before * 7 / 10)) ]; then
	ok "the log went from $before to $after bytes"
else
	not_ok "the log went from $before to $after bytes, wanted at most 70 %"
fi
kvs dump "$image" > "$tmp/now"
check 'the content is the same' cmp "$tmp/before" "$tmp/now"
check 'kvs check' kvs check "$image"
check 'kvs-fsck' kvs-fsck -n "$image"
check 'once more: nothing to do' kvs gc "$image"

lines 3 > "$tmp/script"
check 'another round' kvs apply "$image" "$tmp/script"
kvs dump "$image" > "$tmp/before"
code=0
timeout --preserve-status --signal=INT 0.03 kvs gc "$image" > /dev/null 2>&1 || code=$?
if [ "$code" = 0 ] || [ "$code" = 130 ]; then
	ok "interrupted: exit status $code"
else
	not_ok "interrupted: exit status $code"
fi
kvs dump "$image" > "$tmp/now"
check 'nothing is lost' cmp "$tmp/before" "$tmp/now"
check 'it goes on' kvs gc "$image"
kvs dump "$image" > "$tmp/now"
check 'the same content again' cmp "$tmp/before" "$tmp/now"
check 'kvs check again' kvs check "$image"
check 'not through a mount' expect 2 kvs gc mount:/nowhere
check 'a missing image' expect 5 kvs gc "$tmp/none.kv"
finish
