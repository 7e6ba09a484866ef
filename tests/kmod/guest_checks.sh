# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# guest_checks.sh - what check.sh, debug.sh, scale.sh and bench.sh do around a guest: its disks, and what it
# printed. To be sourced after tests/tap.sh, with $here (this directory) and $work (where guests leave
# things) set.

: "${srcdir:?}" "${builddir:?}" "${tmp:?}" "${here:?}" "${work:?}"

# make_disks NAME: the four disks of guest.sh, in $work/NAME.
# shellcheck disable=SC2317 # called through check
make_disks() {
	rm -f "$work/$1"/vd?
	truncate -s 128M "$work/$1/vdb"
	truncate -s 32M "$work/$1/vdd"
	{
		echo "somebody else's data"
		head -c 1000000 "$builddir/kvs"
	} > "$work/$1/vdc"
	truncate -s 32M "$work/$1/vdc"
	# A volume in a file grows, one on a disk does not: it has to be large before it becomes a disk.
	kvs create "$work/$1/vda" --size 448M &&
		head -c 300M /dev/zero | kvs put "$work/$1/vda" filler - &&
		kvs del "$work/$1/vda" filler && truncate -s 448M "$work/$1/vda"
}

# What guest.sh needs beside the module and programs.
# shellcheck disable=SC2034 # for those that source this
suite_files=("$here/suite.sh" "$here/mount_backend.sh" "$here/guest.py" "$builddir/tests/lib/k11"
	"$srcdir"/kmod/scripts/kvfs-{load,unload}.sh "$srcdir/kmod/mount.kvfs")

# forward NAME FILE: what the guest printed, as checks of ours.
forward() {
	local line title='' kind='' details=()

	flush() {
		case $kind in
		ok) ok "$title" ;;
		not) not_ok "$title" "${details[@]}" ;;
		esac
		kind='' details=()
	}
	while IFS= read -r line || [ -n "$line" ]; do
		if [[ $line =~ ^(not\ )?ok\ ?[0-9]*\ *(-\ )?(.*)$ ]]; then
			flush
			title="$1: ${BASH_REMATCH[3]}"
			kind=ok
			[ -z "${BASH_REMATCH[1]}" ] || kind=not
		elif [ "$kind" = not ] && [[ $line != '# '[^\ ]* ]]; then
			[ ${#details[@]} -ge 20 ] || details+=("${line#\#   }")
		elif [[ $line != 1..* ]]; then
			flush
			diag "$1: ${line#\# }"
		fi
	done < "$2"
	flush
}

# judge_disk NAME DISK: one of those that guest.sh has left.
judge_disk() {
	local s=$1 disk=$2 said
	local image=$work/$s/$disk

	check "$s: $disk: kvs check is clean" kvs check "$image"
	check "$s: $disk: kvs-fsck -n is clean" kvs-fsck -n "$image"
	said=$(sed -n "s/^# view $disk //p" "$work/$s/results")
	kvs dump "$image" > "$tmp/dump.ndjson" || true
	is "$s: $disk: kvs dump has what the guest saw" \
		"$(python3 "$here/guest.py" dump "$tmp/dump.ndjson" 2>&1)" "${said:-the guest did not say}"
}

# guest_ended SERIES RESULTS STATUS SAID CONSOLE: did it come to its end, and the kernel say nothing? STATUS
# and SAID are of vm.sh; 1: a check has failed, and forward() has counted it.
guest_ended() {
	is "$1: the guest came to its end" "$(tail -n 1 "$2")" '# complete'
	if [ "$3" -le 1 ]; then
		ok "$1: the kernel reported nothing"
	else
		not_ok "$1: the kernel reported nothing" "vm.sh: $3" "$(head -n 150 "$4")" "console: $5"
	fi
}
