#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# bench.sh - kvbench itself: every engine runs every workload at a tiny scale, the CSV has every row with
# a figure that can be one, and an engine that gives wrong values, loses puts, takes too much memory or
# hides what it took of the disk is found out (tests/bench/d_broken.c). Figures are not judged here.
#
# shellcheck disable=SC2317 # functions are called by name

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

engines='kvs lmdb rocksdb leveldb bdb sqlite tkrzw wiredtiger'
apart='overwrite-uniform overwrite-zipf'
grow='grow-seq-100 grow-rand-100'
workloads='load-seq-100-b1 load-seq-100-b1000 load-rand-100-b1 load-rand-100-b1000 load-rand-1000-b1
load-rand-1000-b1000 load-rand-4096-b1 load-rand-4096-b1000 dput-100-1t dput-100-8t dput-100-flight64
dput-100-batch100 dput-1000-1t get-uniform-1t get-uniform-2t get-zipf-1t get-zipf-2t get-1000-1t mget-32
scan-fwd scan-rev
scan-100 ycsb-a-1t ycsb-a-2t ycsb-b-1t ycsb-b-2t ycsb-c-1t ycsb-c-2t ycsb-d-1t ycsb-d-2t ycsb-e-1t
ycsb-e-2t ycsb-f-1t ycsb-f-2t churn ltm-get-1t ltm-get-8t ltm-mget-32 ltm-get-100 reopen incr-1t incr-2t-same
incr-2t-diff cold-get'
metrics='ops_per_s cpu_us_per_op p50_us p99_us p999_us max_us ops_per_sync disk_bytes space_amp_peak rss_bytes'
broken=$builddir/tests/bench/kvbench_broken

# Syncs that cost nothing would leave durable figures untried: not in a file system in memory.
stores=$(mktemp -d /var/tmp/kvbench-test.XXXXXX)
tap_cleanup() {
	[ -z "${pid:-}" ] || kill -KILL "$pid" 2> /dev/null || true
	rm -rf "$stores"
}

comma() {
	tr -s ' \n' ',' <<< "$1" | sed 's/,$//'
}

# ---- names ---------------------------------------------------------------------------------------

kvbench --list > "$tmp/list"
is 'engines, by name' "$(awk '$1 == "engine" && !/not built/ { print $2 }' "$tmp/list" | xargs)" "$engines rocksdb-blob"
is 'workloads, by name' "$(awk '$1 == "workload" { print $2 }' "$tmp/list" | xargs)" "$(xargs <<< "$workloads $apart $grow")"
check 'an engine that does not exist is an error' expect 2 kvbench --engines kvs,nosuch
check 'an engine that was not built in is an error' expect 2 "$broken" --engines kvs,lmdb
check 'a workload that does not exist is an error' expect 2 kvbench --workloads nosuch

# ---- all of it -----------------------------------------------------------------------------------

run_all() {
	kvbench --engines "$(comma "$engines")" --workloads "$(comma "$workloads")" --rounds 1 \
		--scale 0.001 --cache-mb 16 --dir "$stores/all" --csv "$tmp/all.csv" --svg "$tmp/all.svg" \
		> "$tmp/all.md"
}
check 'every engine runs every workload' run_all
is 'the stores are gone' "$(ls -A "$stores/all" 2> /dev/null)" ''
# Another kvbench may be running.
find /sys/fs/cgroup -type d -name 'kvbench-*' 2> /dev/null | while read -r group; do
	kill -0 "${group##*-}" 2> /dev/null || echo "$group"
done > "$tmp/groups"
is 'no memory cgroup is left' "$(cat "$tmp/groups")" ''

# rows FILE ENGINES WORKLOADS: complaints about a CSV file.
rows() {
	awk -F, -v engines="$2" -v workloads="$(xargs <<< "$3")" -v metrics="$metrics" '
	NR == 1 {
		if ($0 != "engine,workload,metric,value") print "header: " $0
		next
	}
	NF != 4 { print "line " NR ": " NF " fields" }
	($1, $2, $3) in v { print "twice: " $1 " " $2 " " $3 }
	$4 !~ /^[0-9]+(\.[0-9]+)?(e[+-][0-9]+)?$/ { print "no number: " $0 }
	{ v[$1, $2, $3] = $4; n++ }
	END {
		ne = split(engines, e, " "); nw = split(workloads, w, " "); nm = split(metrics, m, " ")
		if (n != ne * nw * nm) print n " rows instead of " ne * nw * nm
		for (i = 1; i <= ne; i++) for (j = 1; j <= nw; j++) {
			at = e[i] " " w[j] ": "
			for (k = 1; k <= nm; k++)
				if (!((e[i], w[j], m[k]) in v)) print at "no " m[k]
			if (v[e[i], w[j], "ops_per_s"] <= 0) print at "no operations"
			if (v[e[i], w[j], "disk_bytes"] <= 0) print at "nothing on the disk"
			if (v[e[i], w[j], "max_us"] <= 0) print at "no latencies"
			for (k = 3; k < 6; k++)
				if (v[e[i], w[j], m[k]] > v[e[i], w[j], m[k + 1]] * 1.02)
					print at m[k] " > " m[k + 1]
			if (w[j] ~ /^dput/ && v[e[i], w[j], "ops_per_sync"] <= 0) print at "no sync"
		}
	}' "$1" | head -n 20
}
is 'CSV: a row for each engine, workload and metric, each with a number' \
	"$(rows "$tmp/all.csv" "$engines" "$workloads")" ''
sed '0,/ltm-get-8t,p99_us,.*/s//ltm-get-8t,p99_us,nan/' "$tmp/all.csv" > "$tmp/nan.csv"
like 'the check above sees a figure that is none' "$(rows "$tmp/nan.csv" "$engines" "$workloads")" '^no number'
grep -v 'bdb,churn,space_amp_peak' "$tmp/all.csv" > "$tmp/less.csv"
like 'the check above sees a row that is missing' \
	"$(rows "$tmp/less.csv" "$engines" "$workloads")" 'bdb churn: no space_amp_peak'

# What is run only when it is named: with rows of its own.
run_apart() {
	kvbench --engines kvs,rocksdb,rocksdb-blob --workloads "$(comma "$apart")" --rounds 1 --scale 0.01 \
		--cache-mb 16 --no-floors --dir "$stores/apart" --csv "$tmp/apart.csv" > "$tmp/apart.md"
}
check 'overwriting, with RocksDB in both ways' run_apart
is 'what was written, and the latencies of gets, have rows' \
	"$(awk -F, '$3 ~ /^(write_amp|get_p50_us|get_p99_us|get_p999_us|get_max_us)$/ && $4 > 0' "$tmp/apart.csv" |
		wc -l)" 30
is 'kvs writes each put once at the least' \
	"$(awk -F, '$1 == "kvs" && $3 == "write_amp" && $4 < 1' "$tmp/apart.csv")" ''
is 'nowhere else' "$(grep -cE ',(write_amp|get_p)' "$tmp/all.csv")" 0

run_grow() {
	kvbench --engines kvs --workloads "$(comma "$grow")" --rounds 1 --scale 0.002 --dir "$stores/grow" \
		--csv "$tmp/grow.csv" > "$tmp/grow.md" 2> "$tmp/grow.err"
}
check 'loads whose course is told' run_grow
is 'the rates of the first and of the last twentieth have rows' \
	"$(awk -F, '$3 ~ /^(first|last)_per_s$/ && $4 > 0' "$tmp/grow.csv" | wc -l)" 4
is 'each twentieth is told' "$(grep -c ' % grow-' "$tmp/grow.err")" 40
is 'the floors of both' "$(grep -cE '^\| grow-(seq|rand)-100 \| [0-9]+ \|  \| \| [0-9]+ \| [0-9.]+ \|$' "$tmp/grow.md")" 2

like 'the cost of an operation by the number of keys' \
	"$("$builddir/tests/bench/growth" "$stores/growth.kv" 1000 | tail -n 1)" \
	'^\| 1000 \|( [0-9.]+ \([0-9.]+\) \|){5}( [0-9.]+ \|){3}$'

like 'the tables name the sizes' "$(cat "$tmp/all.md")" '\| ltm-get-100 \| 9000 \| 100 \| 1 \| 1 \|'
like 'the first table has the ratios to the best peer and to the floor' \
	"$(grep '^| load-seq-100-b1 ' "$tmp/all.md" | sed -n 2p)" \
	'\| (lmdb|rocksdb|leveldb|bdb|sqlite|wiredtiger) \| [0-9.]+ \| [0-9]+ \| [0-9.]+ \|$'
check 'the chart is XML' python3 -c 'import sys, xml.dom.minidom as d; d.parse(sys.argv[1])' "$tmp/all.svg"
for name in $workloads $engines; do
	grep -qF -- ">$name<" "$tmp/all.svg" || echo "$name"
done > "$tmp/lost"
is 'the chart names all workloads and engines' "$(cat "$tmp/lost")" ''

# ---- faults --------------------------------------------------------------------------------------

# caught FAULT WORKLOADS: kvbench with the faulty engine must end with 3 in each of them.
caught() {
	local fault=$1 status w
	shift
	for w; do
		status=0
		BENCH_FAULT=$fault "$broken" --engines broken --workloads "$w" --rounds 1 --scale 0.01 \
			--no-floors --dir "$stores/fault" --csv "$tmp/fault.csv" > "$tmp/fault.out" 2>&1 ||
			status=$?
		is "fault '$fault' is noticed by $w" "$status" 3
	done
	rm -f "$tmp/fault.csv"
}
check 'the engine without a fault passes' "$broken" --engines kvs,broken --rounds 1 --scale 0.01 \
	--dir "$stores/fault" --workloads load-rand-100-b1,get-zipf-2t,mget-32,scan-fwd,scan-100,ycsb-a-1t,ycsb-a-2t,ycsb-e-1t,churn,incr-2t-same,incr-2t-diff,dput-100-1t,ltm-get-1t,reopen
caught flip get-uniform-1t get-1000-1t mget-32 ycsb-a-2t churn ltm-get-8t
caught swap get-zipf-2t ycsb-b-2t ycsb-d-2t
caught miss get-uniform-2t ycsb-c-1t ycsb-d-1t ycsb-f-2t
caught stale load-rand-100-b1 churn ycsb-a-1t ycsb-d-2t dput-100-1t dput-100-8t
caught short load-seq-100-b1000 dput-100-batch100 scan-rev
caught skip scan-fwd scan-rev load-rand-100-b1000 churn reopen ycsb-a-2t
caught tear scan-fwd scan-100 ycsb-e-2t dput-1000-1t
caught inc incr-1t incr-2t-same incr-2t-diff
caught hog ltm-get-1t
like 'a run that was killed in its memory cgroup says so' "$(cat "$tmp/fault.out")" 'out of memory'
is 'no figures come from a run that failed' "$(ls "$tmp/fault.csv" 2> /dev/null)" ''

# What is on the disk for a third of a second is in the peak.
peak() {
	BENCH_FAULT=$1 "$broken" --engines broken --workloads load-seq-100-b1 --rounds 1 --scale 0.001 \
		--no-floors --dir "$stores/peak" --csv "$tmp/peak.csv" > "$tmp/peak.out" 2>&1
	awk -F, '$3 == "space_amp_peak" { print ($4 > 1000 && $4 < 3000) ? "bloated" : $4 }' "$tmp/peak.csv"
}
is 'space_amp_peak of a thousand entries is within the allowance' "$(peak none)" 0
is 'space_amp_peak has what the store took for a moment' "$(peak bloat)" bloated

# ---- told to end ---------------------------------------------------------------------------------

kvbench --engines kvs --workloads ltm-get-100 --dir "$stores/end" > "$tmp/end.out" 2>&1 &
pid=$!
for _ in {1..200}; do
	[ ! -d "$stores/end/kvs-data-tight-100" ] || break
	sleep 0.05
done
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
is 'told to end, kvbench ends' "$status" 3
is 'and leaves nothing' "$(ls -A "$stores/end")" ''
pid=

finish
