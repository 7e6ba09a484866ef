#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# files.sh - kvs against files that are no good volume (each kind its own message and status), a second
# opener, the end of --size, geometries, and kill -9 in the middle of a load.

set -euo pipefail
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

readers=('get k' 'exists k' scan count trees stat dump check)
writers=('put k v' 'del k' 'inc k')

# each TEXT CODE REGEX FILE VERB...: every verb gives that status and a message that matches, and the file
# stays as it is.
each() {
	local text=$1 code=$2 regex=$3 file=$4 before bad=0 words status
	shift 4
	before=$(b2sum < "$file")
	for verb in "$@"; do
		read -ra words <<< "$verb"
		status=0
		kvs "${words[0]}" "$file" "${words[@]:1}" > "$tmp/out" 2> "$tmp/err" < /dev/null || status=$?
		if [ "$status" -ne "$code" ] || ! grep -Eq "^kvs: $file: .*($regex)" "$tmp/err"; then
			diag "kvs $verb: status $status" "$(head -n 3 "$tmp/err")"
			bad=$((bad + 1))
		fi
	done
	[ "$before" = "$(b2sum < "$file")" ] || {
		diag "$file was changed"
		bad=$((bad + 1))
	}
	is "$text" "$bad" 0
}

good=$tmp/good.kv
python3 -c 'for i in range(3000): print("{\"key\":\"k%05d\",\"value\":\"%s\"}" % (i, "value %d " % i * (i % 100)))' \
	> "$tmp/good.ndjson"
kvs load "$good" "$tmp/good.ndjson" 2> /dev/null
kvs put "$good" k 1

# ---- not a volume: 5
for verb in "${readers[@]}" 'del k' 'inc k'; do
	read -ra words <<< "$verb"
	check "missing file: ${words[0]} gives 5" expect 5 kvs "${words[0]}" "$tmp/none.kv" "${words[@]:1}"
done
like 'missing file: the message' "$(cat "$tmp/tap.out")" "^kvs: $tmp/none.kv: no such file; 'kvs create"
check 'and none is made' test ! -e "$tmp/none.kv"
: > "$tmp/empty.kv"
each 'empty file' 5 'empty' "$tmp/empty.kv" "${readers[@]}" 'del k'
cp "$srcdir/cli/kvs.c" "$tmp/text.kv"
each 'foreign text file' 5 'not a kvs volume' "$tmp/text.kv" "${readers[@]}" "${writers[@]}"
each 'and create refuses' 5 '--force overwrites' "$tmp/text.kv" create
cp /bin/ls "$tmp/elf.kv"
each 'foreign binary' 5 'not a kvs volume' "$tmp/elf.kv" "${readers[@]}" "${writers[@]}"
each 'and create refuses' 5 '--force overwrites' "$tmp/elf.kv" create
head -c 4000000 /dev/urandom > "$tmp/random.kv"
each 'random bytes' 5 'not a kvs volume' "$tmp/random.kv" "${readers[@]}" "${writers[@]}"
each 'and create refuses' 5 '--force overwrites' "$tmp/random.kv" create
printf x > "$tmp/byte.kv"
each 'one byte' 5 'not a kvs volume' "$tmp/byte.kv" "${readers[@]}" "${writers[@]}"
each 'and create refuses' 5 '--force overwrites' "$tmp/byte.kv" create
python3 -c 'import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute("create table t(x)"); d.commit()' "$tmp/sqlite.kv"
each 'a database of another kind' 5 'not a kvs volume' "$tmp/sqlite.kv" "${readers[@]}" "${writers[@]}"
each 'and create refuses' 5 '--force overwrites' "$tmp/sqlite.kv" create
check 'create --force overwrites it' kvs create "$tmp/sqlite.kv" --force
is 'and it is a volume then' "$(kvs check "$tmp/sqlite.kv")" clean
check 'a directory gives 2' expect 2 kvs get "$tmp" k
check 'create in a missing directory gives 3' expect 3 kvs create "$tmp/no/such.kv"
each 'create over a volume' 1 '--force overwrites' "$good" create

# ---- made by a newer version: 5, its own message. The superblock is patched and sealed again.
cat > "$tmp/patch.py" <<'PY'
"""patch.py IMAGE OFFSET BYTES VALUE: sets a field in every superblock of the image and corrects the sums."""
import struct, sys
M = (1 << 64) - 1
P1, P2, P3, P4, P5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
                      0x27D4EB2F165667C5)
def rol(x, r):
    return (x << r | x >> (64 - r)) & M
def rnd(acc, lane):
    return rol((acc + lane * P2) & M, 31) * P1 & M
def xxh64(data):  # for multiples of 32 bytes, seed 0
    v = [(P1 + P2) & M, P2, 0, -P1 & M]
    for i in range(0, len(data), 32):
        for j, lane in enumerate(struct.unpack("<4Q", data[i:i + 32])):
            v[j] = rnd(v[j], lane)
    h = (rol(v[0], 1) + rol(v[1], 7) + rol(v[2], 12) + rol(v[3], 18)) & M
    for x in v:
        h = ((h ^ rnd(0, x)) * P1 + P4) & M
    h = (h + len(data)) & M
    h = (h ^ h >> 33) * P2 & M
    h = (h ^ h >> 29) * P3 & M
    return h ^ h >> 32
path, at, size, value = sys.argv[1], *(int(a, 0) for a in sys.argv[2:])
image = bytearray(open(path, "rb").read())
nr = 0
for pos in range(0, len(image) - 511, 512):
    if image[pos:pos + 8] != b"\x89KVS\r\n\x1a\n":
        continue
    block = image[pos:pos + 512]
    old = struct.unpack_from("<Q", block, 8)[0]
    struct.pack_into("<Q", block, 8, 0)
    assert xxh64(bytes(block)) == old, "checksum of the superblock at %d" % pos
    block[at:at + size] = value.to_bytes(size, "little")
    struct.pack_into("<Q", block, 8, xxh64(bytes(block)))
    image[pos:pos + 512] = block
    nr += 1
assert nr
open(path, "wb").write(image)
PY
cp "$good" "$tmp/newer.kv"
check 'make a newer version' python3 "$tmp/patch.py" "$tmp/newer.kv" 0x10 4 4
each 'newer version' 5 'newer' "$tmp/newer.kv" "${readers[@]}" "${writers[@]}"
cp "$good" "$tmp/older.kv"
check 'make an older version' python3 "$tmp/patch.py" "$tmp/older.kv" 0x10 4 2
each 'older version' 5 'older|too old' "$tmp/older.kv" "${readers[@]}" "${writers[@]}"
cp "$good" "$tmp/incompat.kv"
check 'make an unknown incompatible feature' python3 "$tmp/patch.py" "$tmp/incompat.kv" 0x28 8 0x8000000000000000
each 'unknown incompatible feature' 5 'newer' "$tmp/incompat.kv" "${readers[@]}" "${writers[@]}"
cp "$good" "$tmp/compat.kv"
check 'make an unknown compatible feature' python3 "$tmp/patch.py" "$tmp/compat.kv" 0x18 8 0x8000000000000000
is 'unknown compatible feature: opened' "$(kvs get "$tmp/compat.kv" k)" 1
check 'and written' kvs put "$tmp/compat.kv" k 2
cp "$good" "$tmp/ro.kv"
check 'make an unknown read-only compatible feature' python3 "$tmp/patch.py" "$tmp/ro.kv" 0x20 8 0x8000000000000000
is 'unknown read-only compatible feature: read' "$(kvs get "$tmp/ro.kv" k)" 1
each 'and not written' 5 'newer|read-only' "$tmp/ro.kv" "${writers[@]}"

# ---- truncated: 4
size=$(stat -c %s "$good")
for part in 1 2 3; do
	head -c $((size * part / 4)) "$good" > "$tmp/cut$part.kv"
	each "truncated to $part/4: writers" 4 'superblock|log' "$tmp/cut$part.kv" "${writers[@]}"
	each "truncated to $part/4: check" 4 . "$tmp/cut$part.kv" check
done
head -c $((size - 4096)) "$good" > "$tmp/cut.kv"
each 'truncated by a block: writers refuse or all is there' "$(s=0; kvs exists "$tmp/cut.kv" nokey 2> /dev/null || s=$?; echo $s)" \
	. "$tmp/cut.kv" 'get nokey'
head -c 4096 "$good" > "$tmp/cut.kv"
each 'truncated to a block' 4 . "$tmp/cut.kv" 'get k' scan check 'put k v'
cp "$good" "$tmp/long.kv"
head -c 100000 /dev/urandom >> "$tmp/long.kv"
is 'longer than it says: opened' "$(kvs get "$tmp/long.kv" k 2> /dev/null)" 1

# ---- damage: what is intact is printed, then 4
cp "$good" "$tmp/bad.kv"
python3 - "$tmp/bad.kv" <<'PY'
import sys
image = bytearray(open(sys.argv[1], "rb").read())
# flip a byte in the value of k02050 wherever it is stored: log and leaf
at = nr = 0
while (at := image.find(b"value 2050 value 2050", at)) >= 0:
    image[at] ^= 1
    at += 5000
    nr += 1
assert nr
open(sys.argv[1], "wb").write(image)
PY
kvs dump "$good" > "$tmp/want"
status=0
kvs dump "$tmp/bad.kv" > "$tmp/got" 2> "$tmp/err" || status=$?
is 'dump of a damaged volume gives 4' "$status" 4
check 'and prints intact lines only, and most of them' python3 - "$tmp/want" "$tmp/got" <<'PY'
import sys
want, got = (open(p).read().splitlines() for p in sys.argv[1:])
assert set(got) < set(want), "a line that was never stored"
assert len(got) > 0.9 * len(want), (len(got), len(want))
assert got == [l for l in want if l in set(got)], "order"
PY
like 'and names the place' "$(cat "$tmp/err")" "^kvs: $tmp/bad.kv: .*; run 'kvs-fsck -n $tmp/bad.kv'"
status=0
kvs scan "$tmp/bad.kv" > "$tmp/got2" 2> /dev/null || status=$?
is 'scan gives 4 too' "$status" 4
is 'and prints as many' "$(wc -l < "$tmp/got2")" "$(wc -l < "$tmp/got")"
kvs scan "$tmp/bad.kv" --reverse > "$tmp/got3" 2> /dev/null || true
is 'and backwards as well' "$(tac "$tmp/got3" | b2sum)" "$(b2sum < "$tmp/got2")"
check 'get of the damaged value gives 4' expect 4 kvs get "$tmp/bad.kv" k02050
is 'get of another one works' "$(kvs get "$tmp/bad.kv" k)" 1
check 'check gives 4' expect 4 kvs check "$tmp/bad.kv"
like 'and counts the problems' "$(cat "$tmp/tap.out")" '[0-9]+: .*[0-9]+ problems?'

# ---- a second opener gets 6 at once
mkfifo "$tmp/fifo"
kvs load "$tmp/busy.kv" "$tmp/fifo" 2> /dev/null &
holder=$!
exec 7> "$tmp/fifo"
printf '{"key":"k","value":"1"}\n' >&7
until [ -s "$tmp/busy.kv" ] && ! kvs exists "$tmp/busy.kv" none 2> "$tmp/err" && grep -q 'another process' "$tmp/err"; do
	sleep 0.05
done
begin=$(date +%s%N)
each 'second opener' 6 'another process' "$tmp/busy.kv" "${readers[@]}" "${writers[@]}" 'load /dev/null' create 'create --force'
took=$((($(date +%s%N) - begin) / 1000000))
check "at once ($took ms for 14 tries)" test "$took" -lt 5000
exec 7>&-
check 'the first one is not disturbed' wait "$holder"
is 'and has stored its entry' "$(kvs get "$tmp/busy.kv" k)" 1

# ---- the end of --size: 3, nothing is lost, and the volume can be emptied
check 'create --size' kvs create "$tmp/capped.kv" --size 32M
status=0
python3 -c 'for i in range(100000): print("{\"key\":\"k%06d\",\"value\":\"%s\"}" % (i, "v" * 1000))' 2> /dev/null |
	kvs load "$tmp/capped.kv" - > "$tmp/out" 2>&1 || status=$?
is 'a full volume gives 3' "$status" 3
like 'and says so' "$(cat "$tmp/out")" 'no space left.*entries, up to line [0-9]+, are stored'
kept=$(sed -n 's/.*the first \([0-9]*\) entries.*/\1/p' "$tmp/out")
is 'what was acknowledged is there' "$(kvs count "$tmp/capped.kv")" "$kept"
check 'and is all right' test "$(kvs scan "$tmp/capped.kv" | awk -F'\t' 'length($2) == 1000' | wc -l)" = "$kept"
check 'half of the volume was used at least' test "$kept" -gt 16000
check 'the file did not grow beyond its limit' test "$(stat -c %s "$tmp/capped.kv")" -le 33554432
is 'check' "$(kvs check "$tmp/capped.kv")" clean
check 'a full volume can be emptied' kvs del "$tmp/capped.kv" --prefix k
check 'and filled again' kvs load "$tmp/capped.kv" "$tmp/good.ndjson"
is 'check again' "$(kvs check "$tmp/capped.kv")" clean

# ---- geometries and their limits
for g in '512 4K 2K' '512 16K 4K' '1K 64K 16K' '4096 4M 64K'; do
	read -r block segment frame <<< "$g"
	rm -f "$tmp/g.kv"
	check "create --block $block --segment $segment --frame $frame" \
		kvs create "$tmp/g.kv" --block "$block" --segment "$segment" --frame "$frame" --window 1
	check 'holds the test data' kvs load "$tmp/g.kv" "$tmp/good.ndjson"
	is 'all of it' "$(kvs dump "$tmp/g.kv" | b2sum)" "$(grep -v '^{"key":"k",' "$tmp/want" | b2sum)"
	is 'clean' "$(kvs check "$tmp/g.kv")" clean
	max=$(kvs stat "$tmp/g.kv" -o json | jq .key_max)
	check "a key of key_max ($max) bytes" kvs put "$tmp/g.kv" "$(printf "%${max}s" | tr ' ' k)" v
	check 'one more byte gives 2' expect 2 kvs put "$tmp/g.kv" "$(printf "%$((max + 1))s" | tr ' ' k)" v
done
check 'a segment below 8 blocks gives 2' expect 2 kvs create "$tmp/h.kv" --block 4096 --segment 16K
check 'a block of 3000 gives 2' expect 2 kvs create "$tmp/h.kv" --block 3000
check 'a size too small gives 3' expect 3 kvs create "$tmp/h.kv" --size 64K

# ---- kill -9 in a load: a prefix of the input is there, in whole batches, and check is clean
python3 -c 'for i in range(400000): print("{\"key\":\"k%06d\",\"value\":\"%s\"}" % (i, "v" * (i % 300)))' > "$tmp/big.ndjson"
rounds=${KV_TEST_KILLS:-20}
[ "${KV_TEST_QUICK:-0}" = 0 ] || rounds=5
bad=0 cut=0
for ((i = 0; i < rounds; i++)); do
	rm -f "$tmp/kill.kv"
	kvs load "$tmp/kill.kv" "$tmp/big.ndjson" 2> /dev/null &
	victim=$!
	sleep "0.$(printf '%03d' $((RANDOM % 500)))"
	kill -9 "$victim" 2> /dev/null || true
	wait "$victim" 2> /dev/null || true
	[ -s "$tmp/kill.kv" ] || continue
	status=0
	kvs check "$tmp/kill.kv" > "$tmp/out" 2>&1 || status=$?
	if [ "$status" -eq 5 ]; then continue; fi # killed while it was being created
	[ "$status" -eq 0 ] || { bad=$((bad + 1)); diag "check: $status $(head -n 3 "$tmp/out")"; }
	kvs dump "$tmp/kill.kv" > "$tmp/kill.ndjson" || bad=$((bad + 1))
	n=$(wc -l < "$tmp/kill.ndjson")
	cmp -s "$tmp/kill.ndjson" <(head -n "$n" "$tmp/big.ndjson") || { bad=$((bad + 1)); diag 'not a prefix'; }
	[ "$n" -eq 400000 ] || cut=$((cut + 1))
	kvs put "$tmp/kill.kv" after kill || bad=$((bad + 1))
	is "round $i: $n entries, and it can be written" "$(kvs get "$tmp/kill.kv" after)" kill
done
is "$rounds kills: whole prefixes, clean, no exit status but 0" "$bad" 0
check "kills hit the load in $cut rounds" test "$cut" -gt 0

finish
