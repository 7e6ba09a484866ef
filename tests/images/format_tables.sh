#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# format_tables.sh - docs/FORMAT.md and format/ say the same. The compiler is asked for the offset, type
# and number of elements of every field of kv_format.h and for the value of every constant; the
# "+0x" comments of the header, and the tables of the document, must agree, row for row. Each finding of
# kv_finding.h has its invariant, and the test that the invariant names speaks of the finding.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

header=$srcdir/format/kv_format.h
findings=$srcdir/format/kv_finding.h
book=$srcdir/docs/FORMAT.md

# ---- what the header says, made into a program that prints it ------------------------------------

cat > "$tmp/header.awk" <<'AWK'
function put(s) { print s }
BEGIN {
	put("#include <stdio.h>")
	put("#include \"format/kv_format.h\"")
	put("int main(void)\n{")
}
/^struct kvf_(geometry|identity) \{/ { next }
/^struct kvf_[a-z_]+ \{/ { name = $2; next }
name && /\/\* \+0x/ {
	said = $0
	sub(/.*\/\* \+/, "", said)
	sub(/[^0-9a-fx].*/, "", said)
}
name && /^\t(u8|__le16|__le32|__le64|struct [a-z_]+) [a-z0-9_, \[\]A-Z]+;/ {
	line = $0
	sub(/^\t/, "", line)
	sub(/;.*/, "", line)
	type = line
	sub(/^struct /, "", type)
	sub(/ .*/, "", type)
	shown = type
	sub(/^__/, "", shown)
	sub(/^(struct )?[a-z0-9_]+ /, "", line)
	n = split(line, fields, /, */)
	for (i = 1; i <= n; i++) {
		f = fields[i]
		array = f ~ /\[/
		sub(/\[.*/, "", f)
		at = "__builtin_offsetof(struct " name ", " f ")"
		put("printf(\"field " name " %#06zx " shown "\", (size_t)" at ");")
		if (array) {
			m = "((struct " name " *)0)->" f
			put("printf(\"[%zu]\", sizeof(" m ") / sizeof(" m "[0]));")
		}
		put("puts(\" " f "\");")
		if (said != "" && i == 1)
			put("if ((size_t)" at " != " said "u) puts(\"comment " name "." f ": " said "\");")
		said = ""
	}
}
name && /^\};/ {
	put("printf(\"size " name " %#06zx\\n\", sizeof(struct " name "));")
	if (said != "")
		put("if (sizeof(struct " name ") != " said "u) puts(\"comment end of " name ": " said "\");")
	name = said = ""
}
/^#define KVF_[A-Z0-9_]+ [^"]/ && $2 !~ /\(/ { constant[++nr] = $2 }
/^\tKVF_[A-Z0-9_]+ = / { constant[++nr] = $1 }
END {
	for (i = 1; i <= nr; i++) {
		c = constant[i]
		put("printf(\"constant " c " %llu\\n\", (unsigned long long)(" c "));")
	}
	put("return 0;\n}")
}
AWK
awk -f "$tmp/header.awk" "$header" > "$tmp/header.c"
check 'a program that prints kv_format.h compiles' \
	"${CC:-cc}" -std=gnu11 -w -I"$srcdir" -I"$srcdir/engine/user" "$tmp/header.c" -o "$tmp/header"
"$tmp/header" > "$tmp/said"
check 'it has found structures and constants' \
	test "$(grep -c '^field' "$tmp/said")" -gt 150 -a "$(grep -c '^constant' "$tmp/said")" -gt 80
is 'the +0x comments of kv_format.h are true' "$(grep '^comment' "$tmp/said" || true)" ''

# ---- what the document says -----------------------------------------------------------------------

awk -F ' *[|] *' '
/^### `kvf_[a-z_]+` \([0-9]+ bytes\)/ {
	name = $0
	gsub(/^### `|`.*/, "", name)
	bytes = $0
	gsub(/.*\(| bytes.*/, "", bytes)
	next
}
/^#/ { name = "" }
name && $2 ~ /^0x[0-9a-f]+$/ && $4 == "" {
	print "size", name, $2, bytes
	next
}
name && $2 ~ /^0x[0-9a-f]+$/ { print "field", name, $2, $3, $4 }
$2 ~ /^`KVF_[A-Z0-9_]+`$/ {
	gsub(/`/, "", $2)
	print "constant", $2, $3
}' "$book" > "$tmp/raw"
while read -r what name value rest; do
	case $what in
	field)
		printf 'field %s 0x%04x %s\n' "$name" "$value" "$rest"
		;;
	size)
		printf 'size %s 0x%04x\n' "$name" "$value"
		[ "$((value))" -eq "$rest" ] || echo "size of $name: the heading says $rest bytes"
		;;
	constant)
		# 'T' gives the number of the character
		printf 'constant %s %u\n' "$name" "${value%\'}"
		;;
	esac
done < "$tmp/raw" > "$tmp/book"

# compare TEXT KIND: the lines of one kind, in any order.
compare() {
	grep "^$2" "$tmp/said" | sed 's/ 0x0*\([0-9a-f]\)/ 0x\1/; s/ 0000 / 0x0 /; s/ 000000 / 0x0 /' |
		sort > "$tmp/a"
	grep "^$2" "$tmp/book" | sed 's/ 0x0*\([0-9a-f]\)/ 0x\1/' | sort > "$tmp/b"
	check "$1 (< header, > FORMAT.md)" diff "$tmp/a" "$tmp/b"
}
compare 'every field has its row: structure, offset, type, name' field
compare 'every structure has its size' size
compare 'every constant has its row and value' constant

# ---- findings and invariants ------------------------------------------------------------------------

sed -n 's/^\tx(\([a-z_0-9]*\),[\t ]*\([0-9]*\),.*/I-\2 \1/p' "$findings" > "$tmp/a"
awk -F ' *[|] *' '$2 ~ /^I-[0-9]+$/ { print $2, $3 }' "$book" > "$tmp/b"
check 'it has found findings' test "$(wc -l < "$tmp/a")" -gt 70
check 'every finding has its invariant, in order' diff "$tmp/a" "$tmp/b"
awk -F ' *[|] *' '$2 ~ /^I-[0-9]+$/ { print substr($2, 3), $3, $5 }' "$book" |
	while read -r number name where; do
		grep -rqwE "(KVF_F_)?$name|$number" "$srcdir/$where" 2> /dev/null ||
			echo "$where does not speak of finding $number, $name"
	done > "$tmp/untested"
is 'every invariant is tied to a test that speaks of its finding' "$(cat "$tmp/untested")" ''

finish
