#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# symbols.sh - the library's face: header, symbol map and shared library name the same functions; its
# versions agree; the core and the judge use only what they may.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

header=$srcdir/engine/include/kvengine.h
map=$srcdir/engine/libkvengine.map

# Names of functions that the preprocessed header declares.
"${CC:-cc}" -E -P "$header" | tr '\n' ' ' | tr ';' '\n' |
	grep -oE '\bkv_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u > "$tmp/header"
sed -n '/^global:/,/^local:/s/^\t\(.*\);$/\1/p' "$map" > "$tmp/map"
nm -D --defined-only "$builddir/.libs/libkvengine.so" |
	awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort > "$tmp/so"

check 'kvengine.h declares functions' test -s "$tmp/header"
check 'symbol map is sorted, no name twice' sort -cu "$tmp/map"
check 'header and symbol map name the same functions' diff "$tmp/header" "$tmp/map"
check 'symbol map and libkvengine.so name the same functions' diff "$tmp/map" "$tmp/so"
check 'symbol map has no pattern' expect 1 grep -n '[*?]' "$tmp/map"

# Global names of the static library live in the program that links it: they need our prefixes.
nm --defined-only -g "$builddir/.libs/libkvengine.a" 2> /dev/null |
	awk 'NF == 3 && $3 !~ /^(kv|kve|kvf|kvp)_/ { print $3 }' > "$tmp/foreign"
check 'libkvengine.a defines only names with kv_ kve_ kvf_ kvp_' diff /dev/null "$tmp/foreign"

# undefined LIBRARY: what its objects take from elsewhere.
undefined() {
	local a=$builddir/.libs/$1.a

	nm -u "$a" | awk '$1 == "U" { print $2 }' | sort -u > "$tmp/undefined"
	nm --defined-only -g "$a" | awk 'NF == 3 { print $3 }' | sort -u > "$tmp/defined"
	comm -23 "$tmp/undefined" "$tmp/defined"
}

# What the compiler may call on its own, and the few names that kvp_arch.h maps to functions.
builtin='(__)?(memcpy|memmove|memset|memcmp|strlen)(_chk)?|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_|XXH64(_reset|_update|_digest)?'
for lib in libkvformat libkvcore; do
	case $lib in
	libkvformat) allowed="^($builtin)\$" ;;
	libkvcore) allowed="^($builtin|kvf_.*|kvp_.*)\$" ;;
	esac
	undefined "$lib" | grep -vE "$allowed" > "$tmp/foreign" || true
	check "$lib calls no libc, only what its layer may" diff /dev/null "$tmp/foreign"
done
undefined libkvsck | grep -E '^(kv|kve)_' > "$tmp/foreign" || true
check 'libkvsck (the judge) calls nothing of the engine' diff /dev/null "$tmp/foreign"

# ---- versions and programs -----------------------------------------------------------------------

version=$(sed -n 's/^#define KV_VERSION_STRING "\(.*\)"/\1/p' "$header")
numbers=$(awk '/^#define KV_VERSION_(MAJOR|MINOR|PATCH)/ { v = v "." $3 } END { print substr(v, 2) }' "$header")
is 'version macros agree' "$numbers" "$version"
is 'kvengine.pc has the version of the header' \
	"$(sed -n 's/^Version: //p' "$builddir/kvengine.pc")" "$version"
is 'the symbol map names the version' \
	"$(sed -n 's/^KVENGINE_\(.*\) {/\1/p' "$map")" "${version%.*}"

for program in kvs kvs-fsck kvbench; do
	is "$program is a real executable" "$(head -c 4 "$builddir/$program" 2>&1 | tail -c 3)" ELF
done
finish
