#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# full.sh - no room: a full host file system (tmpfs without O_DIRECT, ext4 on a loop device with it) and a
# full block device. Status 3, nothing stored is lost, and deleting makes room again. Needs root for the
# mounts; without it tmpfs is tried in a user namespace.

set -euo pipefail
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

if [ "$(id -u)" -ne 0 ] && [ -z "${KV_IN_NAMESPACE:-}" ] && unshare -rm true 2> /dev/null; then
	rm -rf "$tmp"
	KV_IN_NAMESPACE=1 exec unshare -rm bash "$0" "$@"
fi

mounts=()
loops=()
# shellcheck disable=SC2317 # called by tap.sh
tap_cleanup() {
	local m
	for m in "${mounts[@]}"; do umount "$m" || true; done
	for m in "${loops[@]}"; do losetup -d "$m" || true; done
}

# entries FIRST LAST: lines of NDJSON with values of 2000 bytes.
entries() {
	python3 -c 'import sys
for i in range(int(sys.argv[1]), int(sys.argv[2])): print("{\"key\":\"k%06d\",\"value\":\"%s\"}" % (i, ("%d " % i * 400)[:2000]))' "$@"
}
entries 0 40000 > "$tmp/all.ndjson"

# fill TEXT IMAGE: a load runs into the end; everything acknowledged is there.
fill() {
	local text=$1 image=$2 status=0 kept
	kvs load "$image" "$tmp/all.ndjson" > "$tmp/out" 2>&1 || status=$?
	is "$text: gives 3" "$status" 3
	like "$text: and says so" "$(cat "$tmp/out")" '[Nn]o space left'
	kept=$(sed -n 's/.*the first \([0-9]*\) entries.*/\1/p' "$tmp/out")
	check "$text: $kept entries were stored" test "${kept:-0}" -gt 100
	status=0
	kvs dump "$image" > "$tmp/got" 2> "$tmp/err" || status=$?
	is "$text: dump gives 0" "$status" 0
	check "$text: nothing acknowledged is lost" cmp "$tmp/got" <(head -n "${kept:-0}" "$tmp/all.ndjson")
	is "$text: check" "$(kvs check "$image" 2>&1)" clean
	status=0
	head -c 20000000 /dev/zero | kvs put "$image" large - > "$tmp/out" 2>&1 || status=$?
	is "$text: a large value gives 3" "$status" 3
	check "$text: and is not there" expect 1 kvs exists "$image" large
	check "$text: deleting works" kvs del "$image" --prefix k
	is "$text: empty" "$(kvs count "$image")" 0
	check "$text: there is room again" kvs load "$image" <(head -n 500 "$tmp/all.ndjson")
	is "$text: with these entries" "$(kvs count "$image")" 500
	is "$text: check again" "$(kvs check "$image" 2>&1)" clean
}

mkdir "$tmp/m"
if mount -t tmpfs -o size=24M tmpfs "$tmp/m" 2> /dev/null; then
	mounts+=("$tmp/m")
	fill 'full tmpfs' "$tmp/m/a.kv"
	rm "$tmp/m/a.kv"
	head -c $((24 * 1048576 - 65536)) /dev/zero > "$tmp/m/ballast"
	check 'no room for a new volume gives 3' expect 3 kvs create "$tmp/m/b.kv"
	check 'and leaves no file' test ! -e "$tmp/m/b.kv"
else
	skip 'full tmpfs' 'not allowed to mount'
fi

truncate -s 32M "$tmp/disk"
mkdir "$tmp/e"
if mkfs.ext4 -q -F "$tmp/disk" 2> /dev/null && mount -o loop "$tmp/disk" "$tmp/e" 2> /dev/null; then
	mounts=("$tmp/e" "${mounts[@]}")
	fill 'full ext4' "$tmp/e/a.kv"
else
	skip 'full ext4' 'no loop device, or not allowed to mount'
fi

truncate -s 24M "$tmp/device"
if loop=$(losetup -f --show "$tmp/device" 2> /dev/null); then
	loops+=("$loop")
	check 'create on an empty device' kvs create "$loop"
	fill 'full device' "$loop"
	check 'create again gives 1' expect 1 kvs create "$loop"
	head -c 24M /dev/urandom > "$loop"
	check 'foreign data on a device gives 5' expect 5 kvs create "$loop"
	check 'create --force takes it' kvs create "$loop" --force
else
	skip 'full device' 'no loop device'
fi

finish
