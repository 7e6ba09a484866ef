#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# bugs.sh - M12: every planted bug is caught by the machine that is there for it.
#
# bugs.sh [NAME...]: all bugs of tests/bugs/list, or those. Each is switched on by KV_BUG in the test
# flavour of the engine and must make its machine fail: a violation, a crash or a hang. The machines pass
# without bugs elsewhere in the check.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

list=$srcdir/tests/bugs/list
limit=${KV_BUG_TIMEOUT:-240}
jobs=${KV_BUG_JOBS:-2}
tries=5

# rows: name, command and text of each bug, separated by tabs.
rows() {
	sed -e '/^#/d' -e '/^$/d' -e 's/ *| */\t/g' "$list"
}

# try_once NAME COMMAND: runs the machine until it has something to say against the engine; its exit code,
# 1 if it complained.
try_once() {
	local name=$1 out=$tmp/$1.out status=0 machine
	local -a command set=("TMPDIR=$tmp/$name" "KV_BUG=$name" CK_TAP_LOG_FILE_NAME=-)
	read -r -a command <<< "$2"
	while [[ ${command[0]} == *=* ]]; do
		set+=("${command[0]}")
		command=("${command[@]:1}")
	done
	mkdir -p "$tmp/$name"
	: > "$out"
	setsid env "${set[@]}" timeout -k 5 "$limit" \
		"$builddir/tests/${command[0]}" "${command[@]:1}" > "$out" 2>&1 &
	machine=$!
	if grep -q '^not ok' < <(tail -s 0.1 -n +1 -f --pid="$machine" "$out"); then
		kill "$machine" 2> /dev/null || true
	fi
	wait "$machine" || status=$?
	# A libcheck program leaves the test behind that it was waiting for.
	pkill -KILL -s "$machine" || true
	! grep -q '^not ok' "$out" || status=1
	rm -rf "${tmp:?}/$name"
	return "$status"
}

# hunt NAME COMMAND: leaves "caught" or what else happened in $tmp/NAME.verdict. Some bugs need threads to
# meet, as they do not always on a busy machine: a machine that passes is tried again.
hunt() {
	local status=0 try

	for ((try = 0; try < tries && status == 0; try++)); do
		try_once "$1" "$2" || status=$?
	done
	case $status in
	0) echo "not caught: $2 passes" ;;
	124 | 137) echo "not caught: $2 does not end within $limit s" ;;
	126 | 127 | 2) echo "not run: $2 gives $status" ;;
	*) echo caught ;;
	esac > "$tmp/$1.verdict"
}

# The list and the sources name the same bugs.
grep -rhoE 'KVP_BUG\("[a-z0-9-]+"\)' "$srcdir/engine" "$srcdir/format" |
	sed 's/.*"\(.*\)".*/\1/' | sort -u > "$tmp/planted"
rows | cut -f1 | sort > "$tmp/listed"
same 'list and sources name the same planted bugs' "$tmp/planted" "$tmp/listed"
check 'at least 20 planted bugs' test "$(wc -l < "$tmp/listed")" -ge 20

selected() {
	local name
	[ "${#wanted[@]}" -gt 0 ] || return 0
	for name in "${wanted[@]}"; do
		[ "$name" != "$1" ] || return 0
	done
	return 1
}

wanted=("$@")
while IFS=$'\t' read -r name command _; do
	selected "$name" || continue
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
		wait -n || true
	done
	hunt "$name" "$command" &
done < <(rows)
wait

while IFS=$'\t' read -r name command text; do
	selected "$name" || continue
	verdict=$(cat "$tmp/$name.verdict" 2> /dev/null || echo 'not run')
	if [ "$verdict" = caught ]; then
		ok "caught: $name ($text)"
	else
		not_ok "caught: $name ($text)" "$verdict" "repeat: (cd build/tests && env KV_BUG=$name $command)" \
			"$(tail -n 5 "$tmp/$name.out" 2> /dev/null)"
	fi
done < <(rows)
finish
