#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# guest.sh - what runs in the guest, as /test.sh: /kvfs.ko on disks. /suite.sh has what FUSE shows as
# well, /mount_backend.sh what kvs does with a mount, /guest.py what a shell cannot do; the rest is here.
# Prints TAP (without numbers, without a plan) and then, for the host, "# view DISK ..." and "# complete".
#
#	/dev/vda   a volume that the host made with kvs create
#	/dev/vdb   zeros; formatted here
#	/dev/vdc   somebody else's data
#	/dev/vdd   zeros
#
# Words of the kernel's command line: kv_keys=N (20000), kv_large=MIB (64).

# shellcheck source=tests/kmod/guest_tap.sh
. /guest_tap.sh
M=/mnt
N=/mnt2
keys=20000
large=64
read -r line < /proc/cmdline
for word in $line; do
	case $word in
	kv_keys=*) keys=${word#*=} ;;
	kv_large=*) large=${word#*=} ;;
	esac
done
mkdir -p $N /mnt3

py() { python3 /guest.py "$@" || failed=1; }
view() { python3 /guest.py view "$1"; }
put() { printf %s "$2" > "$1"; }
kvmount() { mount -t kvfs "$@"; }
give_up() {
	not_ok "$@" "$(dmesg | tail -n 15)"
	exit 1
}

# ---- the module and its disks ------------------------------------------------------------------------

start() {
	insmod /kvfs.ko || give_up 'the module loads'
	ok 'the module loads'
	is 'kvfs is a file system that needs a device' "$(grep -w kvfs /proc/filesystems)" "$(printf '\tkvfs')"

	# row H2
	head -c 1000000 /dev/vdc | md5sum > /tmp/foreign
	head -c 1000000 /dev/vdd | md5sum > /tmp/empty
	is "H2 somebody else's disk is refused: EINVAL" "$(kvmount /dev/vdc $M 2>&1)" \
		"mount: mounting /dev/vdc on $M failed: Invalid argument"
	is 'H2 an empty disk is refused: ENODEV' "$(kvmount /dev/vdd $M 2>&1)" \
		"mount: mounting /dev/vdd on $M failed: No such device"
	refused 'H2 they are refused read-only too' kvmount -o ro /dev/vdc $M
	is 'H2 and no byte of them has changed' \
		"$(head -c 1000000 /dev/vdc | md5sum; head -c 1000000 /dev/vdd | md5sum)" \
		"$(cat /tmp/foreign /tmp/empty)"
	refused 'a directory as the device is refused' kvmount /tmp $M
	for bad in uid=x fmode=9 fmode=7777 nosuchoption=1 write=sometimes durability=maybe cache=1; do
		refused "the option $bad is refused" kvmount -o $bad /dev/vda $M
	done
	check 'Y7 kvs create formats a disk' kvs create /dev/vdb
	check 'kvs create does not format a volume again' sh -c '! kvs create /dev/vdb'
}

options() {
	kvmount -o uid=7,gid=8,fmode=0640,dmode=0750 /dev/vda $M || give_up 'mount with options'
	is 'options: uid, gid, dmode of the root' "$(stat -c '%u %g %a' $M)" '7 8 750'
	put $M/opt 1
	is 'K8 options: uid, gid, fmode of a key' "$(stat -c '%u %g %a' $M/opt)" '7 8 640'
	check 'the options are in /proc/mounts' grep -q 'uid=7,gid=8' /proc/mounts
	mount -o remount,ro $M || not_ok 'remount,ro'
	refused 'read-only: a write is refused' put $M/opt 2
	refused 'read-only: a new key is refused' put $M/new 2
	refused 'read-only: _inc is refused' put $M/_inc opt
	is 'read-only: reading works' "$(cat $M/opt)" 1
	mount -o remount,rw $M || not_ok 'remount,rw'
	check 'read-write again: _inc works' put $M/_inc opt
	is 'read-write again: and is seen' "$(cat $M/opt)" 2
	rm $M/opt
	refused 'kvs does not touch what is mounted' kvs put /dev/vda a b
	refused 'rmmod is refused while something is mounted' rmmod kvfs
	umount $M || give_up 'umount'
	kvmount -o gid=100 /dev/vda $M
	put $M/opt 1
	is 'K8 gid=, bare: key files are 0660' "$(stat -c '%g %a' $M/opt)" '100 660'
	rm $M/opt
	umount $M || give_up 'umount'

	kvmount -o strip_nl,durability=synced,cache=8M /dev/vda $M || give_up 'mount with other options'
	echo opt > $M/_mk
	check 'option strip_nl: the newline of echo is not part of the key' rm $M/opt
	is 'option cache' "$(cat /sys/fs/kvfs/vda/cache_size)" 8388608
	# Chunks of a large value may still be deleted in the background: the last LSN is not that of the put.
	before=$(cat /sys/fs/kvfs/vda/lsn)
	put $M/opt 1
	check 'option durability=synced: what is written is durable' \
		test "$(cat /sys/fs/kvfs/vda/durable_lsn)" -gt "$before"
	rm $M/opt
	umount $M || give_up 'umount'

	kvmount -o ro /dev/vdb $M
	refused 'mount -o ro: a write is refused' put $M/new 1
	umount $M
	blockdev --setro /dev/vdb
	if kvmount /dev/vdb $M 2> /dev/null; then
		refused 'a read-only disk is mounted read-only' put $M/new 1
		umount $M
	else
		ok 'a read-only disk is not mounted for writing'
	fi
	check 'a read-only disk is mounted -o ro' kvmount -o ro /dev/vdb $M
	refused 'remount,rw of a read-only disk is refused' mount -o remount,rw $M
	umount $M
	blockdev --setrw /dev/vdb
}

# ---- one mount ---------------------------------------------------------------------------------------

# suite FILE: a script with TAP of its own. It must keep its plan: one that ends early has not passed.
suite() {
	timeout -s KILL 600 "$@" $M 2>&1 | tee /tmp/suite
	got=$(grep -cE '^(not )?ok\b' /tmp/suite)
	plan=$(sed -n 's/^1\.\.\([0-9][0-9]*\).*/\1/p' /tmp/suite)
	is "$* keeps its plan" "$got" "${plan:-none}"
	! grep -q '^not ok' /tmp/suite || failed=1
}

statistics() {
	is 'K13 the magic of statfs' "$(stat -f -c %t $M)" 4b564653
	is 'K13 statfs: block, longest name' "$(stat -f -c '%S %l' $M)" '4096 255'
	before=$(stat -f -c %c $M)
	put $M/one 1
	is 'K13 statfs counts keys' "$(($(stat -f -c %c $M) - before))" 1
	rm $M/one
	# row H5
	put $M/one 1
	check 'H5 sysfs: records, size of the device, use of it' [ "$(cat /sys/fs/kvfs/vda/records)" -ge 1 -a \
		"$(cat /sys/fs/kvfs/vda/device_size)" -gt "$(cat /sys/fs/kvfs/vda/disk_used)" -a \
		"$(cat /sys/fs/kvfs/vda/disk_used)" -gt 0 ]
	rm $M/one
	n=0
	for f in /sys/fs/kvfs/vda/* /sys/fs/kvfs/vda/*/*; do
		[ -f "$f" ] || continue
		n=$((n + 1))
		cat "$f" > /tmp/stat || not_ok "H5 $f can be read"
		[ -s /tmp/stat ] || not_ok "H5 $f says something"
	done
	if [ $n -ge 3 ]; then ok "H5 sysfs has statistics: $n files"; else
		not_ok 'H5 sysfs has statistics' "$(find /sys/fs/kvfs)"
	fi
}

# A writer waits, a reader does not.
freeze() {
	put $M/frozen before
	fsfreeze --freeze $M || not_ok 'fsfreeze --freeze'
	put $M/frozen after &
	writer=$!
	sleep 1
	is 'frozen: reading works, a write waits' "$(cat $M/frozen)" before
	fsfreeze --unfreeze $M || not_ok 'fsfreeze --unfreeze'
	wait $writer
	is 'thawed: the write is done' "$(cat $M/frozen)" after
	rm $M/frozen
}

# Deleting a large value goes on in the background, and with a small cache it makes checkpoints.
frozen_frees() {
	live=/sys/fs/kvfs/vda/live_values
	umount $M
	kvmount -o write=stream,cache=1M /dev/vda $M || give_up 'mount -o cache=1M'
	tries=0
	# The frees may be done before the freeze is: then once more.
	while :; do
		dd if=/dev/urandom of=$M/large bs=1M count=192 2> /dev/null
		# By one process: starting another one takes as long as the frees do on a busy host. FIFREEZE
		python3 -c "import fcntl, os; d = os.open('$M', os.O_RDONLY); os.unlink('$M/large'); \
			fcntl.ioctl(d, 0xC0045877, 0)" || not_ok 'FIFREEZE'
		pending=$(cat $live)
		tries=$((tries + 1))
		if [ "$pending" -gt 16777216 ] || [ $tries -ge 5 ]; then break; fi
		fsfreeze --unfreeze $M || not_ok 'fsfreeze --unfreeze'
	done
	stat=$(cat /sys/block/vda/stat)
	sleep 3
	check "frozen: frees are pending: $((pending >> 20)) MiB" [ "$pending" -gt 16777216 ]
	is 'frozen: nothing is freed' "$(cat $live)" "$pending"
	is 'frozen: the disk is not asked for anything' "$(cat /sys/block/vda/stat)" "$stat"
	fsfreeze --unfreeze $M || not_ok 'fsfreeze --unfreeze'
	tries=0
	while [ "$(cat $live)" -gt 1048576 ] && [ $tries -lt 60 ]; do
		tries=$((tries + 1))
		sleep 1
	done
	check 'thawed: freeing goes on' [ $tries -lt 60 ]
	umount $M
	kvmount /dev/vda $M || give_up 'mount'
}

shut_down() {
	for flags in 0 2; do
		py shutdown $M $flags
		check "shutdown $flags: umount works" umount $M
		check "shutdown $flags: mount works again" kvmount /dev/vda $M
		is "shutdown $flags: what was synced is there" "$(cat $M/before)" synced
		rm $M/before
	done
}

many() {
	py fill $M "$keys"
	ls $M > /tmp/ls
	is "ls of $keys keys" "$(grep -c '^many' /tmp/ls)" "$keys"
	echo 3 > /proc/sys/vm/drop_caches
	py verify $M "$keys" 'each has its value, also after memory was reclaimed'
	umount $M || not_ok 'umount with many keys'
	kvmount /dev/vda $M || give_up 'mount with many keys'
	py verify $M "$keys" 'Y9 the same after umount and mount'
	py empty $M "$keys"
}

streams() {
	umount $M
	kvmount -o write=stream /dev/vda $M || give_up 'mount -o write=stream'
	py stream $M/large "$large"
	head -c 900000 /bin/busybox > /tmp/piece
	cp /tmp/piece $M/copy
	check 'write=stream: cp of 900,000 bytes in small pieces is whole' cmp /tmp/piece $M/copy
	put $M/copy SET
	is 'write=stream: O_TRUNC and a write replace' "$(cat $M/copy)" SET
	rm $M/large $M/copy
	umount $M
	kvmount /dev/vda $M || give_up 'mount'
}

# ---- several mounts ----------------------------------------------------------------------------------

mounts() {
	kvmount /dev/vdb $N || give_up 'a second mount'
	put $M/same first
	put $N/same second
	is 'K1 two mounts, two contents' "$(cat $M/same) $(cat $N/same)" 'first second'
	for d in $M $N; do
		put "$d/sum" 0
		for i in $(seq 500); do put "$d/_inc" sum; done &
	done
	wait
	is 'K1 writers in both at once' "$(cat $M/sum) $(cat $N/sum)" '500 500'
	kvmount /dev/vda /mnt3
	is 'the same disk mounted twice is one volume' "$(cat /mnt3/same)" first
	put /mnt3/same third
	is 'and a change here is seen there' "$(cat $M/same)" third
	umount /mnt3
	exec 8< $M/same
	refused 'umount is refused while a file is open' umount $M
	exec 8<&-
	rm $M/same $M/sum $N/same $N/sum
}

# What stays, for the host to compare: all kinds of names, values of all sizes, on both disks.
leave() {
	for d in $M $N; do
		put "$d/greeting" 'Hello, world!'
		: > "$d/empty"
		put "$d/with%2Fslash%00zero%25" x
		put "$d/%2E" dot
		put "$d/%5Fmk" control
		for n in 1 511 512 513 4096 70000 1000000; do
			head -c $n /bin/busybox > /tmp/value
			cat /tmp/value >> "$d/size$n"
		done
		for i in $(seq 300); do echo "value $i" > "$d/key$i"; done
		mkdir "$d/tree" && put "$d/tree/leaf" green
	done
}

both_up() {
	kvmount /dev/vda $M || give_up 'mount of the first disk'
	kvmount /dev/vdb $N || give_up 'mount of the second disk'
}

both_down() {
	umount $M || give_up 'umount of the first disk'
	umount $N || give_up 'umount of the second disk'
}

finish() {
	view $M > /tmp/va
	view $N > /tmp/vb
	both_down
	both_up
	is 'Y9 umount and mount keep everything' "$(view $M; view $N)" "$(cat /tmp/va /tmp/vb)"
	put $M/last 'not synced'
	both_down
	check 'H17 rmmod' rmmod kvfs
	is 'H17 nothing of it is left' \
		"$(grep -w kvfs /proc/filesystems /proc/modules; find /sys/fs -name '*kvfs*')" ''
	is 'H17 what was pending is on the disk' "$(kvs get /dev/vda last)" 'not synced'
	kvs del /dev/vda last
	check 'kvs check of the first disk, in the guest' kvs check /dev/vda
	check 'kvs-fsck -n of the second disk, in the guest' kvs-fsck -n /dev/vdb
	check 'the module loads again' insmod /kvfs.ko
	both_up
	is 'Y9 rmmod and insmod keep everything' "$(view $M; view $N)" "$(cat /tmp/va /tmp/vb)"
	both_down
	check 'rmmod again' rmmod kvfs
	echo "# view vda $(cat /tmp/va)"
	echo "# view vdb $(cat /tmp/vb)"
}

# ---- row K14: from nothing to a mounted volume, and back ----------------------------------------------------------

scripts() {
	check 'K14 kvfs-load.sh: module, image, loop device, mount' \
		sh /kvfs-load.sh -m /kvfs.ko -s 32M /tmp/k14.img /tmp/k14
	is 'K14 it is mounted' "$(grep -c '^/dev/loop[0-9]* /tmp/k14 kvfs ' /proc/mounts)" 1
	echo value > /tmp/k14/key
	check 'K14 kvfs-unload.sh takes all of it back' sh /kvfs-unload.sh /tmp/k14
	is 'K14 nothing of it is left' \
		"$(grep -w kvfs /proc/mounts /proc/modules; cat /sys/block/loop*/loop/backing_file 2> /dev/null)" ''
	is 'K14 but the image' "$(kvs get /tmp/k14.img key)" value
	check 'K14 kvfs-load.sh mounts an image that is there' \
		sh /kvfs-load.sh -m /kvfs.ko -o ro /tmp/k14.img /tmp/k14
	is 'K14 with options' "$(cat /tmp/k14/key; echo x 2> /dev/null > /tmp/k14/new || echo read-only)" \
		"$(printf 'value\nread-only')"
	check 'K14 kvfs-unload.sh -k keeps the module' sh /kvfs-unload.sh -k /tmp/k14
	check 'K14 and it is there' grep -qw kvfs /proc/modules
	refused 'K14 kvfs-unload.sh of what is not mounted' sh /kvfs-unload.sh /tmp/k14
	check 'K14 rmmod' rmmod kvfs
	rm /tmp/k14.img
}

clock start
start
options
kvmount /dev/vda $M || give_up 'mount'
clock suite.sh
suite sh /suite.sh
clock mount_backend.sh
suite sh /mount_backend.sh
clock k11
suite /k11
clock races
py races $M
clock ioctls
py refusals $M
py ioctls $M
statistics
freeze
frozen_frees
shut_down
clock "$keys keys"
many
clock "$large MiB"
streams
clock mounts
mounts
leave
finish
scripts
clock end
echo '# complete'
exit $failed
