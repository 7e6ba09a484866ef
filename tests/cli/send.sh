#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# send.sh - kvs send and kvs receive: a whole volume and ten increments through a pipe; copies of copies;
# streams with flipped bits, cut streams that are gone on with, receivers that die; what is refused.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

source=$tmp/source.kv
copy=$tmp/copy.kv
quick=${KV_TEST_QUICK:-}

# lines ROUND: changes: values in leaves and in the log, odd bytes, deletions, trees that come
lines() {
	awk -v round="$1" 'BEGIN {
		for (i = round * 7; i < 900; i += 2 + round % 4)
			printf "put\tkey%04d\t%s%0*d\n", i, "r" round "-", i % 3 ? 20 : 3000, i + round
		printf "put\tgone\tr\ndel\tgone\n"
		for (i = round; round && i < 900; i += 97)
			printf "put\tkey%04d\tx\ndel\tkey%04d\n", i, i
		printf "tree\tother%d\nput\t\\x00\\xff\t\\xfe%d\nput\tempty\t\nput\tb\tsame\n", round % 3, round
	}'
}

# change ROUND: to the source
change() {
	lines "$1" > "$tmp/script"
	kvs apply "$source" "$tmp/script" --enc escape 2> /dev/null
	head -c $((30000 * $1 + 60000)) /dev/urandom > "$tmp/large"
	kvs put "$source" "large$(($1 % 4))" - < "$tmp/large"
	[ $(($1 % 4)) -ne 3 ] || kvs trees "$source" --drop other1 --force
	[ $(($1 % 5)) -ne 4 ] || kvs del "$source" --prefix key02 --force
	kvs gc "$source" > /dev/null
}

# equal ROUND COPY: live state and snapshot of the copy are the snapshot of the source
equal() {
	kvs dump "$source" --at "round $1" > "$tmp/want"
	kvs trees "$source" --at "round $1" > "$tmp/trees"
	cmp "$tmp/want" <(kvs dump "$2") && cmp "$tmp/want" <(kvs dump "$2" --at "round $1") &&
		cmp "$tmp/trees" <(kvs trees "$2") && [[ $(kvs snap "$2") != *kvs:receive* ]]
}

change 0
kvs snap "$source" create 'round 0'
kvs send "$source" --snap 'round 0' | kvs receive "$copy" 2> "$tmp/err"
like 'a whole volume: a new image' "$(cat "$tmp/err")" 'created a new volume'
check 'a whole volume' equal 0 "$copy"
for round in 1 2 3 4 5 6 7 8 9 10; do
	change "$round"
	kvs snap "$source" create "round $round"
	kvs send "$source" --snap "round $round" --base "round $((round - 1))" > "$tmp/inc$round"
	[ "$round" -ne 9 ] || cp "$copy" "$tmp/before9.kv"
	kvs receive "$copy" < "$tmp/inc$round"
	check "increment $round" equal "$round" "$copy"
done
check 'kvs-fsck of the copy' kvs-fsck -n "$copy"
is 'the names' "$(kvs snap "$copy" | cut -f1 | sort -V | tr '\n' ,)" \
	"$(kvs snap "$source" | cut -f1 | sort -V | tr '\n' ,)"
check 'an increment is small' test "$(kvs send "$source" --snap 'round 8' --base 'round 7' | wc -c)" -lt \
	"$(($(kvs send "$source" --snap 'round 8' | wc -c) * 3 / 4))"
check 'the same stream each time' cmp "$tmp/inc7" <(kvs send "$source" --snap 'round 7' --base 'round 6')

# A copy of the copy, and an increment of the first source on top; and one that leaps.
kvs send "$copy" --snap 'round 3' | kvs receive "$tmp/third.kv" 2> /dev/null
check 'a copy of a copy' equal 3 "$tmp/third.kv"
kvs receive "$tmp/third.kv" "$tmp/inc4"
check 'an increment on a copy of a copy' equal 4 "$tmp/third.kv"
kvs send "$copy" --snap 'round 9' --base 'round 4' | kvs receive "$tmp/third.kv"
check 'an increment over several snapshots' equal 9 "$tmp/third.kv"

# ---- what is refused: the volume stays as it is ------------------------------------------------------

# refused CODE REGEX IMAGE [STREAM]: from standard input otherwise
refused() {
	told "$1" "$2" kvs receive "${@:3}"
}

refused 1 "goes on from 'round 6'.*newest snapshot here is 'round 9'" "$tmp/third.kv" "$tmp/inc7"
refused 1 "here already, as snapshot 'round 5'" "$copy" "$tmp/inc5"
kvs put "$tmp/third.kv" key0001 changed
kvs send "$source" --snap 'round 10' --base 'round 9' > "$tmp/inc10"
refused 1 "has changed since its snapshot 'round 9'" "$tmp/third.kv" "$tmp/inc10"
kvs snap "$tmp/third.kv" rollback 'round 9'
kvs receive "$tmp/third.kv" "$tmp/inc10"
check 'rolled back to the base: received' equal 10 "$tmp/third.kv"
kvs send "$source" --snap 'round 10' > "$tmp/whole"
kvs put "$tmp/full.kv" a b 2> /dev/null
refused 1 'this one is not empty' "$tmp/full.kv" "$tmp/whole"
kvs snap "$tmp/full.kv" create 'round 10'
refused 1 "another snapshot 'round 10'" "$tmp/full.kv" "$tmp/whole"
refused 2 'not a stream' "$tmp/none.kv" "$srcdir/README.md"
check 'no image is made for that' test ! -e "$tmp/none.kv"
refused 5 'no such file' "$tmp/none.kv" "$tmp/inc3"
refused 1 'no receive is unfinished' "$copy" --abort
refused 1 'no receive is unfinished' "$copy" --token
refused 2 'one of FILE' "$copy" "$tmp/inc3" --abort
kvs create "$tmp/short.kv" --frame 8K
refused 2 'receive into a volume made with --frame' "$tmp/short.kv" "$tmp/whole"
for args in '' '--base x' '--snap x --resume y' '--base x --resume y'; do
	# shellcheck disable=SC2086
	check "send needs --snap or --resume, not: '$args'" expect 2 kvs send "$source" $args
done
check 'no such snapshot' expect 1 kvs send "$source" --snap none
check 'no such base' expect 1 kvs send "$source" --snap 'round 3' --base none
check 'a base that is newer' expect 2 kvs send "$source" --snap 'round 3' --base 'round 4'
check 'no token' expect 2 kvs send "$source" --resume 12345
check 'the token of another volume' expect 1 kvs send "$source" --resume \
	00112233445566778899aabbccddeeff-5-0-100000001

# ---- flipped bits --------------------------------------------------------------------------------------

# The increment of round 9 onto a copy that has round 8.
kvs dump "$tmp/before9.kv" > "$tmp/before"
size=$(wc -c < "$tmp/inc9")
flips=$([ -n "$quick" ] && echo 8 || echo 40)
failed=0
for ((i = 0; i < flips; i++)); do
	at=$((i < 8 ? i * 41 : size * i / flips + i))
	cp "$tmp/before9.kv" "$tmp/flip.kv"
	python3 - "$tmp/inc9" "$at" $((i % 8)) > "$tmp/flipped" <<- 'EOF'
		import sys
		b = bytearray(open(sys.argv[1], "rb").read())
		b[int(sys.argv[2])] ^= 1 << int(sys.argv[3])
		sys.stdout.buffer.write(b)
	EOF
	status=0
	kvs receive "$tmp/flip.kv" "$tmp/flipped" > "$tmp/token" 2> "$tmp/err" || status=$?
	# flips in the head may be found before the volume is opened
	if [ "$status" -ne 2 ] || kvs snap "$tmp/flip.kv" | grep -q '^round 9' ||
		! cmp -s "$tmp/before" <(kvs dump "$tmp/flip.kv" --at 'round 8'); then
		diag "byte $at: status $status: $(cat "$tmp/err")"
		failed=1
	fi
	if [ -s "$tmp/token" ]; then
		kvs receive "$tmp/flip.kv" --abort
		cmp -s "$tmp/before" <(kvs dump "$tmp/flip.kv") || failed=1
	fi
	kvs receive "$tmp/flip.kv" "$tmp/inc9" || failed=1
	equal 9 "$tmp/flip.kv" || failed=1
	[ $((i % 8)) -ne 7 ] || kvs-fsck -n "$tmp/flip.kv" > /dev/null || failed=1
done
is "$flips flipped bits: refused, taken back, and received whole" "$failed" 0

# ---- cuts ------------------------------------------------------------------------------------------------

cuts=$([ -n "$quick" ] && echo 6 || echo 30)
failed=0
resumed=0
for ((i = 0; i < cuts; i++)); do
	at=$((size * (i + 1) / (cuts + 1)))
	[ "$i" -ne 0 ] || at=$((size - 1))
	cp "$tmp/before9.kv" "$tmp/cut.kv"
	status=0
	head -c "$at" "$tmp/inc9" > "$tmp/part"
	kvs receive "$tmp/cut.kv" "$tmp/part" > "$tmp/token" 2> "$tmp/err" || status=$?
	[ "$status" -eq 2 ] && grep -q 'is cut' "$tmp/err" || failed=1
	is_token=$(cat "$tmp/token")
	[ "$is_token" = "$(kvs receive "$tmp/cut.kv" --token)" ] || failed=1
	! kvs send "$tmp/cut.kv" --snap "$(kvs snap "$tmp/cut.kv" | cut -f1 | grep kvs:receive | tail -1)" \
		> /dev/null 2>&1 || failed=1
	kvs send "$source" --resume "$is_token" > "$tmp/rest"
	[ "$(wc -c < "$tmp/rest")" -ge "$size" ] || resumed=$((resumed + 1))
	kvs receive "$tmp/cut.kv" "$tmp/rest" || failed=1
	equal 9 "$tmp/cut.kv" || { failed=1; diag "cut at $at"; }
done
is "$cuts cuts: gone on with" "$failed" 0
check 'what is there is not sent again' test "$resumed" -ge $((cuts / 2))

# The rest of a stream fits only where the stream was cut.
cp "$tmp/before9.kv" "$tmp/cut.kv"
refused 1 'nothing of it is here' "$tmp/cut.kv" "$tmp/rest"
head -c $((size / 3)) "$tmp/inc9" > "$tmp/part"
refused 2 'is cut' "$tmp/cut.kv" "$tmp/part"
head -c $((size * 2 / 3)) "$tmp/inc9" > "$tmp/part"
cp "$tmp/cut.kv" "$tmp/other.kv"
refused 2 'is cut' "$tmp/other.kv" "$tmp/part"
refused 1 'here it has come to' "$tmp/other.kv" <(kvs send "$source" --resume "$(kvs receive "$tmp/cut.kv" --token)")
refused 1 'another stream' "$tmp/cut.kv" <(kvs send "$source" --snap 'round 10' --base 'round 8')
refused 2 'something follows the end' "$tmp/cut.kv" <(cat "$tmp/inc9" "$tmp/inc10")
kvs receive "$tmp/cut.kv" "$tmp/inc9"
check 'from the beginning, over what is there' equal 9 "$tmp/cut.kv"

# ---- receivers that die ------------------------------------------------------------------------------------

failed=0
for i in 1 2 3 4 5 6; do
	cp "$tmp/before9.kv" "$tmp/dead.kv"
	mkfifo "$tmp/pipe$i"
	kvs receive "$tmp/dead.kv" "$tmp/pipe$i" > /dev/null 2>&1 &
	receiver=$!
	exec 9> "$tmp/pipe$i"
	head -c $((size * i / 7)) "$tmp/inc9" >&9
	sleep "0.0$i"
	kill -9 "$receiver"
	wait "$receiver" 2> /dev/null || true
	exec 9>&-
	! kvs snap "$tmp/dead.kv" | grep -q '^round 9' || failed=1
	cmp -s "$tmp/before" <(kvs dump "$tmp/dead.kv" --at 'round 8') || failed=1
	if [ $((i % 2)) -eq 0 ] && kvs receive "$tmp/dead.kv" --token > "$tmp/token" 2> /dev/null; then
		kvs send "$source" --resume "$(cat "$tmp/token")" | kvs receive "$tmp/dead.kv" || failed=1
	else
		kvs receive "$tmp/dead.kv" "$tmp/inc9" || failed=1
	fi
	equal 9 "$tmp/dead.kv" || failed=1
	kvs-fsck -n "$tmp/dead.kv" > /dev/null || failed=1
done
is 'receivers that died: gone on with, or begun anew' "$failed" 0

# Near its end: the snapshot is there, or it is not, and nothing in between.
failed=0
for i in 1 2 3 4 5 6 7 8; do
	cp "$tmp/before9.kv" "$tmp/dead.kv"
	kvs receive "$tmp/dead.kv" "$tmp/inc9" > /dev/null 2>&1 &
	receiver=$!
	sleep "0.0$((i * 6 + 20))"
	kill -9 "$receiver" 2> /dev/null || true
	wait "$receiver" 2> /dev/null || true
	kvs receive "$tmp/dead.kv" "$tmp/inc9" 2> "$tmp/err" || grep -q 'here already' "$tmp/err" || failed=1
	check "dead near the end: nothing is left unfinished" expect 1 kvs receive "$tmp/dead.kv" --token
	equal 9 "$tmp/dead.kv" || failed=1
done
is 'receivers that died near the end' "$failed" 0

# ---- no room ------------------------------------------------------------------------------------------------

kvs create "$tmp/small.kv" --size 4M
head -c 5000000 /dev/urandom | kvs put "$source" large -
kvs snap "$source" create 'too much'
kvs send "$source" --snap 'too much' > "$tmp/much"
refused 3 'no space' "$tmp/small.kv" "$tmp/much"
check 'no snapshot of that name' expect 1 kvs dump "$tmp/small.kv" --at 'too much'
check 'a full volume: kvs-fsck' kvs-fsck -n "$tmp/small.kv"
check 'a full volume: the way back' kvs receive "$tmp/small.kv" --abort
is 'it is empty again' "$(kvs dump "$tmp/small.kv")$(kvs snap "$tmp/small.kv")" ''
finish
