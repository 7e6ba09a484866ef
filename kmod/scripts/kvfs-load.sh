#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# kvfs-load.sh [-m MODULE] [-s SIZE] [-o OPTIONS] IMAGE DIR - row K14: from nothing to a mounted volume. Loads
# the module, makes the image if there is none, gives it a loop device, mounts it. kvfs-unload.sh DIR takes
# all of it back but the image.
#
#	-m MODULE	kvfs.ko to load; without it modprobe finds the one that is installed
#	-s SIZE		of a new image, which has holes and takes what is used; default 1G
#	-o OPTIONS	of the mount, see mount.kvfs(8)

say() { echo "kvfs-load.sh: $*"; }
die() {
	say "$*" >&2
	exit 1
}

here=$(cd "$(dirname "$0")" && pwd) || exit 1
module=
size=1G
options=
while getopts m:s:o: option; do
	case $option in
	m) module=$OPTARG ;;
	s) size=$OPTARG ;;
	o) options=$OPTARG ;;
	*) die 'usage: kvfs-load.sh [-m MODULE] [-s SIZE] [-o OPTIONS] IMAGE DIR' ;;
	esac
done
shift $((OPTIND - 1))
[ $# -eq 2 ] || die 'usage: kvfs-load.sh [-m MODULE] [-s SIZE] [-o OPTIONS] IMAGE DIR'
image=$1
dir=$2
[ "$(id -u)" -eq 0 ] || die 'only root loads modules and mounts'

load() {
	! grep -qw kvfs /proc/filesystems || return 0
	if [ -n "$module" ]; then
		# insmod does not look for what the module needs
		for needed in lz4_compress lz4_decompress xxhash loop; do
			modprobe -q $needed 2> /dev/null || true
		done
		insmod "$module" || die "$module: could not be loaded; see 'dmesg'"
	else
		modprobe kvfs || die 'no module kvfs for this kernel; build and install it, or give -m kvfs.ko'
	fi
	say 'the module is loaded'
}

# Made on the loop device: a volume that was made in a file, which can grow, does not grow on a device.
make() {
	[ ! -s "$image" ] || return 0
	truncate -s "$size" "$image" || die "$image: could not be made $size long"
	if device=$(losetup -f) && losetup "$device" "$image"; then
		kvs create "$device"
		status=$?
		losetup -d "$device"
		[ $status -ne 0 ] || {
			say "$image is made"
			return 0
		}
	fi
	rm -f "$image"
	die "$image: could not be made"
}

helper() {
	for candidate in "$here/../mount.kvfs" "$here/../../sbin/mount.kvfs" /usr/sbin/mount.kvfs; do
		[ ! -f "$candidate" ] || break
	done
	sh "$candidate" "$image" "$dir" ${options:+-o "$options"}
}

load
[ -b "$image" ] || make
mkdir -p "$dir" || die "$dir: could not be made"
helper || die "$image: could not be mounted; see 'dmesg'"
say "$image is mounted on $dir"
