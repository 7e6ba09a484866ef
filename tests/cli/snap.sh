#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# snap.sh - kvs snap and --at: a snapshot keeps what was there, and its space comes back.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

image=$tmp/snap.kv

# lines ROUND: a script of kvs apply: values in leaves and in the log, a second tree, a key that goes
lines() {
	awk -v round="$1" 'BEGIN {
		for (i = 0; i < 600; i++)
			printf "put\tkey%04d\t%s%0*d\n", i, "r" round "-", i % 3 ? 20 : 1500, i + round
		printf "del\tkey%04d\n", round
		printf "tree\tother%d\nput\ta\t%d\n", round % 2, round
	}'
}

for round in 0 1 2 3; do
	lines "$round" > "$tmp/script"
	kvs apply "$image" "$tmp/script" 2> /dev/null || not_ok "round $round"
	head -c 300000 /dev/urandom > "$tmp/large$round"
	kvs put "$image" large - < "$tmp/large$round"
	check "snapshot of round $round" kvs snap "$image" create "round $round"
	kvs dump "$image" > "$tmp/dump$round"
done
is 'the list' "$(kvs snap "$image" | cut -f1 | tr '\n' ,)" 'round 0,round 1,round 2,round 3,'
is 'the list as JSON' "$(kvs snap "$image" -o json | python3 -c \
	'import json, sys; print([s["snapshot"] for s in json.load(sys.stdin)])')" \
	"['round 0', 'round 1', 'round 2', 'round 3']"
kvs trees "$image" --drop other0 --force
kvs del "$image" --prefix key --force
for round in 0 1 2 3; do
	check "round $round: dump" cmp "$tmp/dump$round" <(kvs dump "$image" --at "round $round")
	check "round $round: a large value" cmp "$tmp/large$round" <(kvs get "$image" large --at "round $round")
	is "round $round: count" "$(kvs count "$image" --at "round $round")" 600
	is "round $round: scan" "$(kvs scan "$image" --at "round $round" -p key -k | wc -l)" 599
done
is 'trees of a snapshot' "$(kvs trees "$image" --at 'round 1')" $'main\t600\nother0\t1\nother1\t1'
is 'a tree of a snapshot' "$(kvs get "$image" a -t other0 --at 'round 2')" 2
is 'the volume as it is now' "$(kvs count "$image")" 1
check 'kvs-fsck' kvs-fsck -n "$image"

# status CODE REGEX ARGUMENT...: kvs gives that, and a message that matches
status() {
	told "$1" "$2" kvs "${@:3}"
}

# Back, as far as the first, and not further than was said.
cp "$image" "$tmp/back"
status 1 "no snapshot 'none'" snap "$tmp/back" rollback none
status 1 "snapshots are later than 'round 1'; --force deletes what is: 'round 2', 'round 3'" \
	snap "$tmp/back" rollback 'round 1'
status 2 'usage: kvs snap' snap "$tmp/back" rollback
is 'nothing has happened' "$(kvs count "$tmp/back"; kvs snap "$tmp/back" | wc -l)" $'1\n4'
check 'back to the newest' kvs snap "$tmp/back" rollback 'round 3'
check 'its content' cmp "$tmp/dump3" <(kvs dump "$tmp/back")
is 'back to the second' "$(kvs snap "$tmp/back" rollback 'round 1' -f)" "deleted 'round 2', 'round 3'"
check 'what is there now' cmp "$tmp/dump1" <(kvs dump "$tmp/back")
check 'and still under its name' cmp "$tmp/dump1" <(kvs dump "$tmp/back" --at 'round 1')
check 'the older one is as it was' cmp "$tmp/dump0" <(kvs dump "$tmp/back" --at 'round 0')
is 'the list is shorter' "$(kvs snap "$tmp/back" | cut -f1 | tr '\n' ,)" 'round 0,round 1,'
check 'kvs-fsck of what went back' kvs-fsck -n "$tmp/back"
kvs put "$tmp/back" after x
is 'it goes on from there' "$(kvs get "$tmp/back" after; kvs get "$tmp/back" a -t other1)" x1
check 'kvs-fsck of what went on' kvs-fsck -n "$tmp/back"

status 1 "no snapshot 'none'" get "$image" large --at none
status 1 "no snapshot 'none'" snap "$image" delete none
status 1 "there is a snapshot 'round 1'" snap "$image" create 'round 1'
status 1 "no tree 'none'" count "$image" -t none --at 'round 1'
status 2 'usage: kvs snap' snap "$image" create
status 2 'usage: kvs snap' snap "$image" frob x
status 2 'of a snapshot: 1 to 64 bytes' snap "$image" create ''
status 2 'not on mount:' count mount:/nowhere --at x

check 'the newest holds its large value' test "$(kvs snap "$image" | sed -n 's/^round 3\t.*\t//p')" -gt 300000
for round in 2 0 3 1; do
	check "delete round $round" kvs snap "$image" delete "round $round"
	check "kvs-fsck without round $round" kvs-fsck -n "$image"
done
like 'stat knows of none' "$(kvs stat "$image")" 'snapshots: +0'
is 'no snapshot is left' "$(kvs snap "$image")" ''
is 'the volume is as it was' "$(kvs get "$image" large | cmp - "$tmp/large3" && echo same)" same
finish
