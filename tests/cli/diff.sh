#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# diff.sh - kvs diff: against the dumps of both states; its two forms; what it says when something is missing.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

image=$tmp/diff.kv

# lines ROUND: changes of a round: values in leaves, in the log and odd bytes, a tree that comes and goes
lines() {
	awk -v round="$1" 'BEGIN {
		for (i = round * 7; i < 600; i += 13 + round)
			printf "put\tkey%04d\t%s%0*d\n", i, "r" round "-", i % 3 ? 20 : 1500, i + round
		for (i = round; i < 600; i += 97)
			printf "del\tkey%04d\n", i
		printf "tree\tother%d\nput\t\\x00\\xff\t\\xfe%d\nput\tb\tsame\n", round % 2, round
	}' | grep -v $'^del\tkey0[0-9]*[05]$'
}

awk 'BEGIN { for (i = 0; i < 600; i++) printf "put\tkey%04d\tfirst\n", i }' > "$tmp/script"
kvs apply "$image" "$tmp/script" 2> /dev/null
for round in 0 1 2 3; do
	lines "$round" > "$tmp/script"
	check "round $round" kvs apply "$image" "$tmp/script" --enc escape
	head -c $((300000 + round / 2)) /dev/urandom > "$tmp/large"
	kvs put "$image" large - < "$tmp/large"
	[ "$round" -ne 2 ] || kvs trees "$image" --drop other1 --force
	kvs snap "$image" create "round $round"
	kvs gc "$image" > /dev/null
done
kvs del "$image" --prefix key03 --force
# the same bytes again are no difference
kvs put "$image" large - < "$tmp/large"

# wanted FROM TO: what differs between two dumps, as kvs diff -o json prints it
wanted() {
	python3 - "$1" "$2" <<- 'EOF'
	import base64, json, sys

	def load(name):
	    state = {}
	    for line in open(name, encoding="utf-8"):
	        o = json.loads(line)
	        get = lambda m: o[m].encode() if m in o else base64.b64decode(o[m + "_b64"])
	        tree = o.get("tree", "main")
	        state[tree != "main", tree, get("key")] = get("value")
	    return state

	a, b = load(sys.argv[1]), load(sys.argv[2])
	for k in sorted(a.keys() | b.keys()):
	    if a.get(k) != b.get(k):
	        print("+" if k not in a else "-" if k not in b else "~", k[1], k[2], a.get(k), b.get(k))
	EOF
}

# got: the same from the JSON of kvs diff
got() {
	python3 -c '
import base64, json, sys
for line in sys.stdin:
    o = json.loads(line)
    get = lambda m: o[m].encode() if m in o else base64.b64decode(o[m + "_b64"]) if m + "_b64" in o else None
    sign = {"added": "+", "removed": "-", "changed": "~"}[o["change"]]
    print(sign, o["tree"], get("key"), get("old"), get("value"))'
}

for round in 0 1 2 3; do
	kvs dump "$image" --at "round $round" > "$tmp/dump$round"
done
kvs dump "$image" > "$tmp/dump4"
for pair in '0 1' '1 3' '3 0' '2 1' '2 2' '1 4' '3 4'; do
	read -r from to <<< "$pair"
	args=("round $from")
	[ "$to" -eq 4 ] || args+=("round $to")
	wanted "$tmp/dump$from" "$tmp/dump$to" > "$tmp/wanted"
	kvs diff "$image" "${args[@]}" -o json | got > "$tmp/got"
	check "${args[*]}: as the dumps differ" cmp "$tmp/wanted" "$tmp/got"
	[ "$from" -eq "$to" ] || check "${args[*]}: something differs" test -s "$tmp/got"
	is "${args[*]}: as many lines of text" "$(kvs diff "$image" "${args[@]}" | wc -l)" "$(wc -l < "$tmp/wanted")"
done
is 'the same bytes are no difference' "$(kvs diff "$image" 'round 3' | grep -c large)" 0

is 'text' "$(kvs diff "$image" 'round 0' 'round 1' -t other1)" $'+\tother1\t\\x00\\xff\t\\xfe1\n+\tother1\tb\tsame'
is 'text without values' "$(kvs diff "$image" 'round 1' 'round 2' -t other1 -k)" $'-\tother1\t\\x00\\xff\n-\tother1\tb'
is 'a change has both values' "$(kvs diff "$image" 'round 0' 'round 2' -t other0)" \
	$'~\tother0\t\\x00\\xff\t\\xfe0\t\\xfe2'
is 'hexadecimal' "$(kvs diff "$image" 'round 0' 'round 2' -t other0 --enc hex)" \
	$'~\tother0\t00ff\tfe30\tfe32'
is 'JSON without values' "$(kvs diff "$image" 'round 0' 'round 2' -t other0 -k -o json)" \
	'{"change":"changed","tree":"other0","key_b64":"AP8="}'
is 'backwards' "$(kvs diff "$image" 'round 2' 'round 1' -t other1 -k | cut -c1 | tr -d '\n')" '++'

# status CODE REGEX ARGUMENT...: kvs diff gives that, and a message that matches
status() {
	told "$1" "$2" kvs diff "${@:3}"
}

status 0 '' "$image" 'round 1' 'round 1'
status 1 "no snapshot 'none'; 'kvs snap" "$image" none
status 1 "no snapshot 'none'" "$image" 'round 1' none
status 1 "no tree 'none' in either state" "$image" 'round 1' -t none
status 2 'usage: kvs diff' "$image"
status 2 'not on mount:' mount:/nowhere a
status 5 'no such file' "$tmp/none.kv" a

# A value that is damaged: told, passed, and status 4.
python3 - "$image" "$tmp/bad.kv" <<- 'EOF'
	import sys
	volume = open(sys.argv[1], "rb").read()
	value = b"r1-%01500d" % 22
	assert value in volume
	open(sys.argv[2], "wb").write(volume.replace(value, value.replace(b"22", b"23")))
EOF
status 4 'kvs-fsck' "$tmp/bad.kv" 'round 0' 'round 1'
check 'the others are there' test "$(wc -l < "$tmp/out")" -ge \
	"$(($(kvs diff "$image" 'round 0' 'round 1' | wc -l) - 1))"
check 'kvs-fsck' kvs-fsck -n "$image"
finish
