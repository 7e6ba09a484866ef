#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# debug_kernel.sh [CACHE] - find or build the kernel of debug.config from the sources of Debian's 6.1, in
# CACHE (default: $KV_KERNELS, else build/kernels). Prints the line that kernels.sh prints for its
# kernels; the fields are separated by tabs:
#
#	debug  RELEASE  HEADERS  VMLINUZ  MODULES
#
# The first build takes ten minutes of a processor and 3 GB; 0.2 GB of it stay. It is built again when the
# fragment, the package of the sources or the compiler is another.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${1:-${KV_KERNELS:-$top/build/kernels}}
sources=linux-source-6.1
packages=("$sources" gcc libc6-dev make flex bison bc rsync xz-utils libelf-dev libssl-dev kmod)
# Of a make that runs us: -s would hide what we read, -j would talk to a server that is not ours.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

say() { printf 'debug_kernel.sh: %s\n' "$*" >&2; }
die() {
	printf 'debug_kernel.sh: %s\n' "$*" >&2
	exit 1
}

status_of() {
	dpkg-query -W -f="\${db:Status-Status}" "$1" 2> /dev/null || true
}

install_packages() {
	local p missing=() root=()

	for p in "${packages[@]}"; do
		[ "$(status_of "$p")" = installed ] || missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing ${missing[*]}"
	[ "$(id -u)" -eq 0 ] || root=(sudo)
	"${root[@]}" apt-get update -qq >&2 || say "apt-get update failed; trying with the lists there are"
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
		die "apt-get could not install: ${missing[*]}"
}

# What does not hold together is dropped by Kconfig without a word. LZ4 has to be there because kvfs.ko
# calls it.
verify_config() {
	local line missing=()

	while read -r line; do
		grep -qxF "$line" "$1" || missing+=("$line")
	done < <(grep -xE 'CONFIG_[A-Z0-9_]+=.+' "$here/debug.config"
		echo CONFIG_LZ4_COMPRESS=y
		echo CONFIG_LZ4_DECOMPRESS=y)
	[ ${#missing[@]} -eq 0 ] || die "Kconfig dropped: ${missing[*]}"
}

# Modules need the makefiles, the scripts and the headers; the rest is large.
slim() {
	local d

	for d in "$1"/*/; do
		case ${d#"$1"/} in
		arch/ | include/ | scripts/ | tools/ | security/) ;;
		*) rm -rf "$d" ;;
		esac
	done
	find "$1/arch" -mindepth 1 -maxdepth 1 -type d ! -name x86 -exec rm -rf {} +
	find "$2" \( -name '*.o' -o -name '*.a' -o -name '.*.cmd' \) ! -path '*/scripts/*' -delete
	rm -f "$2"/vmlinux "$2"/.tmp_vmlinux*
}

# build DIR: everything below DIR, which may stay half done if it fails.
build() {
	local dir=$1 log=$1/build.log kconf

	mkdir -p "$dir/build" "$dir/source"
	say "unpacking $sources"
	tar -xf "/usr/src/$sources.tar.xz" -C "$dir/source" --strip-components=1
	kconf=(make -C "$dir/source" "O=$dir/build" -s)
	{
		"${kconf[@]}" tinyconfig
		(cd "$dir/source" && scripts/kconfig/merge_config.sh -m -O "$dir/build" "$dir/build/.config" \
			"$here/debug.config")
		"${kconf[@]}" olddefconfig
	} > "$log" 2>&1 || die "no configuration; see $log"
	verify_config "$dir/build/.config"
	say "building (about ten minutes); $log"
	nice make -C "$dir/build" -j "$(nproc)" bzImage modules >> "$log" 2>&1 ||
		die "the kernel does not build: $(tail -n 5 "$log")"
	cp "$dir/build/arch/x86/boot/bzImage" "$dir/vmlinuz"
	# Nothing is a module; initrd.sh wants the place where they would be.
	mkdir -p "$dir/modules/kernel"
	slim "$dir/source" "$dir/build"
}

[ "$(dpkg --print-architecture 2> /dev/null)" = amd64 ] || die "made for Debian 12, amd64"
install_packages
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
key=$({
	cat "$here/debug.config"
	dpkg-query -W -f="\${Version}\n" "$sources" gcc
} | sha256sum | cut -c 1-12)
dir=$cache/debug-$key
if [ ! -f "$dir/done" ]; then
	rm -rf "$dir"
	build "$dir"
	touch "$dir/done"
fi
printf 'debug\t%s\t%s\t%s\t%s\n' "$(cat "$dir/build/include/config/kernel.release")" "$dir/build" \
	"$dir/vmlinuz" "$dir/modules" | tee "$cache/debug-kernel"
