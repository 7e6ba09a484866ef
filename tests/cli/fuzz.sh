#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# fuzz.sh - machine M9: a minute of AFL++ finds nothing (C16), and would find something: with the
# mutator that mends checksums a bug planted behind them shows within two minutes, without it never.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

fuzz=$builddir/fuzz
seconds=60
[ "${KV_TEST_QUICK:-0}" = 0 ] || seconds=10

mkdir "$tmp/corpus" "$tmp/again"
check 'the corpus can be made' "$fuzz/mk_corpus" "$tmp/corpus"
check 'and is the same each time' "$fuzz/mk_corpus" "$tmp/again"
check 'byte by byte' diff -r "$tmp/corpus" "$tmp/again"
check 'all of it is read without complaint' "$fuzz/fuzz_open" -s "$tmp/corpus"/*
for image in "$tmp/corpus"/*; do
	name=${image##*/}
	"$fuzz/fix_sum" "$image" "$tmp/mended"
	same "mending leaves a sound image alone: $name" "$image" "$tmp/mended"
done

if ! command -v afl-fuzz > /dev/null; then
	skip 'AFL++' "afl-fuzz is not installed; run './bootstrap'"
	finish
fi
check 'the target builds with afl-clang-fast' make -C "$builddir" fuzz
check "no crash and no hang in $seconds s" bash "$srcdir/fuzz/run.sh" "$seconds" 1
grep '^#' "$tmp/tap.out" || true

# What is found here is apart from what a real run would keep.
planted=(env KV_BUG=fuzz-crash KV_FUZZ_FIRST=1 KV_FUZZ_FOUND="$tmp/found")
check 'without the mutator the planted bug stays hidden' \
	"${planted[@]}" KV_FUZZ_MUTATOR=0 bash "$srcdir/fuzz/run.sh" 15 1
check 'with it, it is found within two minutes' \
	expect 1 "${planted[@]}" bash "$srcdir/fuzz/run.sh" 120 1
found=$(find "$tmp/found" -name 'crashes*' 2> /dev/null | head -n 1)
if [ -n "$found" ]; then
	check 'the image found crashes the target' expect 134 env KV_BUG=fuzz-crash \
		"$fuzz/fuzz_open" "$found"
	check 'and without the planted bug it does not' "$fuzz/fuzz_open" "$found"
else
	not_ok 'an image was found' 'no file in found/'
fi
finish
