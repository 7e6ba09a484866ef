#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# scale_guest.sh - what scale.sh runs in the guest, as /test.sh: many keys, and a value several times as
# large as the memory, by /scale on a volume on /dev/vda, which is made here. Prints TAP without numbers
# and without a plan, and at the end "# complete".
#
# Words of the kernel's command line: kv_keys=N, kv_large=MIB.

M=/mnt
failed=0
# Of a volume that has been written to: segments that are begun, and frees that wait for two checkpoints.
kept_kib=4096
read -r line < /proc/cmdline
for word in $line; do
	case $word in
	kv_keys=*) keys=${word#*=} ;;
	kv_large=*) large=${word#*=} ;;
	esac
done

ok() { echo "ok - $*"; }
not_ok() {
	failed=1
	echo "not ok - $1"
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" | sed 's/^/#   /'
}

# check TEXT COMMAND...: passes if it gives 0; what it prints are remarks.
check() {
	text=$1
	shift
	if "$@" > /tmp/out 2>&1; then ok "$text"; else not_ok "$text" "$*"; fi
	sed 's/^\(# \)*/# /' /tmp/out
}
is() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got:  $2" "want: $3"; fi; }
give_up() {
	not_ok "$@" "$(dmesg | tail -n 15)"
	exit 1
}
free_kib() { echo $(($(stat -f -c '%f * %S / 1024' $M))); }
memory() {
	sed -n 's/^\(MemTotal\|MemAvailable\|Slab\): *\([0-9]*\) kB/\1 \2 KiB/p' /proc/meminfo |
		tr '\n' ' ' | sed "s/^/# memory, $1: /"
	echo
}

# A checkpoint makes what it freed free for the second one after it, and the worker deletes in steps.
# shellcheck disable=SC2317 # called through check
space_back() {
	tries=0
	while [ "$(free_kib)" -lt "$1" ]; do
		tries=$((tries + 1))
		[ "$tries" -le 60 ] || return 1
		fsfreeze --freeze "$M" && fsfreeze --unfreeze "$M" || return 1
		sleep 1
	done
	echo "after $tries checkpoints"
}

many() {
	before=$(free_kib)
	check "$keys keys are made" /scale fill $M "$keys"
	is 'statfs counts them' "$(stat -f -c %c $M)" "$keys"
	memory "with $keys keys"
	check 'a listing has each exactly once' /scale list $M "$keys"
	check 'each has its value' /scale read $M "$keys"
	umount $M || give_up 'umount'
	mount -t kvfs /dev/vda $M || give_up 'mount'
	check 'the same after umount and mount: listing' /scale list $M "$keys"
	check 'the same after umount and mount: values' /scale read $M "$keys"
	used=$((before - $(free_kib)))
	echo "# they took $used KiB of the disk"
	check 'all are deleted' /scale empty $M "$keys"
	check 'the directory is empty' /scale list $M 0
	is 'statfs counts none' "$(stat -f -c %c $M)" 0
	check "their space is back, but for $kept_kib KiB" space_back $((before - kept_kib))
	echo "# of $used KiB still taken: $((before - $(free_kib)))"
}

stream() {
	umount $M || give_up 'umount'
	mount -t kvfs -o write=stream /dev/vda $M || give_up 'mount -o write=stream'
	check "a value of $large MiB is written" /scale write $M/large "$large"
	memory "after $large MiB"
	is 'its size' "$(stat -c %s $M/large)" $((large << 20))
	umount $M || give_up 'umount'
	mount -t kvfs -o write=stream /dev/vda $M || give_up 'mount'
	check 'after umount and mount it is read as it was written' /scale compare $M/large "$large"
	memory "after reading $large MiB"
}

insmod /kvfs.ko || give_up 'the module loads'
check 'kvs create formats the disk' kvs create /dev/vda
mount -t kvfs /dev/vda $M || give_up 'mount'
memory 'at first'
many
stream
umount $M || give_up 'umount'
check 'rmmod' rmmod kvfs
is 'no allocation failed, and nobody was killed for memory' \
	"$(dmesg | grep -ciE 'out of memory|oom-kill|allocation failure')" 0
echo "# $(cut -d ' ' -f 1 /proc/uptime) s after the start of the guest"
echo '# complete'
exit $failed
