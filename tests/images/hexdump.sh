#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# hexdump.sh - the worked example of docs/FORMAT.md is what the engine writes. A small volume is made by
# the product; its newest superblock, first LOG segment header and first two records are printed field by
# field, by the offsets in the tables of the document itself, and compared with what stands there.
#
# What differs from run to run (times, and the sums of what holds times) is printed as "..".
#
#	hexdump.sh             test, as TAP
#	hexdump.sh --update    write the section anew: after a change of the format, with the diff read

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

book=$srcdir/docs/FORMAT.md
image=$tmp/a.kv
segment=4096
block=512

# bytes OFFSET LENGTH: as hexadecimal digits.
bytes() {
	xxd -p -s "$1" -l "$2" "$image" | tr -d '\n'
}

# number OFFSET LENGTH: little-endian.
number() {
	local hex
	hex=$(bytes "$1" "$2" | fold -w 2 | tac | tr -d '\n')
	printf '%d' "0x$hex"
}

# rows STRUCTURE: "offset name" of its table, and the end as "offset end".
rows() {
	awk -F ' *[|] *' -v name="$1" '
	/^### / { inside = index($0, "`" name "`") }
	inside && $2 ~ /^0x/ { print $2, ($4 == "" ? "end" : $4) }' "$book"
}

# line OFFSET HEX TEXT: 16 bytes a line; a run of zeros is cut short.
line() {
	local off=$1 hex=$2 text=$3 shown
	if [ ${#hex} -gt 32 ] && [ -z "${hex//0/}" ]; then
		printf '%06x  %-48s %s\n' "$off" "00 ($((${#hex} / 2)) times)" "$text"
		return
	fi
	while [ -n "$hex" ]; do
		shown=$(fold -w 2 <<< "${hex:0:32}" | tr '\n' ' ')
		printf '%06x  %-48s %s\n' "$off" "$shown" "$text" | sed 's/ *$//'
		hex=${hex:32}
		off=$((off + 16))
		text=
	done
}

# varies STRUCTURE FIELD: differs from run to run.
varies() {
	case $1.$2 in
	kvf_super.sum | kvf_super.created | kvf_ref.sum) true ;;
	*) false ;;
	esac
}

# structure NAME OFFSET [PREFIX]
structure() {
	local name=$1 base=$2 prefix=${3-} from field next next_field hex
	while read -r next next_field; do
		if [ -n "${field-}" ]; then
			hex=$(bytes $((base + from)) $((next - from)))
			if [[ $field =~ ^(prev_)?(forest|segtab)$ && -n ${hex//0/} ]]; then
				structure kvf_ref $((base + from)) "$field."
			else
				! varies "$name" "$field" || hex=${hex//?/.}
				line $((base + from)) "$hex" "$prefix$field"
			fi
		fi
		from=$next
		field=$next_field
	done < <(rows "$name")
}

# newest: offset of the newest superblock in group A.
newest() {
	local i seq best=0 at=0
	for i in 0 1 2 3; do
		seq=$(number $((i * block + 0x70)) 8)
		if [ "$seq" -gt "$best" ]; then
			best=$seq
			at=$((i * block))
		fi
	done
	echo "$at"
}

# first_log: offset of the LOG segment with the lowest LSN.
first_log() {
	local size at lsn best=0 found=0
	size=$(stat -c %s "$image")
	for ((at = 3 * segment; at + segment <= size; at += segment)); do
		[ "$(bytes "$at" 5)" = 4b53454701 ] || continue
		lsn=$(number $((at + 0x38)) 8)
		if [ "$found" -eq 0 ] || [ "$lsn" -lt "$best" ]; then
			best=$lsn
			found=$at
		fi
	done
	echo "$found"
}

# record OFFSET: prints it, sets $after.
record() {
	local at=$1 key payload end
	key=$(number $((at + 0x0a)) 2)
	payload=$(number $((at + 0x0c)) 4)
	structure kvf_record "$at"
	end=$((at + 56))
	line "$end" "$(bytes "$end" "$key")" "key: $(xxd -p -s "$end" -l "$key" "$image" | xxd -r -p)"
	end=$((end + key))
	[ "$payload" -eq 0 ] ||
		line "$end" "$(bytes "$end" "$payload")" \
			"payload: $(xxd -p -s "$end" -l "$payload" "$image" | xxd -r -p)"
	end=$((end + payload))
	after=$(((end + 15) / 16 * 16))
	[ "$after" -eq "$end" ] || line "$end" "$(bytes "$end" $((after - end)))" 'zeros'
}

dump() {
	local log after
	log=$(first_log)
	echo '```'
	echo "superblock (the newest, in group A)"
	structure kvf_super "$(newest)"
	echo
	echo "header of the first LOG segment"
	structure kvf_segment_header "$log"
	echo
	echo "first record"
	record $((log + block))
	echo
	echo "second record"
	record "$after"
	echo '```'
}

make_image() {
	rm -f "$image"
	kvs create "$image" --block $block --segment $segment --frame 2048 --window 1 \
		--uuid 00112233-4455-6677-8899-aabbccddeeff --label example
	printf '%s\n' '{"key":"apple","value":"red"}' '{"key":"pear","value":"green"}' |
		kvs load "$image" -
}

if [ "${1-}" = --update ]; then
	make_image
	dump > "$tmp/dump"
	sed -e "/<!-- hexdump:begin -->/r $tmp/dump" \
		-e '/<!-- hexdump:begin -->/,/<!-- hexdump:end -->/{/<!-- hexdump:/!d;}' "$book" > "$tmp/book"
	cp "$tmp/book" "$book"
	exit 0
fi

check 'a small volume is made' make_image
sed -n '/<!-- hexdump:begin -->/,/<!-- hexdump:end -->/{/<!-- hexdump:/!p;}' "$book" > "$tmp/want"
check 'the document has an example' test "$(wc -l < "$tmp/want")" -gt 60
dump > "$tmp/got"
check 'the example is what is written (< document, > now); see --update' diff "$tmp/want" "$tmp/got"
finish
