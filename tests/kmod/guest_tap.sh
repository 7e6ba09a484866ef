# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# guest_tap.sh - TAP in a guest, without numbers and without a plan: for what runs there as /test.sh.
# initrd.sh puts it into each. $failed is 1 when something has failed.

# shellcheck disable=SC2034 # whoever sources this ends with it
failed=0

ok() { echo "ok - $*"; }
not_ok() {
	failed=1
	echo "not ok - $1"
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" | sed 's/^/#   /'
}

# check TEXT COMMAND...: passes if it gives 0. refused: if it does not.
check() {
	text=$1
	shift
	if out=$("$@" 2>&1); then ok "$text"; else not_ok "$text" "$*" "$out"; fi
}
refused() {
	text=$1
	shift
	if out=$("$@" 2>&1); then not_ok "$text" "not refused: $*" "$out"; else ok "$text: ${out##*: }"; fi
}

# is TEXT GOT WANT
is() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got:  $2" "want: $3"; fi; }

clock() { echo "# $(cut -d ' ' -f 1 /proc/uptime) s: $*"; }
