#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# mount_backend.sh - 'kvs VERB mount:DIR': each verb on a mount of the kernel module. POSIX sh and busybox
# suffice.
#
#	sh mount_backend.sh MOUNTPOINT [KVS]	prints TAP; the exit code is 1 if something failed
#
# The mount is empty and writable, and is left so. KVS is the command, default kvs. Variables:
#
#	KVFS_FAKE=1	the mount is played by tests/cli/fake_mount.c: what needs real files is left out

LC_ALL=C
export LC_ALL
M=${1:?mount_backend.sh MOUNTPOINT [KVS]}
kvs=${2:-kvs}
V=mount:$M
T=${TMPDIR:-/tmp}/kvfs-backend.$$
count=0
failed=0
mkdir -p "$T" || exit 1
trap 'rm -rf "$T"' EXIT

ok() {
	count=$((count + 1))
	echo "ok $count - $1"
}

not_ok() {
	count=$((count + 1))
	failed=$((failed + 1))
	echo "not ok $count - $1"
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" | sed 's/^/#   /'
}

# status TEXT CODE COMMAND...: the exit code; output stays in $T/out and $T/err.
status() {
	text=$1
	want=$2
	shift 2
	"$@" > "$T/out" 2> "$T/err" < /dev/null
	got=$?
	if [ $got -eq "$want" ]; then ok "$text"; else not_ok "$text" "$*: $got" "$(head -n 10 "$T/err")"; fi
}

# says TEXT CODE WORDS COMMAND...: the exit code, and words on standard error.
says() {
	text=$1
	want=$2
	words=$3
	shift 3
	"$@" > "$T/out" 2> "$T/err" < /dev/null
	got=$?
	if [ $got -eq "$want" ] && grep -q "$words" "$T/err"; then
		ok "$text"
	else
		not_ok "$text" "$*: $got" "$(head -n 10 "$T/err")"
	fi
}

# is TEXT GOT WANT
is() {
	if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got:  '$2'" "want: '$3'"; fi
}

same() {
	if cmp "$2" "$3" > "$T/cmp" 2>&1; then ok "$1"; else not_ok "$1" "$(cat "$T/cmp")"; fi
}

# bytes N: as many, never the same twice in a row
bytes() {
	head -c "$1" /dev/urandom
}

# ---- one key ------------------------------------------------------------------------------------------

is 'count of the empty mount' "$($kvs count "$V")" 0
status 'put' 0 "$kvs" put "$V" greeting 'Hello, world!'
is 'put says nothing' "$(cat "$T/out" "$T/err")" ''
is 'get' "$($kvs get "$V" greeting; echo .)" 'Hello, world!.'
status 'exists: 0' 0 "$kvs" exists "$V" greeting
status 'exists: 1' 1 "$kvs" exists "$V" missing
says 'get of a missing key' 1 "^kvs: $V: no key 'missing'" "$kvs" get "$V" missing
says 'del of a missing key' 1 "no key 'missing'" "$kvs" del "$V" missing
says 'inc of a missing key' 1 "no key 'missing'" "$kvs" inc "$V" missing
status 'put sets the whole value' 0 "$kvs" put "$V" greeting short
is 'get after that' "$($kvs get "$V" greeting)" short
status 'put of an empty value' 0 "$kvs" put "$V" empty ''
is 'get of it' "$($kvs get "$V" empty; echo .)" .
status 'exists of it' 0 "$kvs" exists "$V" empty
says 'the empty key' 2 'key is empty' "$kvs" put "$V" '' x
status 'a key with a zero byte and a slash' 0 "$kvs" put --key-enc hex "$V" 61002f value
is 'comes back' "$($kvs get --key-enc hex "$V" 61002f)" value
status 'put --no-sync' 0 "$kvs" put --no-sync "$V" greeting unsynced
is 'stores too' "$($kvs get "$V" greeting)" unsynced
status 'del' 0 "$kvs" del "$V" greeting empty
status 'the key is gone' 1 "$kvs" exists "$V" greeting
status 'del --key-enc' 0 "$kvs" del --key-enc hex "$V" 61002f

# ---- numbers -----------------------------------------------------------------------------------------------

$kvs put "$V" number 10
is 'inc' "$($kvs inc "$V" number)" 11
is 'inc N' "$($kvs inc "$V" number 0x10)" 27
is 'dec' "$($kvs dec "$V" number)" 26
is 'dec N' "$($kvs dec "$V" number 30)" -4
$kvs put "$V" number 9223372036854775807
says 'inc beyond 64 bits' 2 'not an integer' "$kvs" inc "$V" number
$kvs put "$V" number text
says 'inc of a text' 2 'not an integer' "$kvs" inc "$V" number
is 'the text is as it was' "$($kvs get "$V" number)" text
$kvs del "$V" number

# ---- values of all sizes -------------------------------------------------------------------------------------

for n in 1 4096 65535 65536 65537 1048575 1048576 1048577 5000000; do
	bytes $n > "$T/value"
	status "put - of $n bytes" 0 sh -c "$kvs put '$V' sized - < '$T/value'"
	$kvs get "$V" sized > "$T/got"
	same "get of $n bytes" "$T/value" "$T/got"
	{
		printf 'sized\t'
		cat "$T/value"
		echo
	} > "$T/want"
	$kvs scan "$V" --value-enc raw > "$T/got"
	same "scan of $n bytes" "$T/want" "$T/got"
done
$kvs del "$V" sized
if [ -z "$KVFS_FAKE" ]; then
	bytes 20000000 > "$T/value"
	status 'put - of more than one call takes' 0 sh -c "$kvs put '$V' large - < '$T/value'"
	$kvs get "$V" large > "$T/got"
	same 'get of it' "$T/value" "$T/got"
	printf small | "$kvs" put "$V" large -
	is 'a short value in its place' "$($kvs get "$V" large)" small
	long=$(printf '%0400d' 0)
	status 'the same under a key with a long name' 0 sh -c "$kvs put '$V' $long - < '$T/value'"
	$kvs get "$V" "$long" > "$T/got"
	same 'get of it' "$T/value" "$T/got"
	status 'del of both' 0 "$kvs" del "$V" large "$long"
	rm -f "$T/value" "$T/got"
fi

# ---- many keys: load, scan, ranges, count --------------------------------------------------------------------

i=0
while [ $i -lt 3000 ]; do
	printf '{"key":"k%04d","value":"value %d"}\n' $i $i
	i=$((i + 1))
done > "$T/many"
status 'load' 0 "$kvs" load "$V" "$T/many"
is 'count' "$($kvs count "$V")" 3000
status 'dump' 0 "$kvs" dump "$V"
same 'dump gives what load took' "$T/many" "$T/out"
is 'scan --limit' "$($kvs scan "$V" -n 2)" "$(printf 'k0000\tvalue 0\nk0001\tvalue 1')"
is 'scan --keys' "$($kvs scan "$V" -k | sed -n '1p;3000p' | xargs)" 'k0000 k2999'
is 'scan --prefix' "$($kvs scan "$V" -k --prefix k012 | xargs)" \
	'k0120 k0121 k0122 k0123 k0124 k0125 k0126 k0127 k0128 k0129'
is 'scan --from --to' "$($kvs scan "$V" -k --from k0100 --to k0103 | xargs)" 'k0100 k0101 k0102'
is 'scan --from behind the last key' "$($kvs scan "$V" --from l)" ''
is 'scan --reverse' "$($kvs scan "$V" -r -n 3 | cut -f 2 | xargs)" 'value 2999 value 2998 value 2997'
is 'scan --reverse of a range' "$($kvs scan "$V" -r -k --from k0100 --to k0103 | xargs)" 'k0102 k0101 k0100'
is 'scan --reverse of all' "$($kvs scan "$V" -r -k | wc -l)" 3000
is 'scan -o json' "$($kvs scan "$V" -o json --prefix k2999)" '{"key":"k2999","value":"value 2999"}'
status 'dump --format bdb' 0 "$kvs" dump "$V" --format bdb
cp "$T/out" "$T/bdb"
status 'del --prefix' 0 "$kvs" del "$V" --prefix k1
is 'deletes those keys' "$($kvs count "$V")" 2000
status 'del --from --to' 0 "$kvs" del "$V" --from k0500 --to k2500
is 'and those' "$($kvs count "$V")" 1000
is 'and no others' "$($kvs scan "$V" -k | sed -n '500p;501p' | xargs)" 'k0499 k2500'
status 'load of the bdb dump' 0 "$kvs" load "$V" "$T/bdb"
$kvs dump "$V" > "$T/out"
same 'gives all back' "$T/many" "$T/out"
echo '{"key":"broken' > "$T/bad"
says 'load of a broken line' 2 'line 1' "$kvs" load "$V" "$T/bad"
printf 'put\tapplied\t41\ninc\tapplied\nappend\tapplied\t:x\nput\tgone\t1\ndel\tgone\nsync\necho\tsaid\n' > "$T/script"
is 'apply' "$($kvs apply "$V" "$T/script")" said
is 'does what it says' "$($kvs get "$V" applied; $kvs exists "$V" gone; echo " $?")" '42:x 1'
says 'apply stops at what is missing' 1 "no key 'none'" sh -c "printf 'del\tnone\n' | $kvs apply '$V' -"
status 'del of everything' 0 "$kvs" del "$V" --prefix ''
is 'leaves nothing' "$($kvs count "$V")" 0

# ---- trees --------------------------------------------------------------------------------------------------

status 'put --tree makes the tree' 0 "$kvs" put "$V" -t fruit apple red
is 'get --tree' "$($kvs get "$V" -t fruit apple)" red
status 'the key is not in main' 1 "$kvs" exists "$V" apple
says 'get from a tree that is not there' 1 "no tree 'none'" "$kvs" get "$V" -t none apple
is 'the tree is a directory' "$(ls -d "$M/fruit")" "$M/fruit"
$kvs put "$V" plain 1
printf '{"tree":"fruit","key":"pear","value":"green"}\n{"key":"plum","value":"blue"}\n{"tree":"grain","key":"rye","value":"1"}\n' \
	> "$T/mixed"
status 'load into several trees' 0 "$kvs" load "$V" "$T/mixed"
is 'trees' "$($kvs trees "$V" | tr '\t' ' ' | xargs)" 'fruit 2 grain 1 main 2'
is 'count --tree' "$($kvs count "$V" -t fruit)" 2
is 'dump of all trees' "$($kvs dump "$V" | tail -n 1)" '{"tree":"grain","key":"rye","value":"1"}'
is 'trees -o json' "$($kvs trees "$V" -o json | grep -c '"tree"')" 3
says 'trees --drop of a tree with keys' 2 'empty it' "$kvs" trees "$V" --drop fruit
says 'trees --drop of no tree' 1 "no tree 'none'" "$kvs" trees "$V" --drop none
says 'trees --drop main' 2 'cannot be dropped' "$kvs" trees "$V" --drop main
status 'del of all its keys' 0 "$kvs" del "$V" -t fruit --prefix ''
status 'trees --drop of the empty tree' 0 "$kvs" trees "$V" --drop fruit
$kvs del "$V" -t grain rye
status 'and of the other one' 0 "$kvs" trees "$V" --drop grain
$kvs del "$V" plain plum

# ---- the volume, and refusals ---------------------------------------------------------------------------------

status 'stat' 0 "$kvs" stat "$V"
is 'stat tells the longest key' "$(grep -c '^longest key: *[1-9]' "$T/out")" 1
chunk=$($kvs stat "$V" -o json | sed -n 's/.*"chunk_bytes": *\([0-9]*\).*/\1/p')
is 'stat tells the chunk of a large value, which is more than a block' $((${chunk:-0} > 4096)) 1
is 'stat -o json' "$($kvs stat "$V" -o json | grep -c '"entries": 0')" 1
is 'stat tells what is kept for readers' "$($kvs stat "$V" -o json | grep -c '"reader_bytes": *[0-9]')" 1
is 'stat leaves out what a mount does not tell' "$($kvs stat "$V" -o json | grep -c 'replay')" 0
says 'check is refused' 2 'not mounted' "$kvs" check "$V"
says 'create is refused' 2 'not mounted' "$kvs" create "$V"
says 'mount is refused' 2 'not mounted' "$kvs" mount "$V" "$T"
says 'another file system is refused' 5 'no mount of the kernel module' "$kvs" get mount:/ key
says 'no directory' 5 'no such directory' "$kvs" get mount:/nonexistent key
long=$(printf '%09000d' 0)
says 'a key that is too long' 2 'too long' "$kvs" put "$V" "$long" x
is 'all keys are gone' "$($kvs count "$V")" 0
echo "1..$count"
[ $failed -eq 0 ]
