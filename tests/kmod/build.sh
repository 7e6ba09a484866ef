#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# build.sh HEADERS OUT [STEP...] - configure a build of its own in OUT for the kernel of these headers,
# and build OUT/kvfs.ko as strictly as we can. Steps, all of them unless some are named; each shows
# what is wrong and gives 1:
#
#	module     builds with W=1 and not one warning, of modpost neither
#	sparse     address spaces, byte orders and locks
#	frames     no stack frame of 1 KiB or more, none of unknown size
#	modinfo    name, licence, file system alias, description, version, parameters with a description
#	symbols    no symbol that the kernel must not see: no libc, no floating point

set -euo pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
frame_limit=1024
# Of a make that runs us: -s would hide what we read, -j would talk to a server that is not ours.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

die() {
	printf 'build.sh: %s\n' "$*" >&2
	exit 1
}

[ $# -ge 2 ] || die "usage: build.sh HEADERS OUT [STEP...]"
headers=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2
[ -f "$headers/Makefile" ] || die "no kernel headers in '$headers'; run tests/kmod/kernels.sh"
log=$out/build.log
# Where 'make kmod' has Kbuild work.
module=$out/kmod/$(cat "$headers/include/config/kernel.release")

# fail TEXT: shows it and the log's lines that matter, or its end.
fail() {
	echo "build.sh: $1 (whole log: $log)"
	grep -E '(warning|error|WARNING|ERROR): |\*\*\*' "$log" | head -n 40 || tail -n 20 "$log"
	exit 1
}

# Complaints in the log but for one that is about this machine, not about our sources: compilers that
# differ in nothing but the patch level of the package.
complaints() {
	grep -E '(warning|WARNING|error|ERROR): ' "$log" |
		grep -v 'warning: the compiler differs from the one used to build the kernel'
}

configure() {
	local options="--with-kernel=$headers"

	if [ "$(cat "$out/.options" 2> /dev/null || true)" = "$options" ] && [ -f "$out/Makefile" ]; then
		return 0
	fi
	(cd "$out" && "$top/configure" --quiet "$options") > "$log" 2>&1 || fail "configure failed"
	printf '%s\n' "$options" > "$out/.options"
}

# Everything is compiled again, so that the log has every warning. W=1 adds the kernel's own choice of
# warnings; sizes of frames are written beside each object, for the step frames.
step_module() {
	configure
	rm -rf "$module" "$out/kvfs.ko"
	KCFLAGS="-fstack-usage -Wframe-larger-than=$frame_limit" make -C "$out" kmod W=1 \
		> "$log" 2>&1 || fail "kvfs.ko does not build"
	[ -f "$module/kvfs.ko" ] || fail "make kmod made no $module/kvfs.ko"
	cp "$module/kvfs.ko" "$out/kvfs.ko"
	! complaints > /dev/null || fail "kvfs.ko builds with warnings"
}

# Only lines about our files count: sparse is older than the kernel's headers.
step_sparse() {
	make -C "$headers" M="$module" C=2 CF='-D__CHECK_ENDIAN__' modules > "$log" 2>&1 ||
		fail "make C=2 failed"
	grep -q ' CHECK ' "$log" || fail "sparse did not run"
	! grep -E '(warning|error):' "$log" | grep -qvE "^($headers|/usr/src/linux-)" ||
		fail "sparse complains"
}

# GCC's own account: file:line:column:function, bytes, "static" unless there are arrays of variable size.
step_frames() {
	local all=$out/frames

	find "$module" -name '*.su' -exec cat {} + | sort -u | sort -t "$(printf '\t')" -k 2,2nr > "$all"
	[ -s "$all" ] || die "no sizes of frames: run the step module"
	echo "largest frames:"
	head -n 5 "$all" | awk -F '\t' '{ sub(/.*:/, "", $1); print "  " $2 " bytes in " $1 "()" }'
	awk -F '\t' -v limit="$frame_limit" '$2 >= limit || $3 ~ /^dynamic$/ { print; bad = 1 }
		END { exit bad }' "$all" || die "frames of $frame_limit bytes or more"
}

step_modinfo() {
	local info
	info=$(/sbin/modinfo "$out/kvfs.ko")
	printf '%s\n' "$info"
	want() {
		grep -qE "$1" <<< "$info" || die "modinfo has no line /$1/"
	}
	want '^name: +kvfs$'
	want '^license: +(GPL|Dual BSD/GPL)$'
	want '^alias: +fs-kvfs$'
	want '^description: +[^ ]'
	want '^version: +[0-9]'
	! grep -E '^parm: +[^:]*:(\(?[a-z]+\)?)?$' <<< "$info" || die "a parameter has no description"
}

step_symbols() {
	local bad
	bad=$(nm -u "$out/kvfs.ko" | awk '{ print $2 }' |
		grep -xE '(malloc|calloc|realloc|free|printf|fprintf|abort|__stack_chk_fail_local|pthread_.*)|__(add|sub|mul|div|float|fix|extend|trunc)[a-z0-9]*[sdt]f[0-9]?' || true)
	[ -z "$bad" ] || die "not for the kernel: $bad"
}

[ $# -gt 0 ] || set -- module sparse frames modinfo symbols
for step; do
	[ "$(type -t "step_$step")" = function ] || die "no step is called $step"
	"step_$step"
done
