#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# identity.sh - one format, three drivers: the kvs command on the image, FUSE (kvs mount), and the kernel
# module in a virtual machine. DESIGN, invariant 7; CONTRACT C1 C2 C18. 'make kmod-identity' runs it.
#
#	same      the same operations in all three leave the same contents; with fixed clock and seed, the
#	          same bytes, but for what the segment TAIL holds behind its header
#	windows   what a killed kvs leaves in the window the kernel replays, and what a guest that was reset
#	          leaves, kvs
#	chain     one image goes round, with kill -9, resets and power cuts in between: nothing durable is lost
#
# identity.py makes the scripts from a seed, and knows what a volume may hold; acknowledgements are told
# outside. KV_IDENTITY_QUICK=1: less of it, in one kernel. KV_IDENTITY_SEED, KV_IDENTITY_OPERATIONS,
# KV_IDENTITY_ROUNDS; KV_KERNELS: where the kernels are kept (kernels.sh). KV_KMOD_KERNELS: only these.
# What is needed to look into a failure stays below $builddir/kmod-identity.

# Most functions are called through check.
# shellcheck disable=SC2317
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

here=$srcdir/tests/kmod
work=$builddir/kmod-identity
kernels=${KV_KERNELS:-$builddir/kernels}
seed=${KV_IDENTITY_SEED:-1}
operations=${KV_IDENTITY_OPERATIONS:-100000}
rounds=${KV_IDENTITY_ROUNDS:-20}
round_operations=3000
kills=5
tries=20
series=(6.1 6.12)
if [ -n "${KV_IDENTITY_QUICK:-}" ]; then
	operations=${KV_IDENTITY_OPERATIONS:-2000}
	rounds=${KV_IDENTITY_ROUNDS:-3}
	kills=0
	series=(6.12)
fi
[ -z "${KV_KMOD_KERNELS:-}" ] || read -ra series <<< "$KV_KMOD_KERNELS"
fixed=1700000000,$seed
volume_bytes=256M
# Small, so that pages are evicted and checkpoints come often.
cache=4M
mnt=$work/mnt
server='' device=''
declare -A vmlinuz modules

tap_cleanup() {
	umount -l "$mnt" 2> /dev/null || true
	[ -z "$server" ] || kill -9 "$server" 2> /dev/null || true
	detach
}

# attach IMAGE, detach: $device is it as the disk that the kernel has, whose end nobody cuts.
attach() { device=$(losetup -f --show "$1"); }
detach() {
	[ -z "$device" ] || losetup -d "$device" || true
	device=
}

py() { python3 "$here/identity.py" "$@"; }
# fixed COMMAND...: with the fixed clock and seed; its warning about that is none of ours.
fixed() { KVS_TEST_FIXED=$fixed "$@" 2> >(grep -v 'KVS_TEST_FIXED is set' >&2 || true); }
# refuses TEXT COMMAND...: passes if the command fails.
refuses() {
	local text=$1 status=0
	shift
	"$@" > "$tmp/refused" 2>&1 || status=$?
	if [ "$status" -ne 0 ]; then
		ok "$text"
		diag "$(tail -n 1 "$tmp/refused")"
	else
		not_ok "$text" "not refused: $*"
	fi
}

# new IMAGE OPTION...: a volume as long as a disk.
new() {
	rm -f "$1"
	kvs create "$1" --size "$volume_bytes" "${@:2}" && truncate -s "$volume_bytes" "$1"
}
copy() { cp --sparse=always "$1" "$2"; }
clean() { kvs check "$1" && kvs-fsck -n "$1"; }
# judge STATE IMAGE LEVEL: does the image hold what it must?
judge() {
	kvs dump "$2" > "$work/dump" && py judge "$1" "$work/script" "$work/dump" "$work/said" "$3"
}

# ---- the three drivers ---------------------------------------------------------------------------------
#
# Each carries out $work/script on an image. What is said goes to $work/said. With a line to stop at, the
# driver is killed soon after that line or a later one was said to be done.

killed=0 missed=0

# say_until LINE PID: copies standard input to $work/said, and kills the process a moment after that line.
say_until() {
	local stop=$1 what line
	: > "$work/said"
	while read -r what line; do
		echo "$what $line" >> "$work/said"
		[ "$stop" -eq 0 ] || [ "$line" -lt "$stop" ] || {
			(sleep "0.00$((RANDOM % 6))" && kill -9 "$2") &
			stop=0
		}
	done
}

# ended STATUS LINE: killed if it was to be killed, unless it was faster; else well.
ended() {
	if [ "$2" -ne 0 ] && [ "$1" -eq 137 ]; then
		killed=$((killed + 1))
	elif [ "$2" -ne 0 ] && [ "$1" -eq 0 ]; then
		missed=$((missed + 1))
	elif [ "$1" -ne 0 ]; then
		echo "status $1: $(tail -n 5 "$work/err")"
		return 1
	fi
}

by_kvs() {
	local image=$1 stop=$2 status=0
	shift 2
	rm -f "$work/pipe"
	mkfifo "$work/pipe"
	attach "$image" || return 1
	kvs apply "$device" "$work/script" "$@" > "$work/pipe" 2> "$work/err" &
	server=$!
	say_until "$stop" "$server" < "$work/pipe"
	wait "$server" || status=$?
	server=
	detach
	ended "$status" "$stop"
}

# The player's errors are those of a mount whose server is gone.
by_fuse() {
	local image=$1 stop=$2 options=$3 status=0 i
	mkdir -p "$mnt"
	attach "$image" || return 1
	kvs mount --foreground "$device" "$mnt" -o "$options" 2> "$work/err" &
	server=$!
	for ((i = 0; i < 600; i++)); do
		! mountpoint -q "$mnt" || break
		kill -0 "$server" 2> /dev/null || break
		sleep 0.05
	done
	say_until "$stop" "$server" < <("$work/identity_play" "$mnt" "$work/script" 2> "$work/play.err")
	umount "$mnt" 2> /dev/null || umount -l "$mnt"
	wait "$server" || status=$?
	server=
	detach
	[ "$stop" -ne 0 ] || [ ! -s "$work/play.err" ] || {
		cat "$work/play.err"
		return 1
	}
	ended "$status" "$stop"
}

# disk N FILE [LOG]: options of qemu for a disk; with a log, its writes are recorded.
disk() {
	if [ $# -eq 2 ]; then
		options+=(-drive "file=$2,if=none,id=d$1,format=raw,cache=unsafe,discard=unmap")
	else
		: > "$3"
		options+=(-blockdev "driver=file,node-name=f$1,cache.no-flush=on,discard=unmap,filename=$2"
			-blockdev "driver=file,node-name=l$1,cache.no-flush=on,filename=$3"
			-blockdev "driver=blklogwrites,node-name=d$1,file=f$1,log=l$1,log-super-update-interval=1")
	fi
	options+=(-device "virtio-blk-pci,drive=d$1")
}

# guest SERIES WORDS: with the disks of options.
guest() {
	local status=0
	bash "$here/vm.sh" -k "${vmlinuz[$1]}" -i "$work/initrd.$1" -c "$work/console" -r "$work/results" -t 600 \
		-a "$2" -- -- "${options[@]}" > "$work/vm.out" 2>&1 || status=$?
	[ "$status" -eq 0 ] || tail -n 40 "$work/vm.out" "$work/results" | tee "$work/err"
	return "$status"
}

# as_disk SCRIPT: a disk has whole sectors.
as_disk() {
	cp "$1" "$1.disk"
	truncate -s %512 "$1.disk"
}

# by_kernel IMAGE LINE SERIES: a guest, which resets itself.
by_kernel() {
	local status=0 options=()
	as_disk "$work/script"
	disk 0 "$1"
	disk 1 "$work/script.disk"
	guest "$3" "kv_mode=stage kv_size=$(stat -c %s "$work/script") kv_reset=$2" || status=$?
	grep -E '^(done|durable) ' "$work/results" > "$work/said" || true
	# 125: the machine ended without a status, as one does that is reset.
	[ "$status" -eq $(($2 ? 125 : 0)) ]
}

# power_off LINE: when the guest has said that line or a later one, qemu is killed: at an end of its own it
# would flush the disks.
power_off() {
	local i said
	for ((i = 0; i < 12000; i++)); do
		said=$(awk '/^(done|durable) [0-9]+$/ { n = $2 } END { print n + 0 }' "$work/results" 2> /dev/null) ||
			said=0
		[ "$said" -lt "$1" ] || {
			kill -9 "$(cat "$work/qemu.pid")"
			return 0
		}
		sleep 0.05
	done
}

# by_kernel_recorded IMAGE LINE SERIES LOG: a guest that is gone in the middle of work; its writes are in LOG.
by_kernel_recorded() {
	local status=0 options=() watcher
	rm -f "$work/results" "$work/qemu.pid"
	as_disk "$work/script"
	disk 0 "$1" "$4"
	disk 1 "$work/script.disk"
	options+=(-pidfile "$work/qemu.pid")
	power_off "$2" &
	watcher=$!
	guest "$3" "kv_mode=stage kv_size=$(stat -c %s "$work/script")" || status=$?
	kill "$watcher" 2> /dev/null || true
	wait "$watcher" 2> /dev/null || true
	grep -E '^(done|durable) ' "$work/results" > "$work/said" || true
	# What vm.sh says of a qemu that was killed.
	[ "$status" -ne 124 ] || status=137
	ended "$status" "$2"
}

# ---- same ----------------------------------------------------------------------------------------------

# equal TEXT IMAGE IMAGE [tail]
equal() { check "$1" py compare "${@:2}"; }

same_in_user_space() {
	local w
	rm -f "$work"/same.*
	py make "$work/state.none" "$work/script" "$seed" "$operations"
	diag "seed $seed: $(wc -l < "$work/script") lines: $(cut -f 1 "$work/script" | sort | uniq -c | xargs)"
	for w in 65536 1; do
		check "window $w: a volume with fixed clock and seed" fixed new "$work/same.$w" --window "$w"
		copy "$work/same.$w" "$work/same.$w.kvs"
		copy "$work/same.$w" "$work/same.$w.fuse"
		check "window $w: the script by kvs apply" fixed by_kvs "$work/same.$w.kvs" 0 --cache "$cache"
		check "window $w: by files on FUSE" fixed by_fuse "$work/same.$w.fuse" 0 \
			"cache=$cache,durability=memory"
		equal "window $w: kvs and FUSE: the same bytes" "$work/same.$w.kvs" "$work/same.$w.fuse" tail
	done
	check 'as usual: a volume' new "$work/same.usual"
	copy "$work/same.usual" "$work/same.usual.kvs"
	copy "$work/same.usual" "$work/same.usual.fuse"
	check 'as usual: the script by kvs apply' by_kvs "$work/same.usual.kvs" 0
	check 'as usual: by files on FUSE' by_fuse "$work/same.usual.fuse" 0 write=set
}

same_in_kernel() {
	local s=$1 options=() n=0 image
	for image in 65536.file 65536.ioctl 1.file usual.file; do
		copy "$work/same.${image%.*}" "$work/same.$image.$s"
		disk "$n" "$work/same.$image.$s"
		n=$((n + 1))
	done
	as_disk "$work/script"
	disk "$n" "$work/script.disk"
	check "$s: the script by files and by ioctls; the kernel reports nothing" guest "$s" \
		"kv_mode=same kv_size=$(stat -c %s "$work/script") kv_cache=$cache kv_fixed=$fixed"
	is "$s: the guest came to its end" "$(tail -n 1 "$work/results")" '# complete'
	diag "$(grep ', by' "$work/results" || true)"
	equal "$s: kvs and kernel, by files: the same bytes" "$work/same.65536."{kvs,"file.$s"} tail
	equal "$s: kvs and kernel, by ioctls: the same bytes" "$work/same.65536."{kvs,"ioctl.$s"} tail
	equal "$s: no window: kvs and kernel: the same bytes" "$work/same.1."{kvs,"file.$s"} tail
	equal "$s: no window: FUSE and kernel: the same bytes, nothing excepted" "$work/same.1."{fuse,"file.$s"}
}

same_contents() {
	local image sums
	rm -f "$work/state"
	: > "$work/said"
	for image in "$work"/same.{usual,65536,1}.*; do
		[[ $image != *.state ]] || continue
		check "${image##*/}: kvs check and kvs-fsck -n are clean" clean "$image"
		kvs dump "$image" | sha256sum >> "$work/same.sums"
	done
	sums=$(sort -u "$work/same.sums" | wc -l)
	is "kvs dump is the same of all $(wc -l < "$work/same.sums")" "$sums" 1
	check 'and is what the script says' judge "$work/state" "$work/same.usual.kvs" all
	diag "kvs dump: $(head -n 1 "$work/same.sums" | cut -c 1-64), $(wc -l < "$work/dump") entries"
	diag "with fixed clock and seed: $(py compare "$work"/same.65536.{kvs,fuse} tail | cut -d ' ' -f 2)"
	diag "without window, whole: $(py compare "$work"/same.1.{fuse,fuse} | cut -d ' ' -f 2)"
}

# What these comparisons must not overlook.
same_blind() {
	local segment=524288
	copy "$work/same.65536.kvs" "$work/same.flip"
	py flip "$work/same.flip" $((segment + 5000))
	equal 'one bit in the TAIL segment does not count' "$work/same.65536.kvs" "$work/same.flip" tail
	refuses 'unless it is to' py compare "$work/same.65536.kvs" "$work/same.flip"
	py flip "$work/same.flip" $((3 * segment + 100000))
	refuses 'one bit elsewhere is seen' py compare "$work/same.65536.kvs" "$work/same.flip" tail
	copy "$work/same.65536" "$work/same.later"
	fixed=1700000001,$seed fixed by_kvs "$work/same.later" 0 --cache "$cache" ||
		not_ok 'the script with another clock'
	refuses 'one second more on the clock is seen' py compare "$work/same.65536.kvs" "$work/same.later" tail
	rm -f "$work/state"
	sed '0,/:"v[0-9]*:/s//&x/' "$work/dump" > "$work/dump.changed"
	refuses 'one byte more in one value is seen' py judge "$work/state" "$work/script" "$work/dump.changed" \
		"$work/said" all
	sed 1d "$work/dump" > "$work/dump.changed"
	refuses 'one entry less is seen' py judge "$work/state" "$work/script" "$work/dump.changed" \
		"$work/said" durable
}

# ---- windows -------------------------------------------------------------------------------------------

# without_window IMAGE: as if nothing of it had reached the medium. It stands behind the two tail places.
without_window() {
	copy "$1" "$1.none"
	dd if=/dev/zero of="$1.none" bs=4096 seek=$((128 + 3)) count=16 conv=notrunc status=none
}

# killed_once N TRY: false if all that was acknowledged is there without the window.
killed_once() {
	local image=$work/window.$1
	new "$image"
	rm -f "$work/state"
	py make "$work/state" "$work/script" "$seed-$1-$2" 20000
	check "kill $1.$2: kvs is killed in the middle of a script" by_kvs "$image" $((RANDOM % 8000 + 100 + $2))
	without_window "$image"
	rm -f "$work/state"
	! judge "$work/state" "$image.none" 'done' > /dev/null 2>&1
}

# Killed right behind a sync, it does not need its window: another kill then, up to $tries.
killed_kvs() {
	local n try image options=() needed=0
	for ((n = 0; n < kills; n++)); do
		image=$work/window.$n
		for ((try = 0; try < tries; try++)); do
			if killed_once "$n" "$try"; then
				needed=$((needed + 1))
				break
			fi
		done
		cp "$work/script" "$image.script"
		cp "$work/said" "$image.said"
		rm "$image.none"
		disk "$n" "$image"
	done
	check "kill -9 came in time $killed times, too late $missed times" [ "$killed" -gt "$missed" ]
	check "the window was needed: in $needed of $kills" [ "$needed" -ge 1 ]
	check 'the kernel mounts them all' guest "$1" kv_mode=open
	is 'and unmounts them' "$(tail -n 1 "$work/results")" '# complete'
	for ((n = 0; n < kills; n++)); do
		cp "$work/window.$n.script" "$work/script"
		cp "$work/window.$n.said" "$work/said"
		rm -f "$work/state"
		check "kill $n: what the killed kvs acknowledged is there" judge "$work/state" "$work/window.$n" 'done'
		diag "$(cat "$tmp/tap.out")"
		check "kill $n: kvs check and kvs-fsck -n are clean" clean "$work/window.$n"
	done
}

reset_guest() {
	local image=$work/window.reset
	new "$image"
	rm -f "$work/state"
	py make "$work/state" "$work/script" "$seed-reset" 6000
	check "$1: a guest is reset in the middle of a script" by_kernel "$image" $((RANDOM % 2000 + 1000)) "$1"
	check "$1: kvs finds what was durable" judge "$work/state" "$image" durable
	diag "$(cat "$tmp/tap.out")"
	py make "$work/state" "$work/script" "$seed-after" 1000
	check "$1: and goes on" by_kvs "$image" 0
	check "$1: to the end" judge "$work/state" "$image" all
	check "$1: kvs check and kvs-fsck -n are clean" clean "$image"
}

# ---- chain ---------------------------------------------------------------------------------------------

# Cuts that forget flushes must not pass for power cuts: one of these loses something that was durable.
cut_blind() {
	local n caught=0
	cp "$work/state" "$work/state.kept"
	for ((n = 0; n < 8; n++)); do
		copy "$work/chain.before" "$work/chain.cut"
		"$builddir/tests/kmod/identity_cut" "$work/chain.cut" "$work/chain.log" "$n" forget > /dev/null ||
			continue
		cp "$work/state.kept" "$work/state.forgotten"
		if ! kvs-fsck -n "$work/chain.cut" > /dev/null 2>&1 ||
			! judge "$work/state.forgotten" "$work/chain.cut" durable > /dev/null 2>&1; then
			caught=$((caught + 1))
		fi
	done
	rm -f "$work/chain.cut"
	check "cuts that forget flushes are seen: $caught of 8" [ "$caught" -ge 1 ]
}

cuts=0 cut_lost=0

# cut_power TEXT SEED: the image becomes what the record leaves.
cut_power() {
	mv "$work/chain.before" "$work/chain"
	check "$1" "$builddir/tests/kmod/identity_cut" "$work/chain" "$work/chain.log" "$2"
	diag "$(cat "$tmp/tap.out")"
	cuts=$((cuts + 1))
	cut_lost=$((cut_lost + $(sed -n 's/.* kept, \([0-9]*\) lost, \([0-9]*\) torn/\1 + \2/p' "$tmp/tap.out") + 0))
}

# round NR DRIVER END
round() {
	local nr=$1 driver=$2 end=$3 stop=0 level=all s=${series[RANDOM % ${#series[@]}]} image=$work/chain
	local length=$round_operations
	# The guest goes on until the host has seen what it said.
	[ "$end" != cut ] || length=$((4 * length))
	py make "$work/state" "$work/script" "$seed-chain-$nr" "$length"
	if [ "$end" != close ]; then
		stop=$((RANDOM % (round_operations / 2) + 200))
		level='done'
		[ "$driver" != kernel ] || level=durable
	fi
	rm -f "$work/chain.log"
	copy "$image" "$work/chain.before"
	case $driver-$end in
	kvs-*) check "round $nr: kvs, $end" by_kvs "$image" "$stop" ;;
	fuse-*) check "round $nr: FUSE, $end" by_fuse "$image" "$stop" write=set ;;
	kernel-cut)
		check "round $nr: kernel $s, $end" by_kernel_recorded "$image" "$stop" "$s" "$work/chain.log"
		[ "$cuts" -gt 0 ] || cut_blind
		cut_power "round $nr: the power is cut" "$seed$nr"
		;;
	kernel-*) check "round $nr: kernel $s, $end" by_kernel "$image" "$stop" "$s" ;;
	esac
	check "round $nr: nothing is lost" judge "$work/state" "$image" "$level"
	diag "$(cat "$tmp/tap.out")"
	check "round $nr: kvs-fsck -n is clean" kvs-fsck -n "$image"
}

chain() {
	local plan=('kvs kill' 'kernel cut' 'fuse kill' 'kvs kill' 'kernel reset' 'fuse kill' 'kvs close'
		'kernel close' 'fuse close') order=() n driver end
	new "$work/chain"
	rm -f "$work/state"
	# Each driver as often as the others, with each of its ends; the order is a matter of chance.
	for ((n = 0; n < rounds; n++)); do order+=("${plan[n % ${#plan[@]}]}"); done
	mapfile -t order < <(printf '%s\n' "${order[@]}" | shuf --random-source=<(yes "$seed"))
	for ((n = 0; n < rounds; n++)); do
		read -r driver end <<< "${order[n]}"
		round $((n + 1)) "$driver" "$end"
	done
	check "kill -9 came in time $killed times, too late $missed times" [ "$killed" -gt "$missed" ]
	[ "$cuts" -lt 2 ] || check "$cuts power cuts have lost or torn $cut_lost writes" [ "$cut_lost" -gt 0 ]
	check 'in the end, kvs check and kvs-fsck -n are clean' clean_after "$work/chain"
}

# Read-only programs take what the last round left as it is; this writes it home.
clean_after() {
	attach "$1" && printf 'sync\n' | kvs apply "$device" - && detach && clean "$1"
}

# ---- all of it -------------------------------------------------------------------------------------------

# module SERIES HEADERS: the one that kmod-check has just built, if this is a part of it.
module() {
	local built=$builddir/kmod-check/$1/kvfs.ko
	if [ -z "${KV_IDENTITY_QUICK:-}" ] || [ ! -f "$built" ]; then
		built=$work/module.$1/kvfs.ko
		bash "$here/build.sh" "$2" "$work/module.$1" module || return 1
	fi
	bash "$here/initrd.sh" -k "${modules[$1]}" -o "$work/initrd.$1" -t "$here/identity_guest.sh" \
		-b "$builddir/kvs" "$built" "$work/identity_play"
}

mkdir -p "$work"
RANDOM=$seed
diag "seed $seed, $operations operations, $rounds rounds"
check 'headers and images of the kernels are there' env KV_KERNELS="$kernels" bash "$here/kernels.sh"
check 'identity_play builds' "${CC:-gcc}" -std=gnu11 -O2 -Wall -Wextra -Werror -static \
	-o "$work/identity_play" "$here/identity_play.c"
while IFS=$'\t' read -r -u 3 s release headers image directory; do
	[[ " ${series[*]} " == *" $s "* ]] || continue
	vmlinuz[$s]=$image
	modules[$s]=$directory
	check "kvfs.ko and an initramfs for Linux $release" module "$s" "$headers"
done 3< "$kernels/kernels"
same_in_user_space
for s in "${series[@]}"; do same_in_kernel "$s"; done
same_contents
same_blind
rm -f "$work"/same.*
if [ "$kills" -gt 0 ]; then
	killed_kvs "${series[-1]}"
	for s in "${series[@]}"; do reset_guest "$s"; done
	rm -f "$work"/window.*
fi
chain
diag "all took $SECONDS s"
finish
