#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# identity_guest.sh - what runs in the guest for identity.sh, as /test.sh. Words of the kernel's command line:
#
#	kv_mode=same     the script on the last disk, on the others: first with fixed clock and seed, by files
#	                 (vda), by 'kvs apply' on the mount (vdb), by files on another geometry (vdc); then
#	                 as usual, by files (vdd)
#	kv_mode=open     mounts each disk and unmounts it
#	kv_mode=stage    the script on vdb, by files on vda; then umount, or with kv_reset=LINE, when the script
#	                 has said something from there on, a reset in the middle of work
#	kv_size=BYTES of the script; kv_cache=BYTES; kv_fixed=SECONDS,SEED
#
# Prints what the script says, and at an orderly end "# complete".

mode='' size=0 reset=0 cache=64M fixed=''
read -r words < /proc/cmdline
for word in $words; do
	case $word in
	kv_mode=*) mode=${word#*=} ;;
	kv_size=*) size=${word#*=} ;;
	kv_reset=*) reset=${word#*=} ;;
	kv_cache=*) cache=${word#*=} ;;
	kv_fixed=*) fixed=${word#*=} ;;
	esac
done

clock() { echo "# $(cut -d ' ' -f 1 /proc/uptime) s: $*"; }
give_up() {
	echo "identity_guest.sh: $*" >&2
	clock "failed: $*"
	exit 1
}

up() { mount -t kvfs -o "cache=$cache" "$1" /mnt || give_up "mount of $1"; }
down() { umount /mnt || give_up 'umount'; }

# by_files DISK, by_ioctls DISK
by_files() {
	up "$1"
	/identity_play /mnt /tmp/script > /tmp/said || give_up "the script on $1"
	down
	clock "$1, by files"
}
by_ioctls() {
	up "$1"
	kvs apply mount:/mnt - < /tmp/script > /tmp/said.2 2> /tmp/err || give_up "kvs apply: $(cat /tmp/err)"
	down
	clock "$1, by kvs apply"
}

same() {
	head -c "$size" /dev/vde > /tmp/script
	insmod /kvfs.ko "fixed_time=${fixed%,*}" "fixed_seed=${fixed#*,}" || give_up insmod
	by_files /dev/vda
	by_ioctls /dev/vdb
	cmp /tmp/said /tmp/said.2 || give_up 'they say different things'
	by_files /dev/vdc
	rmmod kvfs || give_up rmmod
	insmod /kvfs.ko || give_up insmod
	by_files /dev/vdd
}

stage() {
	head -c "$size" /dev/vdb > /tmp/script
	insmod /kvfs.ko || give_up insmod
	up /dev/vda
	/identity_play /mnt /tmp/script "$reset" || give_up 'the script'
	if [ "$reset" -ne 0 ]; then
		sleep 20
		give_up 'it went on behind a reset'
	fi
	down
}

clock begin
case $mode in
same) same ;;
stage) stage ;;
open)
	insmod /kvfs.ko || give_up insmod
	for disk in /dev/vd?; do
		up "$disk"
		down
	done
	;;
*) give_up "no mode '$mode'" ;;
esac
rmmod kvfs || give_up rmmod
clock end
echo '# complete'
