#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# debug.sh - kvfs.ko on a debug kernel with two processors: KASAN, lockdep, kmemleak, UBSAN and fault
# injection. 'make kmod-debug' runs it. Each part has a guest of its own (debug_guest.sh), whose console
# must be without a report, and which leaves no leak and does not hang.
#
# KV_KERNELS: where the kernel is kept (debug_kernel.sh). KV_DEBUG_PARTS: only these, such as "nth images".
# KV_DEBUG_SEED, KV_DEBUG_IMAGES: of the mutated images. KV_DEBUG_ROUNDS: of devices that fail.
# KV_CRASH_SEED, KV_CRASH_OPERATIONS, KV_CRASH_POINTS: of the power cuts. What the guests said, and the disk
# that a failure needs to be repeated, stay below $builddir/kmod-debug.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

here=$srcdir/tests/kmod
work=$builddir/kmod-debug
cache=${KV_KERNELS:-$builddir/kernels}
seed=${KV_DEBUG_SEED:-1}
images=${KV_DEBUG_IMAGES:-1000}
rounds=${KV_DEBUG_ROUNDS:-4}
parts=${KV_DEBUG_PARTS:-blind suite nth flakey crash images}
# multi_shot: KASAN is silent after its first report otherwise.
words='kasan_multi_shot'
# shellcheck source=tests/kmod/guest_checks.sh
. "$here/guest_checks.sh"

# guest PART LIMIT WORDS FILE... -- DISK...: boots it; its checks become ours. Sets guest_status.
guest() {
	local part=$1 limit=$2 more=$3 files=() begin=$SECONDS out=$work/$1
	shift 3
	while [ "$1" != -- ]; do
		files+=("$1")
		shift
	done
	shift
	mkdir -p "$out"
	rm -f "$out/results" "$out/console"
	check "$part: initramfs" bash "$here/initrd.sh" -k "$modules" -o "$out/initrd" \
		-t "$here/debug_guest.sh" "${files[@]}"
	guest_status=0
	bash "$here/vm.sh" -k "$vmlinuz" -i "$out/initrd" -c "$out/console" -r "$out/results" -t "$limit" \
		-m 1G -a "$words kv_part=$part $more" "$@" > "$out/judged" 2>&1 || guest_status=$?
	touch "$out/results"
	forward "$part" "$out/results"
	rm -f "$out/initrd"
	is "$part: the guest came to its end" "$(tail -n 1 "$out/results")" '# complete'
	diag "$part: the guest took $((SECONDS - begin)) s"
}

# silent PART: the kernel had nothing to report. A status of 1 is a failed check, counted already.
silent() {
	if [ "$guest_status" -le 1 ]; then
		ok "$1: the kernel reported nothing"
	else
		not_ok "$1: the kernel reported nothing" "vm.sh: $guest_status" \
			"$(head -n 150 "$work/$1/judged")" "console: $work/$1/console"
	fi
}

static_program() {
	local name=$1
	shift
	check "$name builds" "${CC:-gcc}" -std=gnu11 -O2 -Wall -Wextra -static -o "$work/bin/$name" "$@" -lpthread
}

# ---- parts -------------------------------------------------------------------------------------------

# The judge, and the kernel that it listens to, must not be blind.
part_blind() {
	local report console=$work/blind/console

	mkdir -p "$work/planted"
	cp "$here/planted.c" "$work/planted/"
	echo 'obj-m := planted.o' > "$work/planted/Kbuild"
	check 'blind: planted.ko builds' env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL \
		make -C "$headers" M="$work/planted" modules
	guest blind 300 '' "$work/planted/planted.ko" --
	is 'blind: the console is not accepted' "$guest_status" 120
	for report in 'possible circular locking dependency' 'sleeping function called from invalid context|scheduling while atomic' \
		'UBSAN: shift-out-of-bounds' 'KASAN: slab-out-of-bounds' 'KASAN: (slab-)?use-after-free' \
		'KASAN: stack-out-of-bounds' 'unreferenced object'; do
		check "blind: reported: $report" grep -qE "$report" "$console"
	done
	check 'blind: the leak is that of planted.ko' grep -q 'planted_init' "$console"
}

part_suite() {
	mkdir -p "$work/suite"
	check 'suite: kvs create makes the disk' make_disks suite
	guest suite 3000 'kv_keys=3000 kv_large=16' -P -b "$builddir/kvs" -b "$builddir/kvs-fsck" \
		"$work/module/kvfs.ko" "$here/guest.sh" "${suite_files[@]}" -- "$work/suite"/vd[a-d]
	silent suite
	judge_disk suite vda
	judge_disk suite vdb
	rm -f "$work/suite"/vd?
}

# volume PART: a disk with a volume on it.
volume() {
	mkdir -p "$work/$1"
	rm -f "$work/$1/vda"
	check "$1: kvs create makes the disk" kvs create "$work/$1/vda" --size 64M
	truncate -s 64M "$work/$1/vda"
}

# clean PART: kvs-fsck and the engine of user space have nothing to say about its disk.
clean() {
	check "$1: kvs-fsck -n is clean" kvs-fsck -n "$work/$1/vda"
	check "$1: kvs check is clean" kvs check "$work/$1/vda"
}

part_nth() {
	local injected

	static_program nth "$here/nth.c" "$here/nth_ops.c"
	volume nth
	guest nth 1800 '' "$work/module/kvfs.ko" "$work/bin/nth" -- "$work/nth/vda"
	silent nth
	injected=$(sed -n 's/^# .*: \([0-9]*\) failures injected.*/\1/p' "$work/nth/results" |
		awk '{ sum += $1 } END { print sum + 0 }')
	if [ "$injected" -ge 500 ]; then
		ok "nth: at least 500 failures were injected: $injected"
	else
		not_ok 'nth: at least 500 failures were injected' "$injected"
	fi
	clean nth
	is 'nth: a value that was synced first is there' \
		"$(kvs get "$work/nth/vda" canary-small | tr -d s | wc -c), $(kvs get "$work/nth/vda" canary-small | wc -c)" \
		'0, 9000'
	is 'nth: and a large one' "$(kvs get "$work/nth/vda" canary-large | md5sum)" \
		"$(head -c 100000 /dev/zero | tr '\0' l | md5sum)"
}

part_flakey() {
	static_program flaky "$here/flaky.c"
	volume flakey
	guest flakey 1800 "kv_rounds=$rounds" -b /sbin/dmsetup "$work/module/kvfs.ko" "$work/bin/flaky" -- \
		"$work/flakey/vda"
	silent flakey
	clean flakey
}

# As crash.sh: the guest's writes are recorded, and what a cut at any point leaves is judged.
part_crash() {
	local options
	local base=$work/crash/base record=$work/crash/log
	local load_seed=${KV_CRASH_SEED:-2} operations=${KV_CRASH_OPERATIONS:-1000}

	# shellcheck source=tests/kmod/recorded.sh
	. "$here/recorded.sh"
	mkdir -p "$work/crash"
	recorded_load "$work/bin/load"
	recorded_base
	mapfile -t options < <(recorded_disk "$work/crash/disk")
	# The second -- ends the disks of vm.sh, of which there is none.
	guest crash 1800 "kv_seed=$load_seed kv_operations=$operations" "$work/module/kvfs.ko" \
		"$work/bin/load" -- -- -- "${options[@]}"
	silent crash
	judge_record 'crash: ' --points "${KV_CRASH_POINTS:-2000}" --seed "$load_seed"
	rm -f "$work/crash/disk"
}

part_images() {
	static_program walk "$here/walk.c"
	rm -rf "$work/corpus"
	mkdir -p "$work/corpus" "$work/images"
	check 'images: corpus' "$builddir/fuzz/mk_corpus" "$work/corpus"
	check "images: $images of them, seed $seed" "$builddir/fuzz/mk_mutants" "$seed" "$images" \
		"$work/images/vda" "$work/corpus"/*
	cp --sparse=always "$work/images/vda" "$work/images/disk"
	guest images 3000 '' "$work/module/kvfs.ko" "$work/bin/walk" -- "$work/images/disk"
	silent images
	rm -f "$work/images/disk"
}

# ---- all ---------------------------------------------------------------------------------------------

mkdir -p "$work/bin"
check 'the debug kernel is there' env KV_KERNELS="$cache" bash "$here/debug_kernel.sh"
IFS=$'\t' read -r _ release headers vmlinuz modules < "$cache/debug-kernel" || finish
diag "Linux $release"
check 'the tools for guests are there' env KV_KERNELS="$cache" bash "$here/kernels.sh"
check 'kvfs.ko builds for the debug kernel' bash "$here/build.sh" "$headers" "$work/module" module
[ -s "$work/module/kvfs.ko" ] || finish
check 'kvfs.ko is instrumented' grep -q '__asan_' <(nm -u "$work/module/kvfs.ko")
for p in $parts; do
	case $p in
	blind) part_blind ;;
	suite) part_suite ;;
	nth) part_nth ;;
	flakey) part_flakey ;;
	crash) part_crash ;;
	images) part_images ;;
	*) not_ok "no part is called $p" ;;
	esac
done
diag "all took $SECONDS s"
finish
