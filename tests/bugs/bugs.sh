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

# rows: name, command and text of each bug, separated by tabs.
rows() {
	sed -e '/^#/d' -e '/^$/d' -e 's/ *| */\t/g' "$list"
}

# hunt NAME COMMAND: runs the machine; leaves "caught" or what else happened in $tmp/NAME.verdict.
hunt() {
	local name=$1 status=0
	local -a command
	read -r -a command <<< "$2"
	mkdir -p "$tmp/$name"
	TMPDIR=$tmp/$name KV_BUG=$name timeout -k 5 "$limit" \
		"$builddir/tests/${command[0]}" "${command[@]:1}" > "$tmp/$name.out" 2>&1 || status=$?
	rm -rf "${tmp:?}/$name"
	case $status in
	0) echo "not caught: $2 passes" ;;
	124 | 137) echo "not caught: $2 does not end within $limit s" ;;
	126 | 127 | 2) echo "not run: $2 gives $status" ;;
	*) echo caught ;;
	esac > "$tmp/$name.verdict"
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
		not_ok "caught: $name ($text)" "$verdict" "repeat: KV_BUG=$name build/tests/$command" \
			"$(tail -n 5 "$tmp/$name.out" 2> /dev/null)"
	fi
done < <(rows)
finish
