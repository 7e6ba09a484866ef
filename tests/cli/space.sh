#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# space.sh - small things stay small: a fresh image is at most 4 MiB long, and with ten keys it
# takes less than 256 KiB of disk.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

image=$tmp/small.kv

# below TEXT NUMBER LIMIT
below() {
	if [ "$2" -lt "$3" ]; then
		ok "$1: $2 bytes, less than $3"
	else
		not_ok "$1: $2 bytes, wanted less than $3"
	fi
}

disk() {
	sync "$1" # some file systems allocate late
	du --block-size=1 "$1" | cut -f 1
}

check 'create' kvs create "$image"
below 'length of a fresh image' "$(stat -c %s "$image")" $(((4 << 20) + 1))
below 'disk of a fresh image' "$(disk "$image")" $((256 << 10))

for i in 0 1 2 3 4 5 6 7 8 9; do
	check "put $i" kvs put "$image" "key $i" "value of key $i"
done
below 'disk with ten keys' "$(disk "$image")" $((256 << 10))
is 'all are there' "$(kvs count "$image")" 10
is 'the last value' "$(kvs get "$image" 'key 9')" 'value of key 9'

# The same without create, and in one process.
for i in 0 1 2 3 4 5 6 7 8 9; do
	printf '{"key":"key %d","value":"value of key %d"}\n' "$i" "$i"
done > "$tmp/ten"
check 'load of ten keys into a new image' kvs load "$tmp/loaded.kv" "$tmp/ten"
below 'length of an image made by load' "$(stat -c %s "$tmp/loaded.kv")" $(((4 << 20) + 1))
below 'disk of an image made by load' "$(disk "$tmp/loaded.kv")" $((256 << 10))
finish
