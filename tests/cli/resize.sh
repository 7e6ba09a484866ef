#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# resize.sh - kvs resize on image files and on a loop device: to the least that --min prints, to sizes in
# between, longer again; clean after each, the content the same. Rows H12, L9.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

loops=()
# shellcheck disable=SC2317 # called by tap.sh
tap_cleanup() {
	local m
	for m in "${loops[@]}"; do losetup -d "$m" || true; done
}

# lines FROM TO ROUND: a script of kvs apply, values of 40 to 4000 bytes
lines() {
	awk -v from="$1" -v to="$2" -v round="$3" 'BEGIN {
		srand(from + round)
		for (i = from; i < to; i++)
			printf "put\tkey%06d\tr%d-%0*d\n", i, round, 40 + int(rand() * rand() * 4000), i
	}'
}

# same_content TEXT IMAGE: as in $tmp/want, and clean
same_content() {
	kvs dump "$2" > "$tmp/now"
	check "$1: the content is the same" cmp "$tmp/want" "$tmp/now"
	is "$1: kvs check" "$(kvs check "$2" 2>&1)" clean
	check "$1: kvs-fsck" kvs-fsck -n "$2"
}

# shrink TEXT IMAGE: to the least
shrink() {
	local min said
	min=$(kvs resize "$2" --min)
	like "$1: --min is a number" "$min" '^[0-9]+$'
	said=$(kvs resize "$2" "$min") || not_ok "$1: to the least" "$said"
	like "$1: says from where to where" "$said" '^[0-9]+ -> [0-9]+ bytes, moved [0-9]+$'
	check "$1: not longer than asked for" test "$(kvs stat "$2" | awk '/^volume:/ { print $2 }')" -le "$min"
	same_content "$1" "$2"
}

# at_snapshot TEXT IMAGE NAME WANT
at_snapshot() {
	kvs dump "$2" --at "$3" > "$tmp/then"
	check "$1: snapshot $3 shows what it did" cmp "$4" "$tmp/then"
}

# pinned TEXT IMAGE: a snapshot of all, most of which goes; the least, less than that, and without it
pinned() {
	local min status=0
	check "$1: fill" kvs resize "$2" --grow
	lines 60000 64000 3 > "$tmp/script"
	kvs apply "$2" "$tmp/script"
	kvs dump "$2" > "$tmp/snap"
	check "$1: snapshot" kvs snap "$2" create keep
	kvs del "$2" --from key060000
	kvs dump "$2" > "$tmp/want"
	kvs gc "$2" > /dev/null
	min=$(kvs resize "$2" --min 2> "$tmp/why")
	like "$1: the least is a number" "$min" '^[0-9]+$'
	like "$1: and is as it is for a snapshot" "$(cat "$tmp/why")" "bytes without the snapshots 'keep'"
	kvs resize "$2" $((min * 3 / 4)) 2> "$tmp/err" || status=$?
	is "$1: less gives 3" "$status" 3
	like "$1: and names the snapshot" "$(cat "$tmp/err")" "without the snapshots 'keep'"
	shrink "$1, with a snapshot" "$2"
	at_snapshot "$1" "$2" keep "$tmp/snap"
	check "$1: longer" kvs resize "$2" --grow
	same_content "$1, longer" "$2"
	at_snapshot "$1, longer" "$2" keep "$tmp/snap"
	check "$1: without it" kvs snap "$2" delete keep
	shrink "$1, without it" "$2"
	check "$1: is less" test "$(kvs resize "$2" --min)" -lt "$min"
}

image=$tmp/a.kv
lines 0 12000 0 > "$tmp/script"
check 'an image' kvs apply "$image" "$tmp/script"
check 'most of it goes' kvs del "$image" --from key001500 --to key011000
kvs dump "$image" > "$tmp/want"
before=$(stat -c %s "$image")
shrink 'image' "$image"
check 'the file is shorter' test "$(stat -c %s "$image")" -lt "$before"
is 'the file is as long as the volume' "$(stat -c %s "$image")" "$(kvs stat "$image" | awk '/^volume:/ { print $2 }')"
check 'it takes changes' kvs put "$image" key000000 changed
kvs dump "$image" > "$tmp/want"
lines 20000 30000 1 > "$tmp/script"
check 'more than it holds gives 3' expect 3 kvs apply "$image" "$tmp/script"
check 'what was too much goes' kvs del "$image" --from key020000
same_content 'full' "$image"
check '--grow' kvs resize "$image" --grow
same_content 'grown' "$image"
check 'now it fits' kvs apply "$image" "$tmp/script"
kvs dump "$image" > "$tmp/want"
check 'to a size' kvs resize "$image" 64M
same_content '64 MiB' "$image"
status=0
kvs resize "$image" 1M 2> "$tmp/err" || status=$?
is 'too small gives 3' "$status" 3
like 'and names the least' "$(cat "$tmp/err")" 'at least [0-9]+'
same_content 'refused' "$image"
kvs del "$image" --from key020000 --to key029000
kvs dump "$image" > "$tmp/want"
status=0
timeout --preserve-status --signal=INT 0.05 kvs resize "$image" "$(kvs resize "$image" --min)" > "$tmp/out" 2>&1 || status=$?
if [ "$status" = 0 ] || [ "$status" = 130 ]; then ok "interrupted: $status"; else not_ok "interrupted: $status" "$(cat "$tmp/out")"; fi
same_content 'interrupted' "$image"
shrink 'again' "$image"

check 'kvs gc gives the end back' kvs resize "$image" --grow
lines 40000 52000 2 > "$tmp/script"
check 'more' kvs apply "$image" "$tmp/script"
kvs del "$image" --from key040000
before=$(stat -c %s "$image")
check 'gc' kvs gc "$image"
check 'the file is two thirds as long at most' test "$(stat -c %s "$image")" -lt $((before * 2 / 3))
same_content 'after gc' "$image"

pinned 'image' "$image"

truncate -s 96M "$tmp/disk"
if loop=$(losetup -f --show "$tmp/disk" 2> /dev/null); then
	loops+=("$loop")
	check 'create on a device' kvs create "$loop"
	lines 0 8000 0 > "$tmp/script"
	check 'fill' kvs apply "$loop" "$tmp/script"
	kvs del "$loop" --from key001500 --to key007000
	kvs dump "$loop" > "$tmp/want"
	shrink 'device' "$loop"
	check 'beyond the device gives 2' expect 2 kvs resize "$loop" 200M
	truncate -s 128M "$tmp/disk"
	losetup -c "$loop"
	check 'the device has grown' kvs resize "$loop" --grow
	check 'the volume has all of it' test "$(kvs stat "$loop" | awk '/^volume:/ { print $2 }')" -gt $((126 << 20))
	same_content 'device, grown' "$loop"
	check 'part of it' kvs resize "$loop" 64M
	same_content 'device, part' "$loop"
	pinned 'device' "$loop"
else
	skip 'on a device' 'no loop device'
fi

check 'SIZE and --grow give 2' expect 2 kvs resize "$image" 64M --grow
check 'nothing asked for gives 2' expect 2 kvs resize "$image"
check 'no size gives 2' expect 2 kvs resize "$image" large
check 'not through a mount' expect 2 kvs resize mount:/nowhere --min
check 'a missing image' expect 5 kvs resize "$tmp/none.kv" --min
finish
