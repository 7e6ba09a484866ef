#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# aio_uring.sh - what io_uring would give the engine that libaio does not: transfers as the engine makes
# them, by fio (Debian package fio), past the page cache, in turns.
#
# aio_uring.sh FILE [ROUNDS [SECONDS]]: FILE, of 1 GiB, is made and removed. Prints a markdown table: medians
# of operations a second, and of microseconds of CPU for one.

set -euo pipefail

[ $# -ge 1 ] || { echo "usage: aio_uring.sh FILE [ROUNDS [SECONDS]]" >&2; exit 2; }
file=$1 rounds=${2:-3} seconds=${3:-3}
[ ! -e "$file" ] || { echo "aio_uring.sh: $file is there already" >&2; exit 1; }
command -v fio > /dev/null || { echo "aio_uring.sh: needs fio: apt-get install fio" >&2; exit 1; }

# batch N: so many are begun together, and awaited together.
batch() {
	echo "--iodepth=$1 --iodepth_batch_submit=$1 --iodepth_batch_complete_min=$1"
}

declare -A work=(
	[1 get]="--rw=randread --bs=4k --iodepth=1"
	[2 multi-get of 32]="--rw=randread --bs=4k $(batch 32)"
	[3 32 pages of a checkpoint]="--rw=randwrite --bs=4k $(batch 32)"
	[4 a MiB of segments]="--rw=randread --bs=256k $(batch 4)"
	[5 block of the log, synced]="--rw=write --bs=4k --iodepth=1 --sync=dsync"
)
declare -A engine=(
	[1 libaio]="--ioengine=libaio"
	[2 io_uring]="--ioengine=io_uring"
	[3 io_uring, fixed]="--ioengine=io_uring --fixedbufs --registerfiles"
)

# transfers OPTION...: "operations-a-second CPU-us-of-one".
transfers() {
	fio --name=t --filename="$file" --size=1g --direct=1 --norandommap --runtime="$seconds" --time_based \
		--output-format=terse --terse-version=3 "$@" |
		awk -F';' '{ n = $8 + $49; print n, ($88 + $89) * 10000 / n }'
}

median() {
	sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

sorted() {
	printf '%s\n' "$@" | sort
}

dir=$(mktemp -d)
trap 'rm -rf "$file" "$dir"' EXIT
fio --name=fill --filename="$file" --size=1g --direct=1 --rw=write --bs=1m --ioengine=libaio > /dev/null
for ((i = 0; i < rounds; i++)); do
	while read -r w; do
		while read -r e; do
			# shellcheck disable=SC2086 # options are words
			transfers ${work[$w]} ${engine[$e]} >> "$dir/$w.$e"
		done < <(sorted "${!engine[@]}")
	done < <(sorted "${!work[@]}")
done

echo "| | libaio, /s | CPU, us | io_uring, /s | CPU, us | with fixed buffers and files, /s | CPU, us |"
echo "|---|--:|--:|--:|--:|--:|--:|"
while read -r w; do
	printf '| %s ' "${w#? }"
	while read -r e; do
		printf '| %.0f | %.2f ' "$(cut -d' ' -f1 "$dir/$w.$e" | median)" "$(cut -d' ' -f2 "$dir/$w.$e" | median)"
	done < <(sorted "${!engine[@]}")
	echo '|'
done < <(sorted "${!work[@]}")
