#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# debug_guest.sh - what runs in a guest of the debug kernel, as /test.sh: one part of the campaign of
# debug.sh, named on the kernel's command line by kv_part=PART. Prints TAP without a plan and, at the end,
# "# complete".
#
#	blind     /planted.ko makes mistakes, which all have to be on the console
#	suite     /guest.sh, the whole suite, on its four disks
#	nth       /nth on /dev/vda: a failure at every place of every operation
#	flakey    /flaky on dm-flakey above /dev/vda: a device that fails under load
#	crash     /load on /dev/vda, whose writes the host records
#	images    /walk: the mutated images on /dev/vda

# shellcheck source=tests/kmod/guest_tap.sh
. /guest_tap.sh
M=/mnt
part=none
rounds=4
seed=1
operations=1000
read -r line < /proc/cmdline
for word in $line; do
	case $word in
	kv_part=*) part=${word#*=} ;;
	kv_rounds=*) rounds=${word#*=} ;;
	kv_seed=*) seed=${word#*=} ;;
	kv_operations=*) operations=${word#*=} ;;
	esac
done

# ---- what the kernel is ------------------------------------------------------------------------------

# The options that the campaign stands on, as the kernel says that it was built.
kernel_can() {
	zcat /proc/config.gz > /tmp/config
	missing=
	for option in KASAN_GENERIC KASAN_STACK KASAN_VMALLOC PROVE_LOCKING DEBUG_ATOMIC_SLEEP DEBUG_KMEMLEAK UBSAN \
		DEBUG_LIST DEBUG_OBJECTS SMP PREEMPT FAILSLAB FAIL_PAGE_ALLOC FAIL_MAKE_REQUEST \
		FAULT_INJECTION_USERCOPY DM_FLAKEY; do
		case $(cat /tmp/config) in
		*"CONFIG_$option=y"*) ;;
		*) missing="$missing $option" ;;
		esac
	done
	is 'the kernel was built to notice' "$missing" ''
	is 'two processors' "$(grep -c ^processor /proc/cpuinfo)" 2
	check 'lockdep is at work' grep -qE 'debug_locks: +1' /proc/lockdep_stats
}

# Lockdep, the list of leaks: after the work, they have to be as able as before.
still_can() {
	check 'lockdep is still at work' grep -qE 'debug_locks: +1' /proc/lockdep_stats
	is 'the kernel is not tainted, but for a module from outside' "$(cat /proc/sys/kernel/tainted)" 4096
}

# Objects are looked at when they are five seconds old, and reported when two scans find them the same.
leaks() {
	for _ in 1 2; do
		sleep 6
		echo scan > /sys/kernel/debug/kmemleak
	done
	cat /sys/kernel/debug/kmemleak > /tmp/leaks
}

no_leak() {
	leaks
	head -n 100 /tmp/leaks >&2
	is 'kmemleak finds nothing' "$(grep -c '^unreferenced object' /tmp/leaks)" 0
}

# What the boot left is not ours.
forget_leaks() {
	leaks
	echo clear > /sys/kernel/debug/kmemleak
}

load_module() {
	forget_leaks
	insmod /kvfs.ko || {
		not_ok 'the module loads'
		exit 1
	}
}

unload_module() {
	check 'rmmod' rmmod kvfs
	no_leak
	still_can
}

# ---- parts -------------------------------------------------------------------------------------------

blind() {
	insmod /planted.ko
	leaks
	cat /tmp/leaks >&2
}

suite() {
	forget_leaks
	sh /guest.sh || failed=1
	no_leak
	still_can
}

nth() {
	load_module
	for what in allocations device; do
		clock "nth $what"
		/nth /dev/vda $what || failed=1
	done
	unload_module
}

images() {
	load_module
	/walk /dev/vda $M || failed=1
	unload_module
}

# table TARGET...: what dm does from here on. No freeze before it: the failure comes out of the blue.
table() {
	dmsetup suspend --nolockfs flaky
	echo "0 $sectors $*" | dmsetup load flaky
	dmsetup resume flaky
}

up() { mount -t kvfs /dev/dm-0 $M; }

# fails reads|fails KIND TARGET...: the device turns into that under load, and is good again afterwards.
fails() {
	reading=$1
	kind=$2
	shift 2
	up || not_ok "$kind: mount before the failure"
	/flaky load $M /tmp/record "$reading" > /tmp/load 2>&1 &
	load=$!
	sleep $((1 + round % 3))
	table "$@"
	wait $load
	status=$?
	sed -n 's/^# load/# '"$kind"', load/p' /tmp/load
	[ $status -eq 0 ] || grep -v '^# ' /tmp/load | head -n 10
	is "C9 C12 $kind: nothing is taken any more, what was synced is read" $status 0
	table linear /dev/vda 0
	check "C9 $kind: the device is good again, and still nothing is taken" \
		sh -c "! { echo x > $M/late; } && ! test -e $M/late"
	check "$kind: umount" umount $M
	check "$kind: mount" up
	check "C1 $kind: what was synced is there" /flaky judge $M /tmp/record
	check "$kind: changes are taken again" sh -c "echo x > $M/late && sync && rm $M/late"
	check "$kind: umount" umount $M
}

flakey() {
	load_module
	export DM_DISABLE_UDEV=1
	sectors=$(cat /sys/block/vda/size)
	echo "0 $sectors linear /dev/vda 0" | dmsetup create flaky || not_ok 'dmsetup create'
	round=0
	while [ $round -lt "$rounds" ]; do
		round=$((round + 1))
		fails reads 'writes fail' flakey /dev/vda 0 0 1000 1 error_writes
		fails fails 'all requests fail' flakey /dev/vda 0 0 1000
	done
	dmsetup remove flaky || not_ok 'dmsetup remove'
	unload_module
}

crash() {
	load_module
	check 'crash: mount' mount -t kvfs /dev/vda $M
	check 'crash: the load' /load $M "$seed" "$operations"
	check 'crash: umount' umount $M
	unload_module
}

kernel_can
clock "$part"
case $part in
blind) blind ;;
suite) suite ;;
nth) nth ;;
flakey) flakey ;;
crash) crash ;;
images) images ;;
*) not_ok "no part is called $part" ;;
esac
clock end
echo '# complete'
exit $failed
