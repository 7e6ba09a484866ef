#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# initrd.sh -k MODULES -o OUT -t SCRIPT [-b PROGRAM]... [-P] [FILE...] - an initramfs for vm.sh.
#
#	-k MODULES   directory of the kernel's modules; those below, and what they need, are loaded
#	-t SCRIPT    what the guest runs, as /test.sh; its exit status becomes that of vm.sh
#	-b PROGRAM   goes to /bin, with its libraries
#	-P           Debian's python, with as much of its library as the tests import
#	FILE         goes to /; what a module (*.ko) among them needs is loaded, it is not
#
# In the guest: /test.sh has the results' port as standard output and the console as standard error;
# busybox; /bin/vmexit (vmexit.c); /guest_tap.sh to be sourced.

set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# Not there, or built into the kernel: then there is nothing to load.
boot_modules=(virtio_pci virtio_blk loop dm-mod dm-flakey)
python=/usr/bin/python3
python_modules='
	_collections_abc _weakrefset abc bisect codecs collections collections.abc contextlib copyreg
	encodings encodings.aliases encodings.ascii encodings.latin_1 encodings.utf_8 enum functools
	genericpath heapq importlib importlib._abc importlib._bootstrap importlib._bootstrap_external
	importlib.abc importlib.machinery importlib.util io keyword linecache operator os posixpath
	random re re._casefix re._compiler re._constants re._parser reprlib signal site _sitebuiltins
	stat struct textwrap threading token tokenize traceback types warnings weakref zipimport'

die() {
	printf 'initrd.sh: %s\n' "$*" >&2
	exit 1
}

modules='' out='' script='' with_python='' programs=()
while getopts k:o:t:b:P opt; do
	case $opt in
	k) modules=$OPTARG ;;
	o) out=$OPTARG ;;
	t) script=$OPTARG ;;
	b) programs+=("$OPTARG") ;;
	P) with_python=1 ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
[ -d "$modules/kernel" ] || die "-k: no modules in '$modules'"
if [ -z "$out" ] || [ ! -f "$script" ]; then die "-o OUT and -t SCRIPT are needed"; fi

stage=$(mktemp -d "${TMPDIR:-/tmp}/kvs-initrd.XXXXXX")
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage"/{bin,dev,proc,sys,mnt,tmp,lib/modules}
: > "$stage/lib/modules/order"

# load NAME: put the module and, before it, what it depends on, into the order of loading.
declare -A loaded=()
load() {
	local name=${1//-/_} file dep

	[ -z "${loaded[$name]:-}" ] || return 0
	loaded[$name]=1
	file=$(find "$modules/kernel" \( -name "${name//_/[-_]}.ko" -o -name "${name//_/[-_]}.ko.xz" \) |
		head -n 1)
	[ -n "$file" ] || return 0
	for dep in $(modinfo -F depends "$file" | tr ',' ' '); do
		load "$dep"
	done
	case $file in
	*.xz) xz -dc "$file" > "$stage/lib/modules/$name.ko" ;;
	*) cp "$file" "$stage/lib/modules/$name.ko" ;;
	esac
	echo "$name" >> "$stage/lib/modules/order"
}

# add_libraries ELF: those that the loader would find, and the loader.
add_libraries() {
	local lib

	for lib in $(ldd "$1" 2> /dev/null | grep -oE '/[^ ]+'); do
		[ ! -e "$stage$lib" ] || continue
		mkdir -p "$stage${lib%/*}"
		cp -L "$lib" "$stage$lib"
	done
}

add_program() {
	local file=$1

	# A build with shared libraries leaves libtool's script here, and the program behind it.
	[ ! -f "${file%/*}/.libs/${file##*/}" ] || file=${file%/*}/.libs/${file##*/}
	cp "$file" "$stage/bin/${1##*/}"
	add_libraries "$file"
}

# Compiled here, and without the sources: compiling is slow in the guest.
add_python() {
	local real
	real=$(readlink -f "$python")
	mkdir -p "$stage/usr/bin"
	cp "$real" "$stage/usr/bin/"
	ln -s "${real##*/}" "$stage/usr/bin/python3"
	add_libraries "$real"
	# shellcheck disable=SC2086 # one argument each
	"$real" -I - "$stage" $python_modules <<'PY'
import importlib.machinery, os, py_compile, sys
lib = os.path.dirname(os.__file__)
for name in sys.argv[2:]:
	base = os.path.join(lib, name.replace(".", "/"))
	src = base + ".py" if os.path.exists(base + ".py") else os.path.join(base, "__init__.py")
	if not os.path.exists(src):
		continue  # of another version of python
	py_compile.compile(src, cfile=sys.argv[1] + src + "c", doraise=True,
		invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
os.makedirs(sys.argv[1] + lib + "/lib-dynload", exist_ok=True)
PY
}

busybox=$(command -v busybox) || die "no busybox; run tests/kmod/kernels.sh"
ldd "$busybox" > /dev/null 2>&1 && die "$busybox is not static: install busybox-static"
cp "$busybox" "$stage/bin/busybox"
"${CC:-gcc}" -O2 -Wall -static -o "$stage/bin/vmexit" "$here/vmexit.c"
cp "$script" "$stage/test.sh"
cp "$here/guest_tap.sh" "$stage/"
for f in "$@"; do
	cp "$f" "$stage/"
	[[ $f != *.ko ]] || for dep in $(modinfo -F depends "$f" | tr ',' ' '); do load "$dep"; done
done
for m in "${boot_modules[@]}"; do load "$m"; done
[ ${#programs[@]} -eq 0 ] || for p in "${programs[@]}"; do add_program "$p"; done
[ -z "$with_python" ] || add_python

cat > "$stage/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2> /dev/null
mount -t tmpfs tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug 2> /dev/null
while read -r m; do
	insmod "/lib/modules/$m.ko" || echo "init: module $m cannot be loaded"
done < /lib/modules/order
# Raw: the host reads what was written, byte by byte.
stty -F /dev/ttyS1 raw -echo
# Warnings of the kernel are below what "quiet" lets through. vm.sh judges what follows the mark.
echo 8 > /proc/sys/kernel/printk
echo '<0>@@ begin' > /dev/kmsg
sh /test.sh > /dev/ttyS1
status=$?
echo "<0>@@ end $status" > /dev/kmsg
# The end of a machine is a power cut: what is to stay is on the disk by now, or it is a bug.
[ "$status" -le 100 ] || status=100
vmexit "$status" > /dev/ttyS1
poweroff -f
INIT
chmod +x "$stage/init"
mkdir -p "$(dirname "$out")"
(cd "$stage" && find . | cpio -o -H newc --quiet -R 0:0 | gzip -1) > "$out.new"
mv "$out.new" "$out"
