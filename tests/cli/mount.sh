#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# mount.sh - kvs mount: tests/kmod/suite.sh on a FUSE mount (rows K2 to K10, K12, K13, K15), and what
# belongs to FUSE, to the command, and to the life of a mount: rows K1 K8 K9 S16 Y7 Y9 H9 H17.
# Needs /dev/fuse and root, or a user namespace.

set -euo pipefail
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

if [ "$(id -u)" -ne 0 ] && [ -z "${KV_IN_NAMESPACE:-}" ] && unshare -rm true 2> /dev/null; then
	rm -rf "$tmp"
	KV_IN_NAMESPACE=1 exec unshare -rm bash "$0" "$@"
fi

loop=
pids=()
# shellcheck disable=SC2317 # called by tap.sh
tap_cleanup() {
	local dir
	for dir in "$tmp"/m*; do
		[ -d "$dir" ] || mountpoint -q "$dir" || continue
		fusermount3 -u -z -q "$dir" 2> /dev/null || true
	done
	for dir in "${pids[@]}"; do kill -9 "$dir" 2> /dev/null || true; done
	[ -z "$loop" ] || losetup -d "$loop" || true
}

m=$tmp/m
mkdir "$m" "$tmp/m2"

# server IMAGE: number of the process that serves it.
server() {
	pgrep -f -- "^kvs mount $1 " || true
}

# start IMAGE DIR OPTION...: mounts, and remembers the server.
# shellcheck disable=SC2317 # called by check
start() {
	local status=0
	timeout 60 kvs mount "$@" > "$tmp/start.out" 2>&1 < /dev/null || status=$?
	cat "$tmp/start.out"
	[ "$status" -ne 0 ] || pids+=("$(server "$1")")
	return "$status"
}

# gone PID: waits until that process has ended.
gone() {
	local i
	for ((i = 0; i < 300; i++)); do
		kill -0 "$1" 2> /dev/null || return 0
		sleep 0.1
	done
	echo "process $1 is still there"
	return 1
}

# stop IMAGE DIR: unmounts; the image is free when it returns.
stop() {
	local pid
	pid=$(server "$1")
	fusermount3 -u "$2" && gone "$pid"
}

# shellcheck disable=SC2317 # called by check
unmounted() {
	! mountpoint -q "$1"
}

# refuse TEXT CODE REGEX ARGUMENT...: kvs mount gives CODE and a message of one line.
refuse() {
	local text=$1 want=$2 regex=$3 status=0
	shift 3
	timeout 60 kvs mount "$@" > "$tmp/out" 2>&1 < /dev/null || status=$?
	is "$text gives $want" "$status" "$want"
	like "$text: message" "$(cat "$tmp/out")" "^kvs: [^"$'\n'"]*($regex)"
}

a=$tmp/a.kv
b=$tmp/b.kv
kvs create "$a"
kvs create "$b"

# ---- the command ---------------------------------------------------------------------------------------

echo 'something else' > "$tmp/foreign"
head -c 100000 /dev/urandom >> "$tmp/foreign"
refuse 'a missing image' 5 "kvs create" "$tmp/none.kv" "$m"
refuse 'a foreign file' 5 'foreign' "$tmp/foreign" "$m"
refuse 'a missing directory' 2 'mkdir' "$a" "$tmp/nodir"
refuse 'a file as the directory' 2 'not a directory' "$a" "$tmp/foreign"
for bad in frob uid gid=-1 gid=nosuchgroup uid=nosuchuser fmode=999 dmode=1777 write=both cache=x durability=none; do
	refuse "-o $bad" 2 'kvs mount --help' "$a" "$m" -o "$bad"
done
check 'nothing is mounted after an error' unmounted "$m"
check 'nothing runs after an error' test -z "$(server "$a")"

# ---- what files do -------------------------------------------------------------------------------------

if [ ! -e /dev/fuse ]; then
	skip 'kvs mount' 'no /dev/fuse'
	finish
fi
check 'mount' start "$a" "$m"
is 'is silent' "$(cat "$tmp/start.out")" ''
like 'and listed' "$(grep " $m " /proc/mounts)" "^$a $m fuse.kvfs rw,"
KVFS_FUSE=1 timeout 300 sh "$srcdir/tests/kmod/suite.sh" "$m" > "$tmp/suite" 2>&1 < /dev/null || true
plan=0
while IFS= read -r line; do
	case $line in
	'ok '*) ok "suite: ${line#* - }" ;;
	'not ok '*) not_ok "suite: ${line#* - }" ;;
	1..*) plan=${line#1..} ;;
	*) diag "$line" ;;
	esac
done < "$tmp/suite"
is 'suite.sh came to its end' "$(grep -acE '^(not )?ok ' "$tmp/suite")" "$plan"

# ---- rows K1, Y9, H17: several mounts, busy images, everything is there afterwards -------------------------

check 'K1 a second volume is mounted' start "$b" "$tmp/m2"
echo -n one > "$m/key"
echo -n two > "$tmp/m2/key"
is 'K1 the first has its key' "$(cat "$m/key")" one
is 'K1 the second has its own' "$(cat "$tmp/m2/key")" two
refuse 'mounting an image that is mounted' 6 "$a: .*open" "$a" "$tmp/m2"
check 'kvs get of a mounted image gives 6' expect 6 kvs get "$a" key
mkdir "$m/tree"
echo -n 'in a tree' > "$m/tree/a%2Fb"
head -c 200000 /dev/urandom > "$tmp/large"
dd if="$tmp/large" of="$m/large" bs=200000 2> /dev/null
check 'H17 fusermount3 -u' stop "$a" "$m"
is 'Y9 kvs get finds the key' "$(kvs get "$a" key)" one
is 'Y9 and that of a tree' "$(kvs get "$a" -t tree a/b)" 'in a tree'
is 'Y9 nothing else' "$(kvs scan "$a" --keys | xargs)" 'key large'
is 'H17 nothing was left to replay' "$(kvs stat "$a" -o json | jq .clean)" true
is 'kvs check' "$(kvs check "$a" 2>&1)" clean
check 'Y9 mount again' start "$a" "$m"
is 'Y9 all files are there' "$(cd "$m" && echo [a-z]* tree/[a-z]*)" 'key large tree tree/a%2Fb'
is 'Y9 with their values' "$(cat "$m/key" "$m/tree/a%2Fb")" 'onein a tree'
same 'Y9 also the large one' "$tmp/large" "$m/large"
check 'umount' umount "$m"
check 'ends the server' gone "${pids[-1]}"
check 'K1 the other mount is still there' test -f "$tmp/m2/key"
check 'and ends by itself' stop "$b" "$tmp/m2"

# ---- row H17: signals; --foreground ------------------------------------------------------------------------

for signal in TERM INT; do
	# a shell starts background jobs with SIGINT ignored
	env --default-signal=INT kvs mount "$a" "$m" --foreground > "$tmp/out" 2>&1 < /dev/null &
	pid=$!
	pids+=("$pid")
	for ((i = 0; i < 100; i++)); do
		mountpoint -q "$m" && break
		sleep 0.1
	done
	echo -n "before $signal" > "$m/key"
	exec 7> "$m/open"
	echo -n 'still open' >&7
	kill "-$signal" "$pid"
	status=0
	wait "$pid" || status=$?
	exec 7>&- || true
	is "--foreground, SIG$signal: exit code" "$status" 0
	is "SIG$signal: no message" "$(cat "$tmp/out")" ''
	check "SIG$signal: unmounted" unmounted "$m"
	is "H17 SIG$signal: what was written is there" "$(kvs get "$a" key)" "before $signal"
	is "H17 SIG$signal: also what was still open" "$(kvs get "$a" open)" 'still open'
done

# ---- kill -9: what was acknowledged is there ---------------------------------------------------------------

# killed OPTIONS TEXT: writes keys from two processes, kills the server, and compares.
killed() {
	local pid i writer
	check "$2: mount" start "$a" "$m" -o "$1"
	pid=$(server "$a")
	(
		set +e
		for ((i = 0; i < 100000; i++)); do
			echo -n "value $i" 2> /dev/null > "$m/killed$((i % 50))" && echo $i > "$tmp/acked"
			[ -f "$m/key" ] || break
		done
	) 2> /dev/null &
	writer=$!
	sleep 1
	kill -9 "$pid"
	wait "$writer" || true
	gone "$pid"
	check "$2: fusermount3 -u of the dead mount" fusermount3 -u "$m"
	i=$(cat "$tmp/acked")
	like "$2: the last one of $i that were acknowledged is there" "$(kvs get "$a" "killed$((i % 50))")" \
		"^value ($i|$((i + 50)))?$"
	is "$2: the one before" "$(kvs get "$a" "killed$(((i - 1) % 50))")" "value $((i - 1))"
	is "$2: check" "$(kvs check "$a" 2>&1)" clean
	kvs del "$a" --prefix killed
}
killed durability=kill-safe 'H9 kill -9'
killed durability=synced 'H9 kill -9, synced'

check 'H9 durability=memory' start "$a" "$m" -o durability=memory
echo -n synced > "$tmp/synced"
check 'H9 fsync' dd if="$tmp/synced" of="$m/synced" conv=fsync
kill -9 "${pids[-1]}"
gone "${pids[-1]}"
fusermount3 -u "$m"
is 'H9 fsync makes it survive' "$(kvs get "$a" synced)" synced
is 'H9 check' "$(kvs check "$a" 2>&1)" clean

# ---- rows K8, and other options ----------------------------------------------------------------------------

check 'K8 gid=, uid=, fmode=, dmode=' start "$a" "$m" -o uid=12,gid=1234,fmode=0640,dmode=0750
echo -n 1 > "$m/owned"
is 'K8 a key' "$(stat -c '%u %g %a' "$m/owned")" '12 1234 640'
is 'K8 the root' "$(stat -c '%u %g %a' "$m")" '12 1234 750'
is 'K8 a control file' "$(stat -c '%u %g %a' "$m/_mk")" '12 1234 200'
stop "$a" "$m"
check 'K8 a bare number is the group' start "$a" "$m" -o 4321
is 'K8 and the modes are 0660 and 0775' "$(stat -c '%u %g %a' "$m/owned" "$m" | xargs)" \
	"$(id -u) 4321 660 $(id -u) 4321 775"
stop "$a" "$m"
check 'K8 a group by its name' start "$a" "$m" -o gid=root
is 'K8 is that' "$(stat -c %G "$m/owned")" root
stop "$a" "$m"

check '-o ro' start "$a" "$m" -o ro
is '-o ro: reading' "$(cat "$m/owned")" 1
check '-o ro: writing is an error' expect 1 cp "$tmp/synced" "$m/owned"
like '-o ro: EROFS' "$(cat "$tmp/tap.out")" 'Read-only'
# shellcheck disable=SC2016
check '-o ro: so are commands' expect 1 bash -c 'echo -n owned > "$1/_del"' bash "$m"
stop "$a" "$m"

check '-o strip_nl' start "$a" "$m" -o strip_nl,cache=8M,allow_other
echo line > "$m/_mk"
check '-o strip_nl: the key is without the newline' test -f "$m/line"
echo line > "$m/_del"
check '-o strip_nl: also for others' test ! -e "$m/line"
stop "$a" "$m"

# ---- rows K4 S16 Y8: long values ---------------------------------------------------------------------------

check 'mount' start "$a" "$m"
cat > "$tmp/atomic.py" <<'PY'
# Long writes are one SET each: readers see whole values only, and never wait for a writer (row S16).
import os, sys, threading
path = sys.argv[1]
sizes = {b"A": 3 << 20, b"B": 1044481 * 2, b"C": (1 << 20) + 1, b"D": 1044481}
def put(letter):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    assert os.write(fd, letter * sizes[letter]) == sizes[letter]
    os.close(fd)
put(b"A")
stop = False
seen, errors = set(), []
def read():
    while not stop:
        fd = os.open(path, os.O_RDONLY)
        data = os.read(fd, 4 << 20)
        os.close(fd)
        letter = data[:1]
        if sizes.get(letter) != len(data) or data.count(letter) != len(data):
            errors.append((letter, len(data)))
            return
        seen.add(letter)
readers = [threading.Thread(target=read) for i in range(2)]
for t in readers:
    t.start()
for i in range(15):
    for letter in sizes:
        put(letter)
stop = True
for t in readers:
    t.join()
assert not errors, errors
# a write and reads through one file; a short write sets it again
fd = os.open(path, os.O_RDWR)
for letter in sizes:
    assert os.write(fd, letter * sizes[letter]) == sizes[letter]
    data = b""
    while piece := os.read(fd, 1 << 20):
        data += piece
    assert data == letter * sizes[letter], (letter, len(data))
    assert os.write(fd, b"short") == 5 and os.read(fd, 100) == b"short", letter
os.close(fd)
PY
check 'S16 long SETs are atomic to readers' timeout 120 python3 "$tmp/atomic.py" "$m/long"
is 'the last one is there' "$(cat "$m/long")" short
cat > "$tmp/scan.py" <<'PY'
# Row K3: 5,000 keys, complete and each once, also while others come and go.
import os, sys
root = sys.argv[1]
mk = open(root + "/_mk", "wb", buffering=0)
want = ["key%05d" % i for i in range(5000)]
for name in want:
    mk.write(name.encode())
got = []
with os.scandir(root) as entries:
    for i, e in enumerate(entries):
        if e.name.startswith("key0"):
            got.append(e.name)
            assert e.is_file() and e.inode() == e.stat().st_ino
        if i % 500 == 0:
            open(root + "/other%d" % i, "w").close()
            os.unlink(root + "/other%d" % i)
assert got == want, (len(got), len(set(got)))
for name in want:
    os.unlink(root + "/" + name)
PY
check 'K3 5000 keys through scandir' timeout 120 python3 "$tmp/scan.py" "$m"
cat > "$tmp/stress.py" <<'PY'
# Row K12: everything at once on a few keys, from several processes.
import errno, os, random, sys, time
root, seconds = sys.argv[1], float(sys.argv[2])
def names(r):
    return root + "/t%d" % r.randrange(6)
def work(seed):
    r = random.Random(seed)
    end = time.time() + seconds
    delete = os.open(root + "/_del", os.O_WRONLY)
    while time.time() < end:
        op = r.randrange(8)
        try:
            if op < 2:
                fd = os.open(names(r), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
                try:
                    os.write(fd, b"value!")
                finally:
                    os.close(fd)
            elif op == 2:
                os.unlink(names(r))
            elif op == 3:
                os.rename(names(r), names(r))
            elif op == 4:
                os.write(delete, os.path.basename(names(r)).encode())
            elif op == 5:
                os.listdir(root)
            elif op == 6:
                fd = os.open(names(r), os.O_WRONLY | os.O_APPEND)
                try:
                    os.write(fd, b"value!")
                finally:
                    os.close(fd)
            else:
                fd = os.open(names(r), os.O_RDONLY)
                try:
                    data = os.read(fd, 100000)
                finally:
                    os.close(fd)
                assert data == b"value!" * (len(data) // 6), data
        except OSError as e:
            assert e.errno in (errno.ENOENT, errno.ESTALE, errno.EBUSY), e
    os._exit(0)
children = []
for i in range(4):
    pid = os.fork()
    if not pid:
        try:
            work(i)
        except BaseException as e:
            print(repr(e), file=sys.stderr)
            os._exit(1)
    children.append(pid)
bad = sum(os.waitpid(pid, 0)[1] != 0 for pid in children)
assert not bad
PY
check 'K12 four processes: write, append, delete, rename, list, read' timeout 60 python3 "$tmp/stress.py" "$m" 3
check 'truncate -s' truncate -s 5000000 "$m/long"
is 'gives the size' "$(stat -c %s "$m/long")" 5000000
check 'no mv of a name to another kind' expect 1 mv "$m/tree" "$m/tree2"
stop "$a" "$m"

head -c 64M /dev/urandom > "$tmp/64M"
check '-o stream' start "$a" "$m" -o stream
check 'Y8 cp of 64 MiB' cp "$tmp/64M" "$m/64M"
same 'Y8 is the same' "$tmp/64M" "$m/64M"
check 'Y8 with dd, in small pieces' dd if="$tmp/64M" of="$m/small" bs=10000 count=300
check 'Y8 is the same' cmp "$m/small" <(head -c 3000000 "$tmp/64M")
check 'Y8 a write in the middle' dd if=/dev/zero of="$m/small" bs=1000 seek=2000 count=2 conv=notrunc
check 'Y8 changes these bytes only' cmp "$m/small" \
	<(head -c 2000000 "$tmp/64M" && head -c 2000 /dev/zero && head -c 3000000 "$tmp/64M" | tail -c +2002001)
check 'Y8 a value changes when the file is closed or synced' python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
value = lambda: open(sys.argv[1], "rb").read()
os.write(fd, b"one"); os.write(fd, b"two")
assert value() == b"", value()
os.fsync(fd)
assert value() == b"onetwo", value()
os.pwrite(fd, b"X", 1)
assert value() == b"onetwo" and os.pread(fd, 9, 0) == b"oXetwo" and value() == b"oXetwo"
os.lseek(fd, 0, os.SEEK_END)
os.write(fd, b"end")
os.close(fd)
assert value() == b"oXetwoend", value()' "$m/staged"
check 'cp of a file within the mount' cp "$m/small" "$m/copy"
same 'copies it' "$m/small" "$m/copy"
stop "$a" "$m"
check 'write=stream' start "$a" "$m" -o write=stream
same 'Y9 64 MiB after mounting again' "$tmp/64M" "$m/64M"
stop "$a" "$m"
is 'check' "$(kvs check "$a" 2>&1)" clean

# ---- no space ----------------------------------------------------------------------------------------------

kvs create "$tmp/capped.kv" --size 16M
check 'a volume with a limit' start "$tmp/capped.kv" "$m"
check 'df knows the limit' test "$(($(stat -f -c '%b * %S' "$m")))" -le 16777216
status=0
for ((i = 0; i < 100; i++)); do
	dd if="$tmp/64M" of="$m/fill$i" bs=500000 skip=$i count=1 2> "$tmp/err" || { status=1 && break; }
done
is 'runs full' "$status" 1
like 'with ENOSPC' "$(cat "$tmp/err")" 'No space left'
check 'after some values' test "$i" -gt 10
check 'which are there' cmp "$m/fill3" <(head -c 2000000 "$tmp/64M" | tail -c 500000)
check 'a long write fails too' expect 1 dd if="$tmp/64M" of="$m/fill1" bs=32M count=1 conv=notrunc
check 'and leaves the value' cmp "$m/fill1" <(head -c 1000000 "$tmp/64M" | tail -c 500000)
check 'so does one that was to replace it' expect 1 dd if="$tmp/64M" of="$m/fill1" bs=700000 count=1
check 'and leaves it, too' cmp "$m/fill1" <(head -c 1000000 "$tmp/64M" | tail -c 500000)
rm "$m"/fill?
check 'deleting makes room' dd if="$tmp/64M" of="$m/again" bs=500000 count=1
stop "$tmp/capped.kv" "$m"
is 'check of the full volume' "$(kvs check "$tmp/capped.kv" 2>&1)" clean

# ---- row Y7: a disk ----------------------------------------------------------------------------------------

truncate -s 32M "$tmp/disk"
if loop=$(losetup -f --show "$tmp/disk" 2> /dev/null); then
	kvs create "$loop"
	check 'Y7 a volume on a disk' start "$loop" "$m"
	echo -n 'on a disk' > "$m/key"
	is 'Y7 works' "$(cat "$m/key")" 'on a disk'
	check 'Y7 its room is that of the disk' test "$(($(stat -f -c '%b * %S' "$m")))" -le 33554432
	check 'Y7 unmount' stop "$loop" "$m"
	is 'Y7 it is there' "$(kvs get "$loop" key)" 'on a disk'
else
	skip 'Y7 a volume on a disk' 'no loop device'
fi

finish
