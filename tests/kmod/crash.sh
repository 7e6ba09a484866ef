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
replay=$builddir/tests/kmod/replay_log
seed=${KV_CRASH_SEED:-1}
operations=${KV_CRASH_OPERATIONS:-2000}
points=${KV_CRASH_POINTS:-6000}
disk_bytes=$((16 << 20))

# qemu_disk IMAGE LOG: options for a disk whose writes are recorded. What the host syncs is of no interest.
# shellcheck disable=SC2317 # called by run_guest
qemu_disk() {
	printf '%s\n' -blockdev "driver=file,node-name=data,cache.no-flush=on,filename=${1//,/,,}" \
		-blockdev "driver=file,node-name=log,cache.no-flush=on,filename=${2//,/,,}" \
		-blockdev driver=blklogwrites,node-name=recorded,file=data,log=log,log-append=off \
		-device virtio-blk-pci,drive=recorded
}

guest_script() {
	cat <<GUEST
insmod /kvfs.ko && mount -t kvfs /dev/vda /mnt || exit 1
/load /mnt $seed $operations || exit 1
echo "# load: \$(cut -d ' ' -f 1 /proc/uptime) s after the start of the guest"
GUEST
}

# shellcheck disable=SC2317 # called through check
run_guest() {
	local options

	cp "$work/base" "$work/disk"
	: > "$work/log"
	mapfile -t options < <(qemu_disk "$work/disk" "$work/log")
	# The first -- ends the options of vm.sh, the second one its disks, of which there is none.
	bash "$here/vm.sh" -k "$1" -i "$work/initrd" -c "$work/console" -r "$work/results" -t 500 \
		-- -- "${options[@]}"
}

# judge TEXT ARGUMENT...: the checks of replay_log become ours.
judge() {
	local line status=0 planned=

	"$replay" --image "$work/base" --log "$work/log" --load-seed "$seed" --operations "$operations" \
		"$@" > "$work/judged" 2>&1 || status=$?
	while IFS= read -r line; do
		case $line in
		'ok '*) ok "${line#* - }" ;;
		'not ok '*) not_ok "${line#* - }" ;;
		1..*) planned=1 ;;
		*) diag "${line#\# }" ;;
		esac
	done < "$work/judged"
	is 'replay_log came to its end' "${planned:-0}" 1
	[ "$status" -le 1 ] || not_ok "replay_log: status $status"
}

# forgets TEXT N: with every Nth flush ignored, the judge must complain.
forgets() {
	local status=0

	"$replay" --image "$work/base" --log "$work/log" --load-seed "$seed" --operations "$operations" \
		--points 3000 --forget-flush "$2" > "$work/forgotten.$2" 2>&1 || status=$?
	if [ "$status" -eq 1 ] && grep -q '^# violation: ' "$work/forgotten.$2"; then
		ok "$1"
		diag "$(grep -m 2 "^# violation: " "$work/forgotten.$2" | sed "s,^# ,,")"
	else
		not_ok "$1" "status $status" "$(tail -n 20 "$work/forgotten.$2")"
	fi
}

mkdir -p "$work"
check 'headers and images of the kernels are there' env KV_KERNELS="$cache" bash "$here/kernels.sh"
IFS=$'\t' read -r _ release headers vmlinuz modules < <(grep '^6\.12' "$cache/kernels") || finish
diag "Linux $release, seed $seed, 3 threads of $operations operations"
check 'kvfs.ko builds' bash "$here/build.sh" "$headers" "$work/module" module
check 'load builds' "${CC:-gcc}" -std=gnu11 -O2 -Wall -static -o "$work/load" "$here/load.c" -lpthread
guest_script > "$work/test.sh"
check 'initramfs' bash "$here/initrd.sh" -k "$modules" -o "$work/initrd" -t "$work/test.sh" \
	"$work/module/kvfs.ko" "$work/load"
check 'the disk before the load' "$replay" --make "$work/base" --size "$disk_bytes"
begin=$SECONDS
check 'the load runs in the guest, and the kernel reports nothing' run_guest "$vmlinuz"
diag "the guest took $((SECONDS - begin)) s"
begin=$SECONDS
judge --points "$points" --seed "$seed"
diag "replaying took $((SECONDS - begin)) s"
forgets 'the judge sees it when every second flush is forgotten' 2
forgets 'the judge sees it when every 20th flush is forgotten' 20
diag "all took $SECONDS s"
finish
