#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# forged.sh - images that a fuzzer made, with checksums that are right, and that once were read wrongly:
# each is opened, walked and read whole by the fuzz target, which stops at a crash, at answers that
# contradict one another, and is stopped when it does not end. CONTRACT C16
#
# fences-*     a child whose fences are not the separators beside it: walks that went round for ever, or
#              forwards and backwards through different entries
# root-grows   replay of a record into a root that grows (undefined pointer arithmetic)

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

version=$(sed -n 's/^#define KVF_VERSION \([0-9]*\)u$/\1/p' "$srcdir/format/kv_format.h")

for image in "$srcdir"/tests/images/forged/*.xz; do
	name=${image##*/}
	xz -dc "$image" > "$tmp/${name%.xz}.kv"
	# Of another version it would be refused at once: set the number in all superblocks, seal them again.
	check "${name%.xz}: of this version" test \
		"$(od -An -tu4 -j16 -N4 "$tmp/${name%.xz}.kv" | tr -d ' ')" = "$version"
	check "${name%.xz}" timeout 60 "$builddir/fuzz/fuzz_open" "$tmp/${name%.xz}.kv"
done
finish
