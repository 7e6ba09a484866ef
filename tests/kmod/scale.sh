#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# scale.sh - the kernel module with much to do and little memory, rows K3 H6 Y8: a virtual machine of 512 MiB
# makes, lists, reads and deletes 200,000 keys, and streams 2 GiB into one; kvs-fsck and kvs get judge the
# disk on the host. 'make kmod-scale' runs it. Times are remarks, nothing depends on them.
#
# KV_KERNELS: where the kernels are kept (kernels.sh). KV_KMOD_KERNELS: these instead of 6.12, such as
# "6.1 6.12". KV_SCALE_KEYS, KV_SCALE_MIB. What the guest said stays below $builddir/kmod-scale.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

here=$srcdir/tests/kmod
work=$builddir/kmod-scale
# shellcheck source=tests/kmod/guest_checks.sh
. "$here/guest_checks.sh"
cache=${KV_KERNELS:-$builddir/kernels}
keys=${KV_SCALE_KEYS:-200000}
large=${KV_SCALE_MIB:-2048}
limit=3000

run_guest() {
	local s=$1 vmlinuz=$2 modules=$3 out=$work/$1 status=0 begin=$SECONDS

	rm -f "$out/disk"
	truncate -s $((large + 2048))M "$out/disk"
	check "$s: initramfs" bash "$here/initrd.sh" -k "$modules" -o "$out/initrd" -t "$here/scale_guest.sh" \
		-b "$builddir/kvs" "$out/kvfs.ko" "$work/scale"
	bash "$here/vm.sh" -k "$vmlinuz" -i "$out/initrd" -c "$out/console" -r "$out/results" -t "$limit" \
		-m 512M -a "kv_keys=$keys kv_large=$large" "$out/disk" > "$tmp/vm.out" 2>&1 || status=$?
	touch "$out/results"
	forward "$s" "$out/results"
	diag "$s: the guest took $((SECONDS - begin)) s"
	guest_ended "$s" "$out/results" "$status" "$tmp/vm.out" "$out/console"
}

judge_disk() {
	local s=$1 image=$work/$1/disk

	check "$s: kvs-fsck -n is clean" kvs-fsck -n "$image"
	is "$s: kvs count: the large value is all there is" "$(kvs count "$image" 2>&1)" 1
	is "$s: kvs get gives its bytes" "$(kvs get "$image" large | sha256sum)" \
		"$("$work/scale" generate "$large" | sha256sum)"
	rm -f "$image" "$work/$s/initrd"
}

mkdir -p "$work"
check 'headers and images of the kernels are there' env KV_KERNELS="$cache" bash "$here/kernels.sh"
[ -s "$cache/kernels" ] || finish
check 'scale builds' "${CC:-gcc}" -std=gnu11 -O2 -Wall -Wextra -Werror -static -o "$work/scale" \
	"$here/scale.c" "$here/key_files.c"
while IFS=$'\t' read -r -u 3 series release headers vmlinuz modules; do
	[[ " ${KV_KMOD_KERNELS:-6.12} " == *" $series "* ]] || continue
	diag "Linux $release: $keys keys, $large MiB, memory of 512 MiB"
	rm -f "$work/$series/results"
	check "$series: kvfs.ko builds" bash "$here/build.sh" "$headers" "$work/$series" module
	[ -f "$work/$series/kvfs.ko" ] || continue
	run_guest "$series" "$vmlinuz" "$modules"
	judge_disk "$series"
done 3< "$cache/kernels"
diag "all took $SECONDS s"
finish
