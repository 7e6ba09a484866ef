#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# clone.sh - kvs clone, kvs detach: a tree that begins as a tree of a snapshot, and does without it; what is
# refused, and what other verbs say.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

image=$tmp/clone.kv

# status CODE REGEX ARGUMENT...: kvs gives that, and a message that matches
status() {
	told "$1" "$2" kvs "${@:3}"
}

awk 'BEGIN { for (i = 0; i < 2000; i++) printf "put\tkey%04d\t%0*d\n", i, i % 3 ? 20 : 900, i }' \
	> "$tmp/script"
kvs apply "$image" "$tmp/script" 2> /dev/null
head -c 300000 /dev/urandom > "$tmp/large"
kvs put "$image" large - < "$tmp/large"
kvs scan "$image" > "$tmp/then"
kvs snap "$image" create origin
kvs del "$image" large
kvs del "$image" --prefix key00 --force
check 'a clone' kvs clone "$image" origin main copy
is 'trees tell of it' "$(kvs trees "$image")" $'copy\t2001\torigin\nmain\t1900'
is 'as JSON, too' "$(kvs trees "$image" -o json | python3 -c \
	'import json, sys; print([t.get("origin") for t in json.load(sys.stdin)])')" "['origin', None]"
check 'it has what was there' cmp "$tmp/then" <(kvs scan "$image" -t copy)
check 'and the large value' cmp "$tmp/large" <(kvs get "$image" large -t copy)
check 'kvs-fsck' kvs-fsck -n "$image"
kvs put "$image" key0001 changed -t copy
kvs put "$image" large - -t copy < "$tmp/script"
is 'a change is of the clone' "$(kvs get "$image" key0001 -t copy)" changed
is 'not of the snapshot' "$(kvs get "$image" key0001 --at origin)" "$(printf %020d 1)"
check 'a large value is written anew' cmp "$tmp/script" <(kvs get "$image" large -t copy)
check 'and that of the snapshot stays' cmp "$tmp/large" <(kvs get "$image" large --at origin)
like 'explain shows a shared key' "$(kvs explain "$image" key1500 -t copy)" 'key1500|leaf|page'
check 'a clone of a clone' kvs snap "$image" create second
check 'of the second snapshot' kvs clone "$image" second copy again
kvs gc "$image" > /dev/null
check 'what it has' cmp <(kvs scan "$image" -t copy) <(kvs scan "$image" -t again)
check 'send and receive' sh -c "kvs send '$image' --snap second | kvs receive '$tmp/target.kv'"
check 'arrive whole' cmp <(kvs scan "$image" -t copy) <(kvs scan "$tmp/target.kv" -t copy)
check 'diff' kvs diff "$image" origin second -t copy
check 'map' kvs map "$image"
check 'kvs check' kvs check "$image"
check 'kvs-fsck of both' kvs-fsck -n "$image"
status 1 "no snapshot 'none'" clone "$image" none main x
status 1 "no tree 'none'" clone "$image" origin none x
status 1 "there is a tree 'copy'" clone "$image" origin main copy
status 6 "'copy'.*drop or detach it first" snap "$image" delete origin
status 1 "no tree 'none'" detach "$image" none
status 1 "'main' is no clone" detach "$image" main
kvs scan "$image" -t copy > "$tmp/copy"
like 'detach' "$(kvs detach "$image" copy)" '^copied [0-9]+ bytes$'
is 'then it is no clone' "$(kvs trees "$image" | cut -f1,3)" $'again\tsecond\ncopy\nmain'
check 'and has what it had' cmp "$tmp/copy" <(kvs scan "$image" -t copy)
check 'kvs-fsck of it' kvs-fsck -n "$image"
status 6 "'second'" snap "$image" delete origin
check 'detach the other' kvs detach "$image" again
check 'their snapshots go' sh -c "kvs snap '$image' delete second && kvs snap '$image' delete origin"
check 'all is there' cmp "$tmp/copy" <(kvs scan "$image" -t again)
check 'and a large value' cmp "$tmp/script" <(kvs get "$image" large -t again)
kvs trees "$image" --drop again --force
kvs snap "$image" create origin
kvs trees "$image" --drop copy --force
kvs clone "$image" origin copy copy
kvs snap "$image" create second
kvs clone "$image" second copy again
kvs trees "$image" --drop copy --force
status 6 "'second'" snap "$image" delete origin
kvs trees "$image" --drop again --force
check 'second goes' kvs snap "$image" delete second
check 'then the origin' kvs snap "$image" delete origin
is 'nothing is held' "$(kvs stat "$image" -o json | python3 -c 'import json, sys
s = json.load(sys.stdin); print(s["snapshots"])')" 0
is 'the tree stays' "$(kvs trees "$image")" $'main\t1900'
check 'kvs-fsck at the end' kvs-fsck -n "$image"
finish
