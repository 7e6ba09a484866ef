#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# vm.sh -k VMLINUZ -i INITRD -c CONSOLE -r RESULTS [OPTION...] [DISK...] [-- QEMU OPTION...]
# run an initramfs of initrd.sh in a virtual machine that is emulated (TCG): no KVM, no root, no network.
#
#	-k VMLINUZ   kernel             -c CONSOLE   file for all that the kernel says
#	-i INITRD    initramfs          -r RESULTS   file for what /test.sh prints
#	-a WORDS     more for the kernel's command line
#	-m SIZE      memory (512M)      -t SECONDS   limit (600)
#	DISK         raw images: /dev/vda, /dev/vdb ...
#
# vm.sh -s CONSOLE: only judge a console.
#
# Exit status: that of /test.sh (at most 100), or 120 the kernel reported something after the mark that
# init sets just before /test.sh, 124 the limit was reached, 125 the machine ended without a status
# (panic).

set -euo pipefail

# Reports of the kernel. None of them changes the status of the guest.
reports='BUG:|BUG [^ ]+ \(|WARNING:|KASAN|KCSAN|UBSAN|Oops|Kernel panic|general protection'
reports+='|possible (recursive|circular)|inconsistent lock state|suspicious RCU|INFO: (task|rcu|trying)'
reports+='|unreferenced object|Call Trace|Busy inodes after unmount|still in use|soft lockup|hard LOCKUP'
reports+='|refcount_t:|scheduling while atomic|sleeping function|Objects remaining|still has objects'
reports+='|Out of memory|oom-kill|allocation failure'

die() {
	printf 'vm.sh: %s\n' "$*" >&2
	exit 2
}

# judge CONSOLE: shows what the kernel reported, if anything; 1 then.
judge() {
	local after
	after=$(tr -d '\r' < "$1" | sed -n '/@@ begin/,$p')
	if [ -z "$after" ]; then
		echo "vm.sh: the guest did not come to its test; the end of the console:"
		tail -n 20 "$1"
		return 1
	fi
	grep -qE "$reports" <<< "$after" || return 0
	echo "vm.sh: reports of the kernel:"
	grep -nE -A 25 "$reports" <<< "$after" | head -n 120
	return 1
}

kernel='' initrd='' console='' results='' words='' memory=512M limit=600
while getopts k:i:c:r:a:m:t:s: opt; do
	case $opt in
	k) kernel=$OPTARG ;;
	i) initrd=$OPTARG ;;
	c) console=$OPTARG ;;
	r) results=$OPTARG ;;
	a) words=$OPTARG ;;
	m) memory=$OPTARG ;;
	t) limit=$OPTARG ;;
	s)
		judge "$OPTARG" || exit 120
		exit 0
		;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
for f in "$kernel" "$initrd"; do [ -f "$f" ] || die "no such file: '$f'"; done
if [ -z "$console" ] || [ -z "$results" ]; then die "-c CONSOLE and -r RESULTS are needed"; fi

drives=() n=0
while [ $# -gt 0 ]; do
	if [ "$1" = -- ]; then
		shift
		break
	fi
	[ -f "$1" ] || die "no such disk: '$1'"
	# A comma ends an option of qemu unless it is doubled.
	drives+=(-drive "file=${1//,/,,},if=none,id=d$n,format=raw,cache=unsafe")
	drives+=(-device "virtio-blk-pci,drive=d$n")
	n=$((n + 1))
	shift
done

# cx16: QEMU 7.2 emulates cmpxchg16b wrongly; the allocator of 6.12 then breaks its lists at boot.
# cache=unsafe: the host does not crash here; its sync would only be slow.
# no_timer_check: on a busy host the emulated timer may miss the moment in which the kernel looks for it, which
# it takes for broken hardware, and panics.
# panic=-1: reboot at once, which -no-reboot turns into an exit.
# The files are opened by qemu only when it runs: no old ones.
boot() {
	rm -f "$console" "$results"
	timeout -k 10 "$limit" qemu-system-x86_64 -accel tcg,thread=multi -cpu max,-cx16 -M pc -m "$memory" \
		-smp 2,sockets=2 -display none -monitor none -nodefaults -no-user-config -no-reboot \
		-serial "file:$console" -serial "file:$results" \
		-device isa-debug-exit,iobase=0xf4,iosize=0x04 "${drives[@]}" \
		-kernel "$kernel" -initrd "$initrd" \
		-append "console=ttyS0 panic=-1 oops=panic quiet mitigations=off random.trust_cpu=on tsc=reliable \
no_timer_check $words" \
		"$@" < /dev/null
}

# An emulated processor may trip over the kernel's own patching of itself on a busy host, long before the
# mark and our module: then the machine is booted again.
for try in 1 2 3; do
	status=0
	boot "$@" || status=$?
	[ -f "$console" ] || die "qemu did not start: status $status"
	if grep -q '@@ begin' "$console" || [ "$status" -ge 124 ] || [ "$try" -eq 3 ]; then break; fi
	echo "vm.sh: the kernel did not come to the test; boot $((try + 1))"
done
touch "$results"

judged=0
judge "$console" || judged=120
if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
	echo "vm.sh: stopped after $limit s; the end of the console:"
	tail -n 20 "$console"
	exit 124
fi
[ "$judged" -eq 0 ] || exit "$judged"
if [ $((status & 1)) -eq 0 ]; then
	echo "vm.sh: the machine ended without a status (qemu: $status); the end of the console:"
	tail -n 20 "$console"
	exit 125
fi
exit $((status >> 1))
