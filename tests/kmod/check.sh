#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# check.sh - the kernel module, all of it: builds kvfs.ko for both kernels as strictly as build.sh can,
# runs guest.sh and suite.sh with each in a virtual machine, and lets the programs of user space judge
# the disks afterwards. 'make kmod-check' runs it.
#
# KV_KERNELS: where the kernels are kept (kernels.sh). KV_KMOD_KERNELS: only these, such as "6.12".
# What the guests said stays below $builddir/kmod-check.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

here=$srcdir/tests/kmod
work=$builddir/kmod-check
cache=${KV_KERNELS:-$builddir/kernels}
limit=700
# shellcheck source=tests/kmod/guest_checks.sh
. "$here/guest_checks.sh"
# The allocator's own checks (red zones, poison, who and where) and a stop at the first warning are
# slow, and find what tests alone do not.
declare -A words=([6.1]='slub_debug=FZPU panic_on_warn=1' [6.12]='')

# The judge of consoles must not be blind.
self_test() {
	printf '%s\n' '[ 1.0] WARNING: of the boot' '[ 2.0] @@ begin' '[ 3.0] kvfs: mounted' > "$tmp/console"
	check 'a console without a report passes' bash "$here/vm.sh" -s "$tmp/console"
	cp "$tmp/console" "$tmp/reported"
	echo '[ 4.0] BUG: sleeping function called from invalid context' >> "$tmp/reported"
	check 'a console with a report does not' expect 120 bash "$here/vm.sh" -s "$tmp/reported"
	echo '[ 1.0] Kernel panic' > "$tmp/console"
	check 'nor does one that ends before the test' expect 120 bash "$here/vm.sh" -s "$tmp/console"
}

build() {
	local s=$1 headers=$2 step status
	local -A text=(
		[module]='kvfs.ko builds with W=1, without a warning'
		[sparse]='sparse finds nothing'
		[frames]='all stack frames are below 1 KiB'
		[modinfo]='modinfo says what it should'
		[symbols]='no symbol of libc or of floating point'
	)

	for step in module sparse frames modinfo symbols; do
		status=0
		bash "$here/build.sh" "$headers" "$work/$s" "$step" > "$tmp/build.out" 2>&1 || status=$?
		if [ "$status" -eq 0 ]; then
			ok "$s: ${text[$step]}"
			[ "$step" != frames ] || diag "$(cat "$tmp/build.out")"
		else
			not_ok "$s: ${text[$step]}" "$(head -n 40 "$tmp/build.out")"
			[ "$step" != module ] || return 1
		fi
	done
}

run() {
	local s=$1 vmlinuz=$2 modules=$3 status=0 begin=$SECONDS out=$work/$1
	local programs=(-b "$builddir/kvs" -b "$builddir/kvs-fsck")

	check "$s: initramfs" bash "$here/initrd.sh" -k "$modules" -o "$out/initrd" -t "$here/guest.sh" \
		-P "${programs[@]}" "$out/kvfs.ko" "${suite_files[@]}"
	check "$s: kvs create makes the disk" make_disks "$s"
	bash "$here/vm.sh" -k "$vmlinuz" -i "$out/initrd" -c "$out/console" -r "$out/results" -t "$limit" \
		-a "${words[$s]}" "$out"/vd[a-d] > "$tmp/vm.out" 2>&1 || status=$?
	touch "$out/results"
	forward "$s" "$out/results"
	diag "$s: the guest took $((SECONDS - begin)) s"
	guest_ended "$s" "$out/results" "$status" "$tmp/vm.out" "$out/console"
	judge_disk "$s" vda
	judge_disk "$s" vdb
	rm -f "$out"/vd? "$out/initrd"
}

mkdir -p "$work"
self_test
check 'headers and images of the kernels are there' env KV_KERNELS="$cache" bash "$here/kernels.sh"
[ -s "$cache/kernels" ] || finish
while IFS=$'\t' read -r -u 3 series release headers vmlinuz modules; do
	[[ " ${KV_KMOD_KERNELS:-$series} " == *" $series "* ]] || continue
	diag "Linux $release"
	rm -f "$work/$series/results"
	if build "$series" "$headers"; then run "$series" "$vmlinuz" "$modules"; fi
done 3< "$cache/kernels"
diag "all took $SECONDS s"
finish
