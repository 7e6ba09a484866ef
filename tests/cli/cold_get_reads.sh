#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# cold_get_reads.sh - 'kvs get' of a key never read before, on a clean image of a million keys,
# reads the image at most 12 times and writes nothing. Counted by strace: reads and preads on the
# image's descriptor, and each iocb of an io_submit. A mapping of the image, or io_uring, would read
# behind strace's back; so there may be none.

# shellcheck disable=SC2317 # functions that check() calls
export TMPDIR=${TMPDIR:-/var/tmp}
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

keys=1000003 # a prime, so that i * 611953 mod keys visits each once
most_reads=12
image=$tmp/million.kv
calls=read,readv,pread64,preadv,preadv2,write,writev,pwrite64,pwritev,pwritev2,io_submit
calls=$calls,io_uring_setup,mmap,ftruncate,fallocate,copy_file_range,sendfile,splice

# value N: that of key N; every thousandth is too long to live in a leaf.
value() {
	awk -v n="$1" 'BEGIN { printf "%0*d", n % 1000 ? 100 : 3000, n }'
}

entries() {
	awk -v keys="$keys" 'BEGIN {
		for (i = 0; i < keys; i++) {
			n = i * 611953 % keys
			printf "{\"key\":\"key-%07d\",\"value\":\"%0*d\"}\n", n,
				n % 1000 ? 100 : 3000, n
		}
	}'
}

load() {
	entries | kvs load --cache 256M "$image" - # faster; the gets have the default
}

# count REGEX: how often it occurs in the trace, in the lines about the image.
count() {
	awk -v image="<$image>" -v regex="$1" '
		index($0, image) { sum += gsub(regex, "&") }
		END { print sum + 0 }' "$tmp/trace"
}

get_traced() {
	rm -f "$tmp/trace"
	strace -f -y -v -s 0 -o "$tmp/trace" -e trace="$calls" kvs get "$image" "$1" > "$tmp/got"
}

one() {
	local key reads

	key=$(printf 'key-%07d' "$1")
	value "$1" > "$tmp/want"
	check "get of $key, traced" get_traced "$key"
	same "$key: the value is right" "$tmp/want" "$tmp/got"
	reads=$(count '[^a-z](p?readv?2?|pread64)\\(|IOCB_CMD_PREADV?')
	if [ "$reads" -ge 1 ] && [ "$reads" -le "$most_reads" ]; then
		ok "$key: $reads reads of the image, at most $most_reads"
	else
		not_ok "$key: $reads reads of the image, at most $most_reads" "$(cat "$tmp/trace")"
	fi
	is "$key: no write" \
		"$(count '(p?writev?2?|pwrite64|ftruncate|fallocate)\\(|IOCB_CMD_PWRITEV?')" 0
	is "$key: nothing that strace would not see" \
		"$(count '(mmap|splice|sendfile|copy_file_range)\\(')$(grep -c io_uring "$tmp/trace")" 00
}

check "a million keys load" load
is 'their number' "$(kvs count "$image")" "$keys"
before=$(stat -c '%s %b %Y' "$image" && sha256sum "$image")
for n in 0 1000000 314159 271828 500000 777777 3000; do
	one "$n"
done
is 'the image is as it was, byte for byte' "$(stat -c '%s %b %Y' "$image" && sha256sum "$image")" \
	"$before"
finish
