#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# large.sh - one value much larger than the memory allowed: random bytes stream in and out, through every
# verb that passes values (put, get, dump, load, scan, check); digests are equal and no process has more
# than 256 MiB resident. (large_value.sh does put and get at scale, in a memory cgroup.) Rows H6 Y8.
#
# KV_TEST_LARGE_MIB sets the size (default 300).

set -euo pipefail
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

mib=${KV_TEST_LARGE_MIB:-300}
limit_mib=256
img=$tmp/a.kv

cat > "$tmp/run.py" <<'PY'
"""run.py FILE COMMAND...: runs the command, writes its peak resident size in MiB to FILE."""
import os, sys
pid = os.fork()
if not pid:
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss >> 10))
sys.exit(os.waitstatus_to_exitcode(status))
PY
cat > "$tmp/source.py" <<'PY'
import random, sys
r = random.Random(11)
for _ in range(int(sys.argv[1])):
    sys.stdout.buffer.write(r.randbytes(1 << 20))
PY
small() { python3 "$tmp/run.py" "$tmp/rss" "$@"; }
# memory TEXT: of the last command run by small.
memory() {
	check "$1: $(cat "$tmp/rss") MiB resident <= $limit_mib" test "$(cat "$tmp/rss")" -le "$limit_mib"
}
digest() { b2sum | cut -d' ' -f1; }

want=$(python3 "$tmp/source.py" "$mib" | digest)
# shellcheck disable=SC2317 # called by check
put_large() { python3 "$tmp/source.py" "$mib" | small kvs put "$img" big -; }
check "put of $mib MiB" put_large
memory put
kvs put "$img" small value
is 'get gives the same bytes' "$(small kvs get "$img" big | digest)" "$want"
memory get
is 'check' "$(small kvs check "$img")" clean
memory check
mkfifo "$tmp/fifo"
small kvs dump "$img" > "$tmp/fifo" &
dump=$!
python3 "$tmp/run.py" "$tmp/rss2" kvs load "$tmp/b.kv" - < "$tmp/fifo" 2> /dev/null
wait "$dump"
memory dump
cp "$tmp/rss2" "$tmp/rss"
memory load
rm "$img"
is 'the loaded copy has the same bytes' "$(kvs get "$tmp/b.kv" big | digest)" "$want"
is 'base64 of it too' "$(small kvs get "$tmp/b.kv" big --value-enc base64 | base64 -d | digest)" "$want"
is 'scan --enc hex of it too' "$(small kvs scan "$tmp/b.kv" --value-enc hex --prefix big |
	cut -f2 | python3 -c 'import binascii, sys
while block := sys.stdin.buffer.read(1 << 20).rstrip(b"\n"): sys.stdout.buffer.write(binascii.unhexlify(block))' | digest)" "$want"
memory scan
# shellcheck disable=SC2317
put_zeros() { head -c 100000000 /dev/zero | kvs put "$tmp/b.kv" big -; }
check "a second version replaces it" put_zeros
is 'which is what get gives' "$(kvs get "$tmp/b.kv" big | wc -c)" 100000000
check 'del' kvs del "$tmp/b.kv" big
is 'the small one is still there' "$(kvs get "$tmp/b.kv" small)" value
is 'check at the end' "$(kvs check "$tmp/b.kv")" clean

finish
