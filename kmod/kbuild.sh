#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# kbuild.sh HEADERS OUT SOURCE... - make OUT ready for Kbuild: one-line wrapper files for the sources of
# the core, and a Kbuild with what the kernel of these headers offers. Sources are paths below the top of
# the tree. What is up to date is left alone, so that make compiles no more than it must.
#
# A kernel is asked by compiling, never by its version: each probe is a file, all of them are compiled in
# one go, and an object that came out is a yes.

set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
headers=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2

# probe NAME INCLUDES STATEMENTS
probe() {
	local include
	{
		for include in $2; do
			echo "#include <linux/$include.h>"
		done
		echo "int kv_probe(void); int kv_probe(void) { $3 return 0; }"
	} > "$probes/$1.c"
}

probe_all() {
	local name

	probe MNT_IDMAP fs 'struct mnt_idmap *m = NULL; setattr_prepare(m, NULL, NULL);'
	probe FILLATTR_MASK fs 'generic_fillattr(NULL, 0u, NULL, NULL);'
	probe SET_CTIME_CURRENT fs 'inode_set_ctime_current((struct inode *)NULL);'
	probe MTIME_ACCESSORS fs 'inode_set_mtime_to_ts((struct inode *)NULL, (struct timespec64){ 0 });'
	probe INODE_STATE_READ fs 'return inode_state_read_once((struct inode *)NULL);'
	probe SB_SHUTDOWN fs 'struct super_operations o = { .shutdown = NULL }; (void)o;'
	probe SET_DEFAULT_D_OP 'fs dcache' 'set_default_d_op(NULL, NULL);'
	probe CREATE_EXCL fs 'struct inode_operations o; return o.create(NULL, NULL, NULL, 0, true);'
	probe MKDIR_DENTRY fs 'struct inode_operations o; struct dentry *d = o.mkdir(NULL, NULL, NULL, 0); (void)d;'
	probe SHRINKER_ALLOC shrinker 'struct shrinker *s = shrinker_alloc(0, "x"); (void)s;'
	for name in "$probes"/*.c; do
		name=${name##*/}
		echo "obj-m += ${name%.c}.o"
	done > "$probes/Kbuild"
	# Objects, not modules: a probe that fails must not keep the others from being asked.
	make -k -C "$headers" M="$probes" KBUILD_MODPOST_WARN=1 \
		KCFLAGS='-Werror=implicit-function-declaration -Werror=int-conversion' modules > "$probes/log" 2>&1 || true
}

# put FILE: what comes on standard input, unless FILE has it already.
put() {
	cat > "$1.new"
	if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

[ -f "$headers/Makefile" ] || {
	echo "kbuild.sh: '$headers' is no build directory of a kernel" >&2
	exit 1
}
if [ ! -f "$out/probed" ] || [ "$0" -nt "$out/probed" ] || [ "$headers/Makefile" -nt "$out/probed" ]; then
	probes=$out/probes
	rm -rf "$probes"
	mkdir "$probes"
	probe_all
	for object in "$probes"/*.o; do
		object=${object##*/}
		case $object in
		*.mod.o | '*.o') ;;
		*) echo "-DKV_HAVE_${object%.o}" ;;
		esac
	done > "$out/probed"
fi

objects=()
for source; do
	case $source in
	*.c) ;;
	*) continue ;;
	esac
	name=k_${source//\//_}
	objects+=("${name%.c}.o")
	echo "#include \"$top/$source\"" | put "$out/$name"
done
put "$out/Kbuild" << EOF
obj-m := kvfs.o
kvfs-y := ${objects[*]}
ccflags-y := -std=gnu11 -Wframe-larger-than=1024 -I$top/kmod -I$top/kmod/include -I$top \\
	-I$top/engine/include $(tr '\n' ' ' < "$out/probed")
EOF
