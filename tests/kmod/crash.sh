#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# crash.sh - power cuts in the guest, CONTRACT C1 C3 C4: a virtual machine runs the load of load.c on a
# KVFS mount, on a disk behind QEMU's blklogwrites; replay_log.c then judges what a cut at any point of
# that record leaves. 'make kmod-crash' runs it.
#
# KV_KERNELS: where the kernels are kept (kernels.sh). KV_CRASH_SEED, KV_CRASH_OPERATIONS (of each
# thread), KV_CRASH_POINTS. What is needed to repeat it stays below $builddir/kmod-crash.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

here=$srcdir/tests/kmod
work=$builddir/kmod-crash
cache=${KV_KERNELS:-$builddir/kernels}
load_seed=${KV_CRASH_SEED:-1}
operations=${KV_CRASH_OPERATIONS:-2000}
points=${KV_CRASH_POINTS:-6000}
base=$work/base
record=$work/log
# shellcheck source=tests/kmod/recorded.sh
. "$here/recorded.sh"

guest_script() {
	cat <<GUEST
insmod /kvfs.ko && mount -t kvfs /dev/vda /mnt || exit 1
/load /mnt $load_seed $operations || exit 1
echo "# load: \$(cut -d ' ' -f 1 /proc/uptime) s after the start of the guest"
GUEST
}

# shellcheck disable=SC2317 # called through check
run_guest() {
	local options

	mapfile -t options < <(recorded_disk "$work/disk")
	# The first -- ends the options of vm.sh, the second one its disks, of which there is none.
	bash "$here/vm.sh" -k "$1" -i "$work/initrd" -c "$work/console" -r "$work/results" -t 500 \
		-- -- "${options[@]}"
}

mkdir -p "$work"
check 'headers and images of the kernels are there' env KV_KERNELS="$cache" bash "$here/kernels.sh"
IFS=$'\t' read -r _ release headers vmlinuz modules < <(grep '^6\.12' "$cache/kernels") || finish
diag "Linux $release, seed $load_seed, 3 threads of $operations operations"
check 'kvfs.ko builds' bash "$here/build.sh" "$headers" "$work/module" module
recorded_load "$work/load"
guest_script > "$work/test.sh"
check 'initramfs' bash "$here/initrd.sh" -k "$modules" -o "$work/initrd" -t "$work/test.sh" \
	"$work/module/kvfs.ko" "$work/load"
recorded_base
begin=$SECONDS
check 'the load runs in the guest, and the kernel reports nothing' run_guest "$vmlinuz"
diag "the guest took $((SECONDS - begin)) s"
begin=$SECONDS
judge_record '' --points "$points" --seed "$load_seed"
diag "replaying took $((SECONDS - begin)) s"
judge_forgets 'the judge sees it when every second flush is forgotten' 2
judge_forgets 'the judge sees it when every 20th flush is forgotten' 20
diag "all took $SECONDS s"
finish
