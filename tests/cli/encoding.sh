#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# encoding.sh - --enc, --key-enc, --value-enc: arguments and output, both ways; binary keys and values
# (row K10), names that would hurt elsewhere (row K9).

set -euo pipefail
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

img=$tmp/a.kv
kvs create "$img"

# hex FILE: its bytes.
hex() { xxd -p "$1" | tr -d '\n'; }

# stored TEXT HEX ARGUMENT...: put with these arguments (after the image) stores these bytes under 'k'.
stored() {
	local text=$1 want=$2
	shift 2
	kvs put "$img" "$@" > "$tmp/out" 2>&1 || true
	kvs get "$img" k > "$tmp/got" 2>> "$tmp/out" || true
	is "$text" "$(hex "$tmp/got")" "$want"
}

stored 'auto is literal' 5c7834315c6e k '\x41\n'
stored 'auto of UTF-8' c3bc k ü
stored 'raw is literal' 5c783431 k '\x41' --enc raw
stored 'escape' 415c0a0d0900ff42 --value-enc escape k '\x41\\\n\r\t\x00\xFfB'
stored 'hex' 00ff7f --value-enc hex k 00FF7f
stored 'hex of nothing' '' --value-enc hex k ''
stored 'base64' 00ff7f --value-enc base64 k AP9/
stored 'base64 with padding' 00ff --value-enc base64 k AP8=
stored 'base64 with two paddings' 00 --value-enc base64 k AA==
stored '--enc is for key and value' 4142 --enc hex 6b 4142
stored '--value-enc wins over --enc' 3431 --value-enc raw --enc hex 6b 41
stored 'whichever comes first' 3431 --enc hex --value-enc raw 6b 41
stored '--key-enc is for the key' 3431 --key-enc hex 6b 41

# refused TEXT MODE ARGUMENT: a value that is not of the mode gives 2 and stores nothing.
refused() {
	check "$1" expect 2 kvs put "$img" --value-enc "$2" bad "$3"
}
refused 'hex: odd number of digits' hex abc
refused 'hex: no digit' hex 0g
refused 'hex: blank' hex '00 11'
refused 'base64: no padding' base64 AA
refused 'base64: bad character' base64 'A*=='
refused 'base64: padding inside' base64 AA==AAAA
refused 'base64: three paddings' base64 A===
refused 'base64: bits left over' base64 AB==
refused 'base64: bits left over, one padding' base64 AAB=
refused 'escape: unknown letter' escape '\q'
refused 'escape: one digit' escape '\x4'
refused 'escape: ends in a backslash' escape "a\\"
check 'nothing of it was stored' expect 1 kvs exists "$img" bad
check 'a key that is not of the mode gives 2' expect 2 kvs get "$img" --key-enc hex xyz
check 'a bound that is not of the mode gives 2' expect 2 kvs scan "$img" --key-enc hex --from xyz

# ---- output
printf 'tab\there\\ \377\0end' > "$tmp/want"
kvs put "$img" k - < "$tmp/want"
kvs get "$img" k > "$tmp/got"
same 'put - and get pass all bytes' "$tmp/want" "$tmp/got"
kvs get "$img" k --value-enc raw > "$tmp/got"
same 'get --value-enc raw' "$tmp/want" "$tmp/got"
is 'get escape' "$(kvs get "$img" k --value-enc escape)" 'tab\x09here\\ \xff\x00end'
is 'get hex' "$(kvs get "$img" k --value-enc hex)" "$(hex "$tmp/want")"
is 'get base64' "$(kvs get "$img" k --value-enc base64)" "$(base64 -w0 "$tmp/want")"
is 'scan auto: escaped when it must' "$(kvs scan "$img")" $'k\ttab\\x09here\\\\ \\xff\\x00end'
kvs put "$img" k 'schön \x41'
is 'scan auto: raw when it can' "$(kvs scan "$img")" $'k\tschön \\x41'
kvs put "$img" k $'c1 \xc2\x85 control'
is 'scan auto: C1 controls are escaped' "$(kvs scan "$img")" $'k\tc1 \\xc2\\x85 control'
kvs put "$img" k $'cut \xc3'
is 'scan auto: cut UTF-8 is escaped' "$(kvs scan "$img")" $'k\tcut \\xc3'
is 'scan raw' "$(kvs scan "$img" --enc raw)" $'k\tcut \xc3'
is 'scan hex' "$(kvs scan "$img" --enc hex)" $'6b\t63757420c3'
is 'scan base64' "$(kvs scan "$img" --enc base64)" $'aw==\tY3V0IMM='
is 'scan of mixed encodings' "$(kvs scan "$img" --key-enc hex --value-enc base64)" $'6b\tY3V0IMM='
# bytes N: the same random bytes in each run.
bytes() {
	python3 -c 'import random, sys
n = int(sys.argv[1])
sys.stdout.buffer.write(random.Random(n).randbytes(n))' "$1"
}
for n in 0 1 2 3 4 5 47 48 49 383 384 385 1000; do
	bytes "$n" > "$tmp/want"
	kvs put "$img" k - < "$tmp/want"
	is "base64 of $n bytes" "$(kvs get "$img" k --value-enc base64)" "$(base64 -w0 "$tmp/want")"
	kvs get "$img" k --value-enc escape > "$tmp/text"
	kvs put "$img" copy --value-enc escape -- "$(cat "$tmp/text")"
	kvs get "$img" copy > "$tmp/got"
	same "escape of $n bytes comes back" "$tmp/want" "$tmp/got"
	kvs put "$img" copy --value-enc hex "$(kvs get "$img" k --value-enc hex)"
	kvs get "$img" copy > "$tmp/got"
	same "hex of $n bytes comes back" "$tmp/want" "$tmp/got"
done
kvs put "$img" copy --value-enc escape -- '-\xff'
is 'behind --, a value may begin with a dash' "$(kvs get "$img" copy --value-enc hex)" 2dff

# ---- keys: every byte, in every mode; names with a meaning elsewhere
b=$tmp/b.kv
python3 -c '
for i in range(256): print("{\"key_b64\":\"%s\",\"value\":\"%d\"}" % (__import__("base64").b64encode(bytes([i])).decode(), i))
' | kvs load "$b" - 2> /dev/null
is 'keys of every byte are there' "$(kvs count "$b")" 256
is 'in the order of bytes' "$(kvs scan "$b" --keys --enc hex | tr -d '\n')" \
	"$(python3 -c 'print("".join("%02x" % i for i in range(256)))')"
bad=0
for i in 0 1 9 10 13 27 32 34 39 47 58 92 127 128 255; do
	h=$(printf %02x "$i")
	e=$(printf '\\x%02x' "$i")
	[ "$(kvs get "$b" --key-enc hex "$h")" = "$i" ] || bad=$((bad + 1))
	[ "$(kvs get "$b" --key-enc escape "$e")" = "$i" ] || bad=$((bad + 1))
	[ "$(kvs get "$b" --key-enc base64 "$(printf '%b' "$e" | base64)")" = "$i" ] || bad=$((bad + 1))
done
is 'get by hex, escape and base64 agree' "$bad" 0
kvs scan "$b" --keys --enc escape > "$tmp/keys"
while IFS= read -r key; do
	kvs exists "$b" --enc escape -- "$key" || bad=$((bad + 1))
done < "$tmp/keys"
is 'every key that scan --enc escape prints can be given back' "$bad" 0
for name in . .. / a/b _mk ' ' $'new\nline' '*' "\$(id)" '"' "\\"; do
	kvs put "$img" -- "$name" "<$name>"
	is "a key named $(printf %q "$name")" "$(kvs get "$img" -- "$name")" "<$name>"
done

finish
