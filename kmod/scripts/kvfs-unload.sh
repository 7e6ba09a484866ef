#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# kvfs-unload.sh [-k] DIR - row K14: the reverse of kvfs-load.sh. Unmounts, waits until the loop device is free,
# and unloads the module unless another volume is mounted. What was pending is on the disk then.
#
#	-k	keep the module

say() { echo "kvfs-unload.sh: $*"; }
die() {
	say "$*" >&2
	exit 1
}

keep=
while getopts k option; do
	case $option in
	k) keep=1 ;;
	*) die 'usage: kvfs-unload.sh [-k] DIR' ;;
	esac
done
shift $((OPTIND - 1))
[ $# -eq 1 ] || die 'usage: kvfs-unload.sh [-k] DIR'
[ "$(id -u)" -eq 0 ] || die 'only root unmounts and unloads modules'
dir=$(cd "$1" && pwd -P) || exit 1

# Names are escaped in /proc/mounts.
device=
while read -r source where type rest; do
	[ "$type" = kvfs ] || continue
	# shellcheck disable=SC2059 # the format is the escaped name, where % is doubled
	if [ "$(printf "$(echo "$where" | sed 's/%/%%/g')")" = "$dir" ]; then device=$source; fi
done < /proc/mounts
[ -n "$device" ] || die "$dir: no volume is mounted there"
umount "$dir" || die "$dir: is in use; 'fuser -vm $dir' tells by whom"
say "$dir is unmounted"

case $device in
/dev/loop*)
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		[ -e "/sys/block/${device#/dev/}/loop/backing_file" ] || break
		# one that somebody else has set up does not go by itself
		losetup -d "$device" 2> /dev/null
		sleep 0.2
	done
	[ ! -e "/sys/block/${device#/dev/}/loop/backing_file" ] || say "$device is still in use"
	;;
esac

if [ -z "$keep" ] && ! grep -qE '^[^ ]+ [^ ]+ kvfs ' /proc/mounts; then
	rmmod kvfs || die 'the module could not be unloaded'
	say 'the module is unloaded'
fi
