#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# run.sh SECONDS [JOBS] - fuzz fuzz_open with AFL++, after 'make fuzz'. TAP; fails on any crash or hang,
# and when too little ran to prove anything. What was found is kept in $builddir/fuzz/found.
#
# By hand: srcdir=$PWD builddir=$PWD/build bash fuzz/run.sh 600 2
# KV_FUZZ_MUTATOR=0  without the mutator: no checksum is mended
# KV_FUZZ_FIRST=1    stop at the first crash
# KV_FUZZ_FOUND=DIR  keep what was found there
# KV_BUG=NAME        a planted bug in the target

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

seconds=${1:?seconds}
jobs=${2:-1}
target=$builddir/fuzz/afl/fuzz/fuzz_open
mutator=$builddir/fuzz/.libs/mutate_sum.so
out=$tmp/out
keep=${KV_FUZZ_FOUND:-$builddir/fuzz/found}
pids=()

# shellcheck disable=SC2317 # called by tap.sh
tap_cleanup() {
	[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2> /dev/null || true
	[ ${#pids[@]} -eq 0 ] || wait "${pids[@]}" 2> /dev/null || true
}

for file in "$target" "$mutator" "$builddir/fuzz/mk_corpus"; do
	[ -e "$file" ] || {
		echo "$file is missing: run 'make -C $builddir fuzz'" >&2
		exit 1
	}
done
mkdir "$tmp/corpus"
"$builddir/fuzz/mk_corpus" "$tmp/corpus"

# AFL++ is to run anywhere, also where the kernel pipes cores to a program; sanitizers have to abort.
# One allocation of more than 64 MiB for an image of 128 KiB is a finding.
export AFL_NO_UI=1 AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_AFFINITY=1
export AFL_DISABLE_TRIM=1 AFL_HANG_TMOUT=10000 AFL_FORKSRV_INIT_TMOUT=60000
export ASAN_OPTIONS=abort_on_error=1:symbolize=0:detect_leaks=0:max_allocation_size_mb=64
export UBSAN_OPTIONS=halt_on_error=1:abort_on_error=1:symbolize=0
[ "${KV_FUZZ_MUTATOR:-1}" = 0 ] || export AFL_CUSTOM_MUTATOR_LIBRARY=$mutator
[ "${KV_FUZZ_FIRST:-0}" = 0 ] || export AFL_BENCH_UNTIL_CRASH=1

for ((i = 0; i < jobs; i++)); do
	role=-S
	[ "$i" -gt 0 ] || role=-M
	afl-fuzz -i "$tmp/corpus" -o "$out" $role "job$i" -s $((i + 1)) -t 5000 -m none \
		-V "$seconds" -- "$target" > "$tmp/log$i" 2>&1 &
	pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do
	wait "$pid" || failed=1
done
pids=()
if [ "$failed" -eq 0 ]; then
	ok 'AFL++ ran to its end'
else
	not_ok 'AFL++ ran to its end' "$(tail -n 15 "$tmp/log0")"
fi

# stat NAME: sum over the jobs of a line of fuzzer_stats.
stat_sum() {
	awk -v name="$1" '$1 == name { sum += $3 } END { print sum + 0 }' \
		"$out"/job*/fuzzer_stats /dev/null 2> /dev/null || true
}

# none_in FOLDER TEXT: no file found by a job; else they are kept.
none_in() {
	local found

	found=$(find "$out" -path "*/$1/id*" 2> /dev/null | sort)
	if [ -z "$found" ]; then
		ok "$2"
		return
	fi
	mkdir -p "$keep"
	while read -r file; do
		cp "$file" "$keep/$1-$(basename "$file" | tr -c 'a-zA-Z0-9\n' _)"
	done <<< "$found"
	not_ok "$2" "$(wc -l <<< "$found") found, kept in $keep;" \
		"repeat with: $target FILE"
}

none_in crashes 'no crash (C16)'
none_in hangs 'no hang (C16)'
execs=$(stat_sum execs_done)
diag "$execs executions in ${seconds} s, $(stat_sum corpus_count) inputs of interest"
if [ "$execs" -ge $((seconds * 10)) ] || [ "${KV_FUZZ_FIRST:-0}" != 0 ]; then
	ok 'enough was tried to mean something'
else
	not_ok 'enough was tried to mean something' "$execs executions in $seconds s"
fi
finish
