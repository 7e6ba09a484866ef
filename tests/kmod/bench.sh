#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# bench.sh - the kernel module beside ext4, rows K16 Y11: small keys, one file each, by the same program on both,
# on virtio disks of the same size, in one virtual machine; and what one call costs as keys grow in number.
# 'make kmod-bench' runs it. The tables are in $builddir/kmod-bench/tables.md.
#
# The machine is emulated: only ratios mean something. Nothing is asserted but that every value is right, that
# the kernel reports nothing, and that both file systems are sound afterwards.
#
# KV_KERNELS: where the kernels are kept (kernels.sh). KV_KMOD_KERNELS: one instead of 6.12. KV_BENCH_ROUNDS,
# KV_BENCH_KEYS. KV_BENCH_SIZES: numbers of keys of the table of calls.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

here=$srcdir/tests/kmod
work=$builddir/kmod-bench
# shellcheck source=tests/kmod/guest_checks.sh
. "$here/guest_checks.sh"
cache=${KV_KERNELS:-$builddir/kernels}
rounds=${KV_BENCH_ROUNDS:-5}
keys=${KV_BENCH_KEYS:-20000}
sizes=${KV_BENCH_SIZES:-1000 10000 100000}
disk_bytes=1G
PATH=$PATH:/usr/sbin:/sbin # of mkfs and fsck

guest_script() {
	cat <<GUEST
ok() { if [ \$? -eq 0 ]; then echo "ok - \$1"; else echo "not ok - \$1"; failed=1; fi; }
failed=0
mkdir /ext4 /kvfs
insmod /kvfs.ko && kvs create /dev/vda && mount -t kvfs /dev/vda /kvfs
ok 'kvfs is mounted'
mount -t ext4 /dev/vdb /ext4 && rmdir /ext4/lost+found
ok 'ext4 is mounted'
grep -E ' /(kvfs|ext4) ' /proc/mounts
/bench files $rounds $keys kvfs /kvfs vda ext4 /ext4 vdb
ok 'each value was right in all rounds on both'
/bench latency /kvfs $sizes
ok 'each call gave what it should with each number of keys'
umount /ext4 && umount /kvfs && rmmod kvfs
ok 'umount and rmmod'
echo '# complete'
exit \$failed
GUEST
}

mkdir -p "$work"
check 'headers and images of the kernels are there' env KV_KERNELS="$cache" bash "$here/kernels.sh"
IFS=$'\t' read -r series release headers vmlinuz modules < \
	<(grep "^${KV_KMOD_KERNELS:-6.12}"$'\t' "$cache/kernels") || finish
check 'kvfs.ko builds' bash "$here/build.sh" "$headers" "$work/module" module
check 'bench builds' "${CC:-gcc}" -std=gnu11 -O2 -Wall -Wextra -Werror -static -o "$work/bench" \
	"$here/bench.c" "$here/bench_latency.c" "$here/key_files.c"
guest_script > "$work/test.sh"
check 'initramfs' bash "$here/initrd.sh" -k "$modules" -o "$work/initrd" -t "$work/test.sh" \
	-b "$builddir/kvs" "$work/module/kvfs.ko" "$work/bench"
rm -f "$work"/disk.*
truncate -s "$disk_bytes" "$work/disk.kvfs" "$work/disk.ext4"
check 'mkfs.ext4' mkfs.ext4 -q -F "$work/disk.ext4"
diag "Linux $release, $(mkfs.ext4 -V 2>&1 | head -n 1), $(kvs --version | head -n 1), disks of $disk_bytes," \
	"$rounds rounds, $keys keys of 100 bytes"
begin=$SECONDS status=0
bash "$here/vm.sh" -k "$vmlinuz" -i "$work/initrd" -c "$work/console" -r "$work/results" -t 3000 -m 512M \
	"$work/disk.kvfs" "$work/disk.ext4" > "$tmp/vm.out" 2>&1 || status=$?
touch "$work/results"
grep -E '^(\||$)' "$work/results" | cat -s > "$work/tables.md" || true
forward "$series" "$work/results"
diag "the guest took $((SECONDS - begin)) s"
guest_ended "$series" "$work/results" "$status" "$tmp/vm.out" "$work/console"
check 'kvs-fsck -n of the one disk' kvs-fsck -n "$work/disk.kvfs"
check 'e2fsck -fn of the other' e2fsck -fn "$work/disk.ext4"
rm -f "$work"/disk.* "$work/initrd"
finish
