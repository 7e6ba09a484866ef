#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# suite.sh - what any mount of KVFS does, by the kernel module or by 'kvs mount': the rows that a user of
# files sees. POSIX sh and busybox suffice, with python3 for the second half of row K7.
#
#	sh suite.sh MOUNTPOINT		prints TAP; the exit code is 1 if something failed
#
# The mount is empty, writable, with write=set and without strip_nl, and who runs this is root. It is
# left empty. Variables:
#
#	KVFS_INCREMENTS=N	of each key by each writer in row K12; default 1000
#	KVFS_FUSE=1		the mount is one of 'kvs mount'. It differs from the kernel's in these:
#				- statfs(2) gives the magic of FUSE, 65735546
#				- the position of a file moves with each write as the kernel counts it; reads take
#				  that back, so that row K7 holds, but lseek(2) tells it
#				- a write longer than 1 MiB arrives in pieces and still is one SET; an append
#				  that long is not atomic
#				- mmap(2) with MAP_PRIVATE works
#				- sendfile(2) and splice(2) from a file, so cat of busybox, go through the kernel's
#				  cache: what the file held when it was opened

LC_ALL=C
export LC_ALL
M=${1:?suite.sh MOUNTPOINT}
T=${TMPDIR:-/tmp}/kvfs-suite.$$
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

# check TEXT COMMAND...: gives 0
check() {
	text=$1
	shift
	if "$@" > "$T/out" 2>&1; then
		ok "$text"
	else
		not_ok "$text" "$*" "$(head -n 20 "$T/out")"
	fi
}

# fails TEXT ERROR COMMAND...: does not give 0, and its message has ERROR
fails() {
	text=$1
	error=$2
	shift 2
	if "$@" > "$T/out" 2>&1; then
		not_ok "$text" "worked: $*" "$(head -n 20 "$T/out")"
	elif grep -q "$error" "$T/out"; then
		ok "$text"
	else
		not_ok "$text" "wanted: $error" "$(head -n 20 "$T/out")"
	fi
}

# is TEXT GOT WANT
is() {
	if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got:  '$2'" "want: '$3'"; fi
}

# put FILE FORMAT: one write, of what printf makes of it.
# shellcheck disable=SC2059 # a format is what is meant
put() {
	printf -- "$2" > "$1"
}

# command_ CONTROL FORMAT: the same through dd, which says what errno it got.
# shellcheck disable=SC2059
command_() {
	printf -- "$2" > "$T/command" && dd if="$T/command" of="$M/$1" bs=1M conv=notrunc
}

# copy FROM TO: one write(2), whatever the size.
copy() {
	dd if="$1" of="$2" bs="$(wc -c < "$1")" count=1 2> /dev/null
}

# value FILE: its bytes, as text that shows the end.
value() {
	cat "$1" && echo .
}

controls='_dec _del _inc _mk'
is 'the mount is empty but for the control files (row K2)' "$(cd "$M" && echo *)" "$controls"

# ---- rows K2 K3: control files, keys are files ---------------------------------------------------------

for c in $controls; do
	is "K2 $c can be written only" "$(stat -c '%a %s %F' "$M/$c" | sed 's/ empty//')" '220 0 regular file'
	fails "K2 reading $c is ENXIO" 'No such device or address' cat "$M/$c"
	fails "K2 $c cannot be deleted" 'not permitted' rm -f "$M/$c"
	fails "K2 $c cannot be renamed" 'not permitted' mv "$M/$c" "$M/other"
done
check 'K2 _mk' put "$M/_mk" first
is 'K3 ls lists the key' "$(cd "$M" && echo [a-z]*)" first
is 'K3 a new key is an empty regular file' "$(stat -c '%s %F' "$M/first")" '0 regular empty file'
is 'K3 and reads as such' "$(value "$M/first")" .
fails 'K2 _mk of a key that is there: EEXIST' 'File exists' command_ _mk first
check 'K3 echo > file makes a key' put "$M/second" value
check 'K3 touch makes a key' touch "$M/third"
is 'K3 ls lists all, in order' "$(cd "$M" && echo *)" "$controls first second third"
check 'K2 _del' put "$M/_del" first
fails 'K3 a deleted key is gone' 'No such file' cat "$M/first"
fails 'K2 _del of a missing key: ENOENT' 'No such file' command_ _del first
fails 'K2 _inc of a missing key: ENOENT' 'No such file' command_ _inc first
fails 'K2 _dec of a missing key: ENOENT' 'No such file' command_ _dec first
exec 4> "$M/_mk"
for key in one two; do
	printf %s $key >&4
	is "K2 a control file kept open: $key" $? 0
done
exec 4>&-
is 'K2 each write was one command' "$(cd "$M" && echo [a-s]* two)" 'one second two'
check 'K2 a newline is part of the key' put "$M/_mk" 'line\n'
check 'K2 and of its name' test -f "$M/line
"
check 'K3 rm deletes keys' rm "$M/one" "$M/two" "$M/second" "$M/third" "$M/line
"
is 'K3 all are gone' "$(cd "$M" && echo *)" "$controls"

# ---- row K4: a write is a SET ----------------------------------------------------------------------------

put "$M/k" 'a long first value'
put "$M/k" 'xy'
is 'K4 a write sets the whole value' "$(value "$M/k")" xy.
printf abc > "$T/abc"
check 'K4 a write at an offset' dd if="$T/abc" of="$M/k" bs=3 seek=5 conv=notrunc
is 'K4 the offset is ignored' "$(value "$M/k")" abc.
{
	printf 'first write'
	printf 'second'
} > "$M/k"
is 'K4 the last of two writes through one file stays' "$(value "$M/k")" second.
put "$M/k" abc
printf def >> "$M/k"
is 'K4 >> appends' "$(value "$M/k")" abcdef.
exec 4> "$M/k"
is 'K4 > empties nothing before the first write' "$(value "$M/k")" abcdef.
printf new >&4
is 'K4 which replaces the value' "$(value "$M/k")" new.
exec 4>&-
is 'K4 for good' "$(value "$M/k")" new.
: > "$M/k"
is 'K4 : > file empties' "$(value "$M/k")" .
put "$M/k" abcdef
check 'truncate to less' truncate -s 3 "$M/k"
is 'cuts' "$(value "$M/k")" abc.
check 'truncate to more' truncate -s 5 "$M/k"
printf 'abc\000\000' > "$T/want"
check 'adds zeros' cmp "$T/want" "$M/k"

# ---- row K5: reads honour offset and end -----------------------------------------------------------------

put "$M/k" 0123456789
is 'K5 a read at an offset' "$(dd if="$M/k" bs=1 skip=7 count=2 2> /dev/null)" 78
is 'K5 a read over the end' "$(dd if="$M/k" bs=4 skip=2 2> /dev/null)" 89
is 'K5 a read behind the end' "$(dd if="$M/k" bs=10 skip=3 2> /dev/null)" ''
is 'K5 in small pieces' "$(dd if="$M/k" bs=3 2> /dev/null)" 0123456789
is 'K5 the size' "$(stat -c %s "$M/k")" 10

# ---- row K6: numbers -------------------------------------------------------------------------------------

# number VALUE AFTER-INC AFTER-DEC
number() {
	put "$M/k" "$1" && put "$M/_inc" k
	is "K6 $1, incremented" "$(cat "$M/k")" "$2"
	put "$M/k" "$1" && put "$M/_dec" k
	is "K6 $1, decremented" "$(cat "$M/k")" "$3"
}
number 0 1 -1
number 42 43 41
number +7 8 6
number -1 0 -2
number 017 16 14
number 0x2a 43 41
number -0x10 -15 -17
number 0b101 6 4
put "$M/k" 9223372036854775807
fails 'K6 _inc of the largest: ERANGE' 'out of range' command_ _inc k
is 'K6 and it stays' "$(cat "$M/k")" 9223372036854775807
put "$M/k" -9223372036854775808
fails 'K6 _dec of the smallest: ERANGE' 'out of range' command_ _dec k
for bad in word 12x 0x 0b2 089 '1 2' ''; do
	put "$M/k" "$bad"
	fails "K6 '$bad' is no number: EINVAL" 'Invalid argument' command_ _inc k
	is "K6 '$bad' stays" "$(cat "$M/k")" "$bad"
done
rm "$M/k"

# ---- row K7: the examples of the document, as they are there -----------------------------------------------

# shellcheck disable=SC2086,SC3037 # as the document has it
got=$(echo -n my_key > $M/_mk; echo -n "Hello, world!" > $M/my_key; cat $M/my_key; echo -n my_key > $M/_del)
is 'K7 the first example' "$got" 'Hello, world!'
check 'K7 and its key is gone' test ! -e "$M/my_key"
cat > "$T/k7.py" << 'PY'
import sys
M = sys.argv[1]
mkf = open(M+"/_mk","wb",buffering=0); incf = open(M+"/_inc","wb",buffering=0)
mkf.write(b"newkey"); k1 = open(M+"/newkey","r+b",buffering=0)
k1.write(b"324"); print(k1.read())    # b'324': a SET does not move the position
incf.write(b"newkey"); print(k1.read())  # b'325': a change after the last read is readable again from the start
PY
if command -v python3 > /dev/null; then
	is 'K7 the second example' "$(timeout 60 python3 "$T/k7.py" "$M" 2>&1 | xargs)" "b324 b325"
else
	not_ok 'K7 the second example' 'there is no python3'
fi
rm -f "$M/newkey"
put "$M/k" 1
exec 4< "$M/k"
is 'K7 a file kept open' "$(dd bs=64k <&4 2> /dev/null)" 1
is 'K7 has nothing more while nothing changes' "$(dd bs=64k <&4 2> /dev/null)" ''
put "$M/_inc" k
is 'K7 and is readable again after a change' "$(dd bs=64k <&4 2> /dev/null)" 2
put "$M/k" 'longer than before'
is 'K7 also after another SET' "$(dd bs=64k <&4 2> /dev/null)" 'longer than before'

# ---- deleted while open ------------------------------------------------------------------------------------

rm "$M/k"
fails 'a file whose key is deleted: ESTALE' 'Stale' dd bs=64k <&4
put "$M/k" again
fails 'also when the key was made again' 'Stale' dd bs=64k <&4
exec 4<&-
is 'which is another file' "$(cat "$M/k")" again
rm "$M/k"

# ---- row K8: owner and mode --------------------------------------------------------------------------------

put "$M/k" 1
is 'K8 key files have mode 0660' "$(stat -c %a "$M/k")" 660
is 'K8 keys inherit owner and group' "$(stat -c '%u %g' "$M/k")" "$(stat -c '%u %g' "$M")"
fails 'K8 chmod: EPERM' 'not permitted' chmod 600 "$M/k"
fails 'K8 chown: EPERM' 'not permitted' chown 12345 "$M/k"
check 'K8 chmod to what it is' chmod 660 "$M/k"
check 'touch' touch "$M/k"
fails 'no hard links' 'not permitted' ln "$M/k" "$M/l"
fails 'no symbolic links' 'not permitted' ln -s k "$M/l"
fails 'no other kinds of files' 'not permitted' mkfifo "$M/l"
rm "$M/k"

# ---- row K9: names, long keys, long values -----------------------------------------------------------------

# escaped KEY-FORMAT NAME
escaped() {
	check "K9 key '$1'" put "$M/_mk" "$1"
	check "K9 is the file $2" test -f "$M/$2"
	is 'K9 and listed so' "$(cd "$M" && for f in * .[!.]*; do [ "$f" != "$2" ] || echo "$f"; done)" "$2"
	put "$M/$2" 7
	check 'K9 _inc finds it' put "$M/_inc" "$1"
	is 'K9 its value' "$(cat "$M/$2")" 8
	check 'K9 _del finds it' put "$M/_del" "$1"
	check 'K9 and it is gone' test ! -e "$M/$2"
	check "K9 the file $2 can be made" put "$M/$2" 1
	check 'K9 and is the same key' put "$M/_del" "$1"
}
escaped 'a/b' 'a%2Fb'
escaped 'x\000y' 'x%00y'
escaped . %2E
escaped .. %2E.
escaped _mk %5Fmk
escaped _inc %5Finc
escaped '100%%' '100%25'
escaped 'sp ace' 'sp ace'
escaped '\303\274' "$(printf '\303\274')"
escaped .hidden .hidden
for name in %41 %2f %zz % %5Fother; do
	fails "K9 $name is no name of a key" 'No such file' cat "$M/$name"
	fails "K9 and cannot be made" 'Invalid argument' dd if="$T/abc" of="$M/$name"
done

long=$(printf '%0300d' 0)
check 'K9 a key of 300 bytes' put "$M/_mk" "${long}a"
check 'K9 another, different in its last byte' put "$M/_mk" "${long}b"
is 'K9 they have names of their own' "$(cd "$M" && for f in 0*%~*; do echo "$f"; done | wc -l | xargs)" 2
n=1
for f in "$M"/0*; do
	put "$f" "$n"
	n=$((n + 1))
done
put "$M/_inc" "${long}a"
put "$M/_inc" "${long}b"
is 'K9 and values of their own' "$(cat "$M"/0* | fold -w 1 | sort | xargs)" '2 3'
check 'K9 a long key can be deleted by its name' rm "$M"/0*
is 'K9 both are gone' "$(cd "$M" && echo *)" "$controls"
head -c 100000 /dev/zero | tr '\0' k > "$T/long"
fails 'K9 a key that is too long: ENAMETOOLONG' 'name too long' dd if="$T/long" of="$M/_mk" bs=100000 conv=notrunc
fails 'K9 a name of 256 bytes: ENAMETOOLONG' 'name too long' cat "$M/$(printf '%0256d' 0)"
is 'K9 nothing was made of it' "$(cd "$M" && echo *)" "$controls"

# ---- rows K9 K10: values ------------------------------------------------------------------------------------

for size in 1 4 63 64 65 900 1024 3000; do
	head -c $((size * 1024 - 1)) /dev/urandom > "$T/value"
	copy "$T/value" "$M/k"
	check "K10 ${size} KiB of any bytes, one SET" cmp "$T/value" "$M/k"
	is 'K9 its size' "$(stat -c %s "$M/k")" $((size * 1024 - 1))
done
# shellcheck disable=SC2016
check 'K10 at an offset' sh -c 'dd if="$1" bs=1000 skip=1500 count=3 2> /dev/null > "$3/a" &&
	dd if="$2" bs=1000 skip=1500 count=3 2> /dev/null > "$3/b" && cmp "$3/a" "$3/b"' sh "$T/value" "$M/k" "$T"
cat "$T/value" "$T/abc" > "$T/want"
cat "$T/abc" >> "$M/k"
check 'K9 appending to a long value' cmp "$T/want" "$M/k"
put "$M/k" short
is 'K9 a short one after a long one' "$(value "$M/k")" short.
rm "$M/k"

# ---- row K12: races -----------------------------------------------------------------------------------------

# both FUNCTION: twice at once, with 1 and 2; waits.
both() {
	"$1" 1 > "$T/both.1" 2>&1 &
	first=$!
	"$1" 2 > "$T/both.2" 2>&1
	wait $first
}

make_all() {
	i=0
	while [ $i -lt 200 ]; do
		i=$((i + 1))
		! put "$M/_mk" "race$i" 2> /dev/null || echo made
	done
}
both make_all
is 'K12 create/create: each key is made once' "$(cat "$T"/both.? | grep -c made)" 200

delete_all() {
	i=0
	while [ $i -lt 200 ]; do
		i=$((i + 1))
		! put "$M/_del" "race$i" 2> /dev/null || echo deleted
	done
}
both delete_all
is 'K12 delete/delete: each key is deleted once' "$(cat "$T"/both.? | grep -c deleted)" 200
is 'K12 and all are gone' "$(cd "$M" && echo *)" "$controls"

put "$M/k" 'the value'
read_all() {
	i=0
	while [ $i -lt 200 ]; do
		i=$((i + 1))
		[ "$(cat "$M/k")" = 'the value' ] || echo wrong
	done
}
both read_all
is 'K12 access/access: both read it' "$(cat "$T"/both.?)" ''

delete_and_read() {
	i=0
	while [ $i -lt 200 ]; do
		i=$((i + 1))
		if [ "$1" = 1 ]; then
			put "$M/_del" k
			put "$M/k" 'the value'
		else
			# one read sees one version, and a new key is empty until its first write; at the end of a
			# value that has changed since, reading goes on with the next version (row K7)
			got=$(dd if="$M/k" bs=64k count=1 2> /dev/null)
			case $got in '' | 'the value') ;; *) echo "wrong: $got" ;; esac
		fi
	done
}
both delete_and_read
is 'K12 delete/access: a value or none, never a part' "$(cat "$T"/both.?)" ''
rm -f "$M/k"

increments=${KVFS_INCREMENTS:-1000}
for k in 0 1 2 3 4 5 6 7 8 9; do
	put "$M/n$k" 0
done
increment_all() {
	exec 5> "$M/_inc"
	i=0
	while [ $i -lt "$increments" ]; do
		i=$((i + 1))
		for k in 0 1 2 3 4 5 6 7 8 9; do
			printf %s "n$k" >&5 || echo failed
		done
	done
	exec 5>&-
}
both increment_all
for k in 0 1 2 3 4 5 6 7 8 9; do
	is "K12 two writers, $increments increments of ten keys: n$k" "$(cat "$M/n$k")" $((2 * increments))
done
is 'K12 all of them worked' "$(cat "$T"/both.?)" ''
rm "$M"/n?

# ---- row K13: statfs ------------------------------------------------------------------------------------------

magic=4b564653
[ -z "$KVFS_FUSE" ] || magic=65735546
is 'K13 the magic of statfs' "$(stat -f -c %t "$M")" $magic
is 'K13 block, longest name' "$(stat -f -c '%S %l' "$M")" '4096 255'
before=$(stat -f -c %c "$M")
put "$M/k" 1
is 'K13 statfs counts keys' "$(($(stat -f -c %c "$M") - before))" 1
check 'K13 there is room' test "$(stat -f -c %a "$M")" -gt 0
check 'K13 but not more than there is' test "$(stat -f -c %f "$M")" -le "$(stat -f -c %b "$M")"
check 'df' df "$M"

# ---- row K15: copy and rename -----------------------------------------------------------------------------------

put "$M/k" one
check 'K15 cp' cp "$M/k" "$M/copy"
is 'K15 copies' "$(cat "$M/copy")" one
check 'K15 mv' mv "$M/k" "$M/moved"
check 'K15 the old name is gone' test ! -e "$M/k"
is 'K15 the value came along' "$(cat "$M/moved")" one
put "$M/other" two
exec 4< "$M/other"
check 'K15 mv over a key' mv "$M/moved" "$M/other"
is 'K15 replaces it' "$(cat "$M/other")" one
fails 'K15 what was replaced is stale' 'Stale' dd bs=64k <&4
exec 4<&-
exec 4< "$M/other"
check 'K15 mv of an open file' mv "$M/other" "$M/a%2Fb"
is 'K15 which stays open' "$(dd bs=64k <&4 2> /dev/null)" one
exec 4<&-
check 'K15 it has its new key' put "$M/_del" 'a/b'
fails 'K15 mv to no name of a key: EINVAL' 'Invalid argument\|subdirectory of itself' mv "$M/copy" "$M/%41"
fails 'K15 mv to a control file' 'not permitted' mv -f "$M/copy" "$M/_mk"
check 'K15 copy is still there' rm "$M/copy"

# ---- trees ------------------------------------------------------------------------------------------------------

check 'mkdir makes a tree' mkdir "$M/tree"
is 'with control files of its own' "$(cd "$M/tree" && echo *)" "$controls"
put "$M/tree/_mk" inside
put "$M/tree/inside" 5
put "$M/tree/_inc" inside
is 'a key in a tree' "$(cat "$M/tree/inside")" 6
check 'is not in the root' test ! -e "$M/inside"
fails 'mkdir of what is there' 'File exists' mkdir "$M/tree"
fails 'no trees in trees' 'not permitted' mkdir "$M/tree/tree"
fails 'rmdir of a tree with keys' 'not empty' rmdir "$M/tree"
check 'mv out of a tree' mv "$M/tree/inside" "$M/outside"
is 'keeps the value' "$(cat "$M/outside")" 6
check 'mv into a tree' mv "$M/outside" "$M/tree/inside"
check 'rm in a tree' rm "$M/tree/inside"
check 'rmdir' rmdir "$M/tree"
check 'the tree is gone' test ! -e "$M/tree"

# ---- readdir ----------------------------------------------------------------------------------------------------

exec 5> "$M/_mk"
i=10000
while [ $i -lt 15000 ]; do
	printf %s "s$i" >&5
	i=$((i + 1))
done
exec 5>&-
find "$M" -name 's*' > "$T/listed"
is '5000 keys are listed' "$(wc -l < "$T/listed" | xargs)" 5000
is 'each once' "$(sort -u "$T/listed" | wc -l | xargs)" 5000
check 'in order' sort -c "$T/listed"
(cd "$M" && find . -name 's*' -exec rm {} +)
is 'and deleted while they are listed' "$(cd "$M" && echo *)" "$controls"

# ---- row H9: durability when asked for ---------------------------------------------------------------------------

check 'H9 fsync of a key' dd if="$T/abc" of="$M/k" conv=fsync
is 'H9 its value' "$(value "$M/k")" abc.
check 'H9 sync' sync
rm "$M/k"

echo "1..$count"
[ $failed -eq 0 ]
