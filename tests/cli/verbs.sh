#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# verbs.sh - every verb of kvs on small volumes: what it prints, what it stores, its exit status.
# Rows: K4 K5 K6 (set, get, inc/dec), L11 (exists, count), S1 S3 (order, forest), H18 (':' in keys).

set -euo pipefail
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

img=$tmp/a.kv

# out TEXT WANT COMMAND...: exit status 0 and exactly this output (and a newline).
out() {
	local text=$1 want=$2 got status=0
	shift 2
	got=$("$@" 2> "$tmp/err" < /dev/null; printf x) || status=$?
	got=${got%x}
	if [ "$status" -eq 0 ] && [ "$got" = "$want"$'\n' ]; then
		ok "$text"
	else
		not_ok "$text" "status $status" "got:  $(printf '%q' "$got")" "$(cat "$tmp/err")"
	fi
}

# ---- put, get, exists (rows K4 K5 L11)
check 'put on a new path' kvs put "$img" greeting 'Hello, world!'
like 'put on a new path says that it creates' "$(cat "$tmp/tap.out")" 'created a new volume'
check 'put on an existing volume' kvs put "$img" second 2
is 'put on an existing volume is silent' "$(cat "$tmp/tap.out")" ''
is 'get gives the bytes and no newline' "$(kvs get "$img" greeting; echo x)" 'Hello, world!x'
check 'put sets the whole value' kvs put "$img" greeting short
is 'get after a second put' "$(kvs get "$img" greeting)" 'short'
check 'get of a missing key gives 1' expect 1 kvs get "$img" nokey
like 'the message names image and key' "$(cat "$tmp/tap.out")" "^kvs: $img: no key 'nokey'"
check 'exists: 0' kvs exists "$img" greeting
check 'exists: 1' expect 1 kvs exists "$img" nokey
is 'exists is silent' "$(kvs exists "$img" nokey 2>&1 || true)" ''
check 'put of an empty value' kvs put "$img" empty ''
is 'get of an empty value' "$(kvs get "$img" empty; echo x)" x
check 'exists of an empty value' kvs exists "$img" empty
check 'put of an empty key gives 2' expect 2 kvs put "$img" '' v
printf 'from\0stdin\n' > "$tmp/want"
kvs put "$img" piped - < "$tmp/want"
kvs get "$img" piped > "$tmp/got"
same 'put - and get pass every byte' "$tmp/want" "$tmp/got"
kvs put "$img" void - < /dev/null
is 'put - of nothing is an empty value' "$(kvs get "$img" void; echo x)" x
check "a key with ':' (row H18)" kvs put "$img" 'a:b:c' v:w
is "a key with ':' comes back" "$(kvs get "$img" a:b:c)" v:w
check 'a key that begins with - goes behind --' kvs put "$img" -- -dash value
is 'and comes back' "$(kvs get "$img" -- -dash)" value
kvs put --no-sync "$img" unsynced 1
is '--no-sync stores too' "$(kvs get "$img" unsynced)" 1

# ---- inc, dec (row K6)
n=$tmp/n.kv
kvs put "$n" n 10 2> /dev/null
out 'inc' 11 kvs inc "$n" n
out 'inc N' 16 kvs inc "$n" n 5
out 'inc -N' 13 kvs inc "$n" n -3
out 'inc -N with options behind' 10 kvs inc "$n" n -3 --no-sync
out 'dec' 9 kvs dec "$n" n
out 'dec N' -1 kvs dec "$n" n 10
out 'dec -N' 4 kvs dec "$n" n -5
out 'N in hexadecimal' 20 kvs inc "$n" n 0x10
out 'N in binary' 25 kvs inc "$n" n 0b101
out 'N in octal' 40 kvs inc "$n" n 017
is 'the value is stored in decimal' "$(kvs get "$n" n)" 40
for pair in 0b101=6 017=16 42=43 0x2a=43 -7=-6 +7=8 -0x10=-15; do
	kvs put "$n" base -- "${pair%=*}" 2> /dev/null || kvs put "$n" -- base "${pair%=*}"
	out "inc of ${pair%=*}" "${pair#*=}" kvs inc "$n" base
done
check 'inc of a missing key gives 1' expect 1 kvs inc "$n" nokey
check 'and does not create it' expect 1 kvs exists "$n" nokey
for bad in word '' '1 2' 0x 0b2 1.5 99999999999999999999; do
	kvs put "$n" bad "$bad"
	check "inc of '$bad' gives 2" expect 2 kvs inc "$n" bad
	is "and '$bad' stays" "$(kvs get "$n" bad)" "$bad"
done
kvs put "$n" max 9223372036854775807
check 'overflow gives 2' expect 2 kvs inc "$n" max
is 'and changes nothing' "$(kvs get "$n" max)" 9223372036854775807
kvs put "$n" -- min -9223372036854775808
check 'underflow gives 2' expect 2 kvs dec "$n" min
for bad in word '' 1x 0x 9223372036854775808 ' 1' +-1; do
	check "N '$bad' gives 2" expect 2 kvs inc "$n" n "$bad"
done
check 'dec of the smallest number gives 2' expect 2 kvs dec "$n" n -9223372036854775808
check 'inc of a missing image does not create it' expect 5 kvs inc "$tmp/none.kv" n
check 'really not' test ! -e "$tmp/none.kv"
pids=()
for i in 1 2 3; do
	(for _ in 1 2 3 4 5 6 7 8 9 10; do
		until kvs inc "$n" shared > /dev/null 2>&1; do sleep 0.01; done
	done) &
	pids+=($!)
	[ "$i" -gt 1 ] || { until kvs put "$n" shared 0 2> /dev/null; do sleep 0.01; done; }
done
wait "${pids[@]}"
is 'concurrent processes count exactly' "$(kvs get "$n" shared)" 30

# ---- scan, count (row S1)
s=$tmp/s.kv
for k in b a d c ab 'a b'; do kvs put "$s" "$k" "v-$k" 2> /dev/null; done
kvs put "$s" e ''
out 'scan: key, tab, value, in order' $'a\tv-a\na b\tv-a b\nab\tv-ab\nb\tv-b\nc\tv-c\nd\tv-d\ne\t' kvs scan "$s"
out 'scan --keys' $'a\na b\nab\nb\nc\nd\ne' kvs scan "$s" --keys
out 'scan --reverse' $'e\nd\nc\nb\nab\na b\na' kvs scan "$s" --keys --reverse
out 'scan --limit' $'a\na b' kvs scan "$s" -k -n 2
is 'scan --limit 0' "$(kvs scan "$s" --limit 0)" ''
out 'scan --from is included, --to is not' $'ab\nb' kvs scan "$s" --keys --from ab --to c
out 'scan --from between keys' $'b\nc' kvs scan "$s" --keys --from aa0 --to cc --from b
out 'scan --prefix' $'a\na b\nab' kvs scan "$s" --keys --prefix a
out 'scan --prefix --reverse --limit' $'ab\na b' kvs scan "$s" --keys -p a -r -n 2
out 'scan --prefix with --from' $'a b\nab' kvs scan "$s" --keys --prefix a --from a0 --from 'a '
out 'scan --prefix with --to' $'a' kvs scan "$s" --keys --prefix a --to 'a '
is 'scan of an empty range' "$(kvs scan "$s" --from x)" ''
is 'scan --from behind --to' "$(kvs scan "$s" --from c --to b)" ''
check "--to '' gives 2" expect 2 kvs scan "$s" --to ''
out 'scan -o json' '{"key":"a","value":"v-a"}' kvs scan "$s" -o json -n 1
out 'scan -o json --keys' '{"key":"a"}' kvs scan "$s" -o json -n 1 --keys
check 'a key of ff bytes' kvs put "$s" --key-enc hex ffff top
out 'scan --prefix of ff bytes' $'\\xff\\xff\ttop' kvs scan "$s" --key-enc hex --value-enc auto --prefix ff --key-enc escape --prefix '\xff'
out 'count' 8 kvs count "$s"

# ---- del
check 'del' kvs del "$s" --enc hex ffff
check 'del of a missing key gives 1' expect 1 kvs del "$s" nokey
check 'del of some missing keys gives 1' expect 1 kvs del "$s" a nokey ab
out 'and deletes the others' $'a b\nb\nc\nd\ne' kvs scan "$s" --keys
check 'del --prefix' kvs del "$s" --prefix a
check 'del --from --to' kvs del "$s" --from c --to e
out 'leaves the rest' $'b\ne' kvs scan "$s" --keys
check 'del of an empty range gives 0' kvs del "$s" --prefix zzz
check 'del without key or range gives 2' expect 2 kvs del "$s"
check 'del with both gives 2' expect 2 kvs del "$s" key --prefix x
check 'del --force' kvs del "$s" --from a --force
out 'all gone' 0 kvs count "$s"
python3 -c 'for i in range(5000): print("{\"key\":\"k%04d\",\"value\":\"\"}" % i)' | kvs load "$s" -
check 'del of a range of more than a batch' kvs del "$s" --prefix k --to k4999
out 'deletes all but the bound' 'k4999' kvs scan "$s" --keys
if command -v script > /dev/null; then
	printf 'n\n' | script -qec "kvs del '$s' --prefix k" /dev/null > "$tmp/tty" 2>&1 || true
	like 'a range is asked for on a terminal' "$(cat "$tmp/tty")" 'Delete 1 entries'
	out 'and kept after no' 1 kvs count "$s"
	printf 'y\n' | script -qec "kvs del '$s' --prefix k" /dev/null > /dev/null 2>&1 || true
	out 'and deleted after yes' 0 kvs count "$s"
else
	skip 'questions on a terminal' 'script(1) is not installed'
fi

# ---- trees (row S3)
t=$tmp/t.kv
kvs put "$t" k main 2> /dev/null
check 'put --tree makes the tree' kvs put "$t" --tree beta k 1
kvs put "$t" -t alpha k 2
kvs put "$t" -t alpha l 3
out 'trees: name, tab, count, in order' $'alpha\t2\nbeta\t1\nmain\t1' kvs trees "$t"
is 'trees are apart' "$(kvs get "$t" -t beta k)$(kvs get "$t" -t alpha k)$(kvs get "$t" k)" 12main
is '--tree main is the default' "$(kvs get "$t" -t main k)" main
is 'trees -o json' "$(kvs trees "$t" -o json | python3 -c 'import json,sys; print(json.load(sys.stdin))')" \
	"[{'tree': 'alpha', 'count': 2}, {'tree': 'beta', 'count': 1}, {'tree': 'main', 'count': 1}]"
out 'count --tree' 2 kvs count "$t" --tree alpha
check 'a missing tree gives 1' expect 1 kvs get "$t" -t gamma k
like 'and is named' "$(cat "$tmp/tap.out")" "no tree 'gamma'"
check 'scan of a missing tree gives 1' expect 1 kvs scan "$t" -t gamma
check 'del in a tree' kvs del "$t" -t alpha k
kvs put "$t" -t alpha n 1
out 'inc in a tree' 2 kvs inc "$t" -t alpha n
check 'trees --drop' kvs trees "$t" --drop alpha
out 'drops it' $'beta\t1\nmain\t1' kvs trees "$t"
check 'trees --drop of a missing tree gives 1' expect 1 kvs trees "$t" --drop alpha
check 'main stays' expect 2 kvs trees "$t" --drop main
check 'a bad name gives 2' expect 2 kvs put "$t" -t $'a\nb' k v
check 'a long name gives 2' expect 2 kvs put "$t" -t "$(printf 'x%.0s' {1..300})" k v

# ---- create, stat, check
c=$tmp/c.kv
check 'create' kvs create "$c" --label 'my data' --uuid 00112233-4455-6677-8899-aabbccddeeff
like 'stat shows label and uuid' "$(kvs stat "$c")" 'uuid: +00112233-4455-6677-8899-aabbccddeeff.*label: +my data'
check 'create on a volume gives 1' expect 1 kvs create "$c"
kvs put "$c" k v
check 'create --force makes a new one' kvs create "$c" --force
out 'which is empty' 0 kvs count "$c"
kvs stat "$c" -o json > "$tmp/stat.json"
check 'stat -o json has the documented names, and only these' python3 - "$tmp/stat.json" "$srcdir/cli/man/kvs.1" <<-'PY'
	import json, re, sys
	names = list(json.load(open(sys.argv[1])))
	text = open(sys.argv[2]).read().replace("\\-", "-")
	table = text[text.index(".SH JSON"):text.index(".SH EXIT STATUS")]
	table = table[table.index(".RS 4"):table.index(".RE")]
	documented = re.findall(r"\b[a-z]+(?:_[a-z]+)*\b", "\n".join(l[:37] for l in table.splitlines()[1:]))
	assert sorted(names) == sorted(documented), (sorted(set(names) ^ set(documented)))
PY
out 'check of a good volume' clean kvs check "$c"
out 'check -o json' $'{\n  "problems": [],\n  "clean": true\n}' kvs check "$c" -o json
check 'a key beyond the limit gives 2' expect 2 kvs put "$c" "$(head -c 20000 /dev/zero | tr '\0' k)" v

finish
