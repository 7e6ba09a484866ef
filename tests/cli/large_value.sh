#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# large_value.sh [SIZE] - a value far larger than memory goes in and comes out again, and the check
# of its volume too runs in a process held to 256 MiB. SIZE: 1G in the check, 8G by 'make
# large-value'. Row K9, H6.
#
# Held how: by a memory cgroup of its own (v1: memory.limit_in_bytes, with swap
# memory.memsw.limit_in_bytes; v2: memory.max, memory.swap.max = 0). The limit counts the process's
# anonymous memory, its kernel memory and the page cache it causes. Page cache is reclaimed when the
# limit is reached, the rest is not: a process whose anonymous and kernel memory exceeds 256 MiB is
# killed. Where no cgroup can be made (not root), by RLIMIT_DATA, which counts private writable
# memory alone; the test says which. A first check shows that the limit bites.

# shellcheck disable=SC2317 # functions that check() calls
export TMPDIR=${TMPDIR:-/var/tmp}
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

size=$(numfmt --from=iec "${1:-1G}")
limit=$((256 << 20))
image=$tmp/large.kv
stream=$builddir/tests/cli/random_stream
group=

# try_group DIRECTORY FILE SWAP_FILE SWAP_VALUE: make a cgroup below DIRECTORY with the limit.
try_group() {
	local dir=$1/kvs-test.$$

	[ -w "$1" ] && mkdir "$dir" 2> /dev/null || return 1
	if ! { echo "$limit" > "$dir/$2"; } 2> /dev/null; then
		rmdir "$dir"
		return 1
	fi
	# Swap is not accounted for everywhere; then there is none or it is not counted.
	{ echo "$4" > "$dir/$3"; } 2> /dev/null || true
	group=$dir
}

make_group() {
	local path dir

	path=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
	for dir in "/sys/fs/cgroup/memory$path" /sys/fs/cgroup/memory; do
		if try_group "$dir" memory.limit_in_bytes memory.memsw.limit_in_bytes "$limit"; then
			return 0
		fi
	done
	path=$(sed -n 's/^0:://p' /proc/self/cgroup)
	for dir in "/sys/fs/cgroup${path%/}" /sys/fs/cgroup; do
		{ echo +memory > "$dir/cgroup.subtree_control"; } 2> /dev/null || true
		if try_group "$dir" memory.max memory.swap.max 0; then
			return 0
		fi
	done
	return 1
}

# held COMMAND...: run it held to the limit.
held() {
	if [ -n "$group" ]; then
		(
			echo "$BASHPID" > "$group/cgroup.procs"
			exec "$@"
		)
	else
		prlimit --data="$limit" "$@"
	fi
}

tap_cleanup() {
	[ -z "$group" ] || rmdir "$group"
}

# Anonymous bytes in the group now.
anonymous() {
	awk '$1 == "anon" || $1 == "total_rss" { print $2; exit }' "$group/memory.stat"
}

# watch PID FILE: the largest of anonymous() until PID ends.
watch() {
	local peak=0 now

	while kill -0 "$1" 2> /dev/null; do
		now=$(anonymous)
		if [ "$now" -gt "$peak" ]; then peak=$now; fi
		echo "$peak" > "$2"
		sleep 0.1
	done
}

put() {
	"$stream" 42 "$size" | held kvs put "$image" big -
}

get() {
	held kvs get "$image" big | sha256sum > "$tmp/out.sum"
}

too_much() {
	head -c $((limit + (64 << 20))) /dev/zero | held tail -c $((limit + (48 << 20))) | wc -c
}

limit_bites() {
	# tail keeps what it will print in memory.
	if too_much > "$tmp/too_much" 2>&1; then
		not_ok 'a process that takes more is stopped' "$(cat "$tmp/too_much")"
	else
		ok 'a process that takes more is stopped'
	fi
}

steps() {
	check "a value of $size bytes streams in" put
	check 'it streams out' get
	"$stream" 42 "$size" | sha256sum > "$tmp/in.sum"
	same 'its hash is that of what went in' "$tmp/in.sum" "$tmp/out.sum"
	check 'kvs check finds the volume clean' held kvs check "$image"
	check 'kvs-fsck -n finds the volume clean' held kvs-fsck -n "$image"
	check 'deleting it' held kvs del "$image" big
	check 'it is gone' expect 1 kvs exists "$image" big
}

if make_group; then
	diag "held to $limit bytes by the memory cgroup $group"
	limit_bites
	watch $$ "$tmp/peak" &
	watcher=$!
	steps
	kill "$watcher" 2> /dev/null || true
	wait "$watcher" 2> /dev/null || true
	diag "most anonymous memory seen: $(cat "$tmp/peak") bytes"
else
	diag "no memory cgroup can be made here: held to $limit bytes of private memory by RLIMIT_DATA"
	limit_bites
	steps
fi
finish
