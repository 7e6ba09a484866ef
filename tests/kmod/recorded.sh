# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# recorded.sh - what crash.sh and debug.sh do with a disk whose writes QEMU records. To be sourced after
# tests/tap.sh, with $here (this directory), $base (the disk before the load), $record (the record's file),
# $load_seed and $operations (of the load, and of each of its threads) set.

: "${builddir:?}" "${tmp:?}" "${here:?}" "${base:?}" "${record:?}" "${load_seed:?}" "${operations:?}"

replay=$builddir/tests/kmod/replay_log
recorded_bytes=$((16 << 20))

# recorded_disk IMAGE: options of QEMU for a copy of $base in IMAGE whose writes go to $record, too. What the
# host syncs is of no interest.
recorded_disk() {
	cp "$base" "$1"
	: > "$record"
	printf '%s\n' -blockdev "driver=file,node-name=data,cache.no-flush=on,filename=${1//,/,,}" \
		-blockdev "driver=file,node-name=log,cache.no-flush=on,filename=${record//,/,,}" \
		-blockdev driver=blklogwrites,node-name=recorded,file=data,log=log,log-append=off \
		-device virtio-blk-pci,drive=recorded
}

recorded_base() {
	check 'the disk before the load' "$replay" --make "$base" --size "$recorded_bytes"
}

recorded_load() {
	check 'load builds' "${CC:-gcc}" -std=gnu11 -O2 -Wall -static -o "$1" "$here/load.c" -lpthread
}

replayed() {
	"$replay" --image "$base" --log "$record" --load-seed "$load_seed" --operations "$operations" "$@"
}

# judge_record PREFIX ARGUMENT...: the checks of replay_log become ours.
judge_record() {
	local line status=0 planned='' prefix=$1

	shift
	replayed "$@" > "$tmp/judged" 2>&1 || status=$?
	while IFS= read -r line; do
		case $line in
		'ok '*) ok "$prefix${line#* - }" ;;
		'not ok '*) not_ok "$prefix${line#* - }" ;;
		1..*) planned=1 ;;
		*) diag "$prefix${line#\# }" ;;
		esac
	done < "$tmp/judged"
	is "${prefix}replay_log came to its end" "${planned:-0}" 1
	[ "$status" -le 1 ] || not_ok "${prefix}replay_log: status $status"
}

# judge_forgets TEXT N: with every Nth flush ignored, the judge must complain.
judge_forgets() {
	local status=0

	replayed --points 3000 --forget-flush "$2" > "$tmp/forgotten" 2>&1 || status=$?
	if [ "$status" -eq 1 ] && grep -q '^# violation: ' "$tmp/forgotten"; then
		ok "$1"
		diag "$(grep -m 2 "^# violation: " "$tmp/forgotten" | sed "s,^# ,,")"
	else
		not_ok "$1" "status $status" "$(tail -n 20 "$tmp/forgotten")"
	fi
}
