#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# kernels.sh [CACHE] - find or install what building and testing kvfs.ko needs: the tools, the headers
# of the kernels that it is tested on, and their images. Prints a line for each kernel, and leaves the
# same in CACHE/kernels; the fields are separated by tabs:
#
#	SERIES  RELEASE  HEADERS  VMLINUZ  MODULES
#
# Headers are installed. Images are not: they are downloaded and unpacked below CACHE (default:
# $KV_KERNELS, else build/kernels), for a virtual machine and nobody else. What is there is not
# fetched again, and then neither root nor a network is needed.

set -euo pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
cache=${1:-${KV_KERNELS:-$top/build/kernels}}

packages=(
	# build
	gcc libc6-dev make sparse kmod binutils
	# guests
	qemu-system-x86 seabios ipxe-qemu busybox-static cpio gzip xz-utils python3-minimal
)
# Series, and the releases of it that Debian 12 has: its own, and that of its backports.
series=(6.1 6.12)
declare -A releases=(
	[6.1]='6\.1\.0-[0-9]+-cloud-amd64'
	[6.12]='6\.12\.[0-9]+\+deb12-cloud-amd64'
)

say() { printf 'kernels.sh: %s\n' "$*" >&2; }
die() {
	printf 'kernels.sh: %s\n' "$*" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		command -v sudo > /dev/null || die "not root and no sudo; as root, run: $*"
		sudo "$@"
	fi
}

# Lists may be old or absent: fetch them once, before the first package that is missing.
updated=
update_lists() {
	[ -z "$updated" ] || return 0
	updated=1
	as_root apt-get update -qq >&2 || say "apt-get update failed; trying with the lists there are"
}

install() {
	update_lists
	say "installing $*"
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends "$@" >&2 || die "apt-get could not install: $*"
}

install_packages() {
	local p missing=()

	for p in "${packages[@]}"; do
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2> /dev/null || true)" = installed ] ||
			missing+=("$p")
	done
	[ ${#missing[@]} -eq 0 ] || install "${missing[@]}"
}

# installed_headers PATTERN, offered_headers PATTERN: the newest release, or nothing. Where no package has
# such a name dpkg-query fails.
installed_headers() {
	{ dpkg-query -W -f='${db:Status-Status} ${Package}\n' 'linux-headers-*' 2> /dev/null || true; } |
		sed -nE "s/^installed linux-headers-($1)\$/\\1/p" | sort -V | tail -n 1
}

offered_headers() {
	apt-cache search --names-only "^linux-headers-$1\$" |
		sed -nE "s/^linux-headers-($1) .*/\\1/p" | sort -V | tail -n 1
}

# Backports are not among a machine's usual sources; the mirror is the one that it uses already.
add_backports() {
	local uri codename keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	local list=/etc/apt/sources.list.d/kvs-backports.sources

	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	# shellcheck disable=SC2016 # apt-get expands them
	uri=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		sed -n "s/^$codename main //p" | head -n 1)
	[ -n "$uri" ] || die "no source of $codename main to take backports from; see sources.list(5)"
	say "adding $codename-backports from $uri"
	printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\nSigned-By: %s\n' \
		"$uri" "$codename" "$keyring" | as_root tee "$list" > /dev/null
	updated=
	update_lists
}

# unpack RELEASE: its image, in CACHE/RELEASE. Fails when it cannot be had, such as an old one.
unpack() {
	local release=$1 deb

	[ ! -f "$cache/$release/boot/vmlinuz-$release" ] || return 0
	rm -rf "$cache/new"
	mkdir -p "$cache/new/deb"
	say "fetching linux-image-$release"
	(cd "$cache/new/deb" && apt-get download -qq "linux-image-$release" >&2) || return 1
	deb=$(find "$cache/new/deb" -name '*.deb')
	dpkg -x "$deb" "$cache/new/image" || return 1
	rm -rf "${cache:?}/$release"
	mv "$cache/new/image" "$cache/$release"
	rm -rf "$cache/new"
}

# prepare SERIES: sets release. The headers that are installed, if their image can be had; else the
# newest that is offered.
prepare() {
	local pattern=${releases[$1]}

	release=$(installed_headers "$pattern")
	if [ -n "$release" ]; then
		unpack "$release" && return 0
		update_lists
		unpack "$release" && return 0
		say "no image of $release; looking for a newer kernel"
	fi
	update_lists
	release=$(offered_headers "$pattern")
	if [ -z "$release" ]; then
		[ "$1" != 6.1 ] || die "no source offers the kernel of Debian 12"
		add_backports
		release=$(offered_headers "$pattern")
	fi
	[ -n "$release" ] || die "no source offers Linux $1"
	install "linux-headers-$release"
	unpack "$release" || die "linux-image-$release could not be fetched and unpacked"
}

[ "$(dpkg --print-architecture 2> /dev/null)" = amd64 ] ||
	die "the guests are made of packages of Debian 12, amd64"
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
install_packages
for s in "${series[@]}"; do
	prepare "$s"
	printf '%s\t%s\t%s\t%s\t%s\n' "$s" "$release" "/usr/src/linux-headers-$release" \
		"$cache/$release/boot/vmlinuz-$release" "$cache/$release/lib/modules/$release"
done > "$cache/kernels.new"
mv "$cache/kernels.new" "$cache/kernels"
cat "$cache/kernels"
