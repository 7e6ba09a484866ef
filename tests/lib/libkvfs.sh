#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# libkvfs.sh - row K11 on a mount of 'kvs mount': the document's program, and what the library looks up and
# escapes. (tests/kmod runs the same program in a guest.)

set -euo pipefail
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

k11=$builddir/tests/lib/k11
img="$tmp/an image.kv"
dir="$tmp/a mount"
mkdir "$dir"

# shellcheck disable=SC2317 # called by tap.sh
tap_cleanup() {
	fusermount3 -u "$dir" 2> /dev/null || fusermount3 -uz "$dir" 2> /dev/null
}

# shellcheck disable=SC2317 # called through check
up() { kvs mount "$img" "$dir" "$@"; }

# The server goes on for a moment after umount has returned.
# shellcheck disable=SC2317
down() {
	fusermount3 -u "$dir"
	for _ in {1..100}; do
		kvs stat "$img" > /dev/null 2>&1 && return
		sleep 0.1
	done
	return 1
}

# k11_on TEXT MOUNT: its own checks as ours.
k11_on() {
	local line

	"$k11" "$2" > "$tmp/k11" 2>&1 < /dev/null || true
	while IFS= read -r line; do
		case $line in
		'ok '*) ok "$1: ${line#* - }" ;;
		'not ok '*) not_ok "$1: ${line#* - }" ;;
		1..*) plan=${line#1..} ;;
		*) diag "$line" ;;
		esac
	done < "$tmp/k11"
	is "$1: k11 came to its end" "$(grep -cE '^(not )?ok ' "$tmp/k11")" "${plan:-none}"
	plan=''
}

check 'kvs create' kvs create "$img"
check 'kvs mount' up
k11_on 'attached by directory' "$dir"
k11_on 'attached by image' "$img"
ln -s "$img" "$tmp/link"
k11_on 'attached by a link to the image' "$tmp/link"
mkdir "$dir/tree"
k11_on 'attached to the directory of a tree' "$dir/tree"
is 'k11 leaves nothing' "$(cd "$dir" && echo *)" '_dec _del _inc _mk tree'
check 'unmount' down
check 'after that, attaching by image gives ENODEV' expect 2 "$k11" "$img"
like 'and says so' "$(cat "$tmp/tap.out")" 'No such device'

check 'kvs mount -o write=stream' up -o write=stream
k11_on 'write=stream' "$dir"
check 'unmount' down
check 'kvs mount -o strip_nl' up -o strip_nl
k11_on 'strip_nl' "$dir"
check 'unmount' down

# ---- names: what the library escapes, the volume unescapes (row K9) ------------------------------------

# Trees stand in the way of keys of the same name.
for tree in t /a . _mk 100% 'k k'; do
	kvs put "$img" -t "$tree" leaf green
	echo "$tree"
done > "$tmp/keys"
{
	printf '%s\n' plain a/b / // % %% %2F %2f %41 .. ... .a _del _inc _dec _mk_ tt main k11 'with blank' '%~' \
		'a%~0123456789ABCDEF0123456789ABCDEF' $'\xff\x80' $'\t' ü
	for n in 84 85 86 200 201 254 255 256 300; do
		printf "%0${n}d\n" 0
		printf "%${n}s\n" '' | tr ' ' /
		printf 'a%%%s\n' "$(printf "%$((n - 2))s" '' | tr ' ' /)"
	done
} >> "$tmp/keys"
check 'kvs mount' up
"$k11" "$dir" names < "$tmp/keys" > "$tmp/out" 2>&1 || true
is 'all are stored' "$(cat "$tmp/out")" ''
check 'unmount' down
while IFS= read -r key; do
	is "K9 the key '${key:0:40}' (${#key} bytes)" "$(kvs get --key-enc raw "$img" -- "$key" 2>&1)" "$key"
done < "$tmp/keys"
is 'and no others' "$(kvs count "$img")" "$(wc -l < "$tmp/keys")"
is 'the trees are as they were' "$(kvs trees "$img" | grep -vc '^main')" 7
check 'kvs check' kvs check "$img"

# ---- what it gives away ------------------------------------------------------------------------------------

header=$srcdir/lib/libkvfs.h
map=$srcdir/lib/libkvfs.map
"${CC:-cc}" -E -P "$header" | tr '\n' ' ' | tr ';' '\n' |
	grep -oE '\b(key|kvfs)_[a-z_]+ *\(' | tr -d ' (' | sort -u > "$tmp/header"
sed -n '/^global:/,/^local:/s/^\t\(.*\);$/\1/p' "$map" > "$tmp/map"
check 'the symbol map is sorted' sort -cu "$tmp/map"
check 'header and symbol map name the same functions' diff "$tmp/header" "$tmp/map"
if [ -e "$builddir/.libs/libkvfs.so" ]; then
	nm -D --defined-only "$builddir/.libs/libkvfs.so" |
		awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort > "$tmp/so"
	check 'symbol map and libkvfs.so name the same functions' diff "$tmp/map" "$tmp/so"
else
	skip 'symbol map and libkvfs.so name the same functions' 'no shared library was built'
fi
while read -r name; do
	check "the man page has $name" grep -q "$name" "$srcdir/lib/man/libkvfs.3"
done < "$tmp/map"
finish
