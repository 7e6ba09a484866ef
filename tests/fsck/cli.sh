#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# cli.sh - kvs-fsck as a user runs it: exit codes of fsck(8), messages, output as text and JSON, limits;
# -n leaves every byte of the image as it is (C17).

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

# status COMMAND...: its exit code into $code, standard output into $tmp/out, errors into $tmp/err.
status() {
	code=0
	"$@" > "$tmp/out" 2> "$tmp/err" || code=$?
}

# poke FILE OFFSET BYTE: write one byte (octal escape).
poke() {
	# shellcheck disable=SC2059
	printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# ---- real volumes ----------------------------------------------------------------------------------

kvs create "$tmp/a.kv" > "$tmp/log"
status kvs-fsck -n "$tmp/a.kv"
is 'a fresh volume is clean: 0' "$code" 0
is 'and says so' "$(cat "$tmp/out")" "$tmp/a.kv: clean"

for i in $(seq 1 200); do
	printf '{"key":"k%03d","value":"%*s"}\n' "$i" $((i * 17)) x
done > "$tmp/rows"
kvs load "$tmp/a.kv" "$tmp/rows" > "$tmp/log" 2>&1
head -c 2000000 /dev/urandom > "$tmp/big"
kvs put "$tmp/a.kv" big - < "$tmp/big"
status kvs-fsck -n -v "$tmp/a.kv"
is 'a filled volume is clean' "$code" 0
like '-v counts its entries' "$(cat "$tmp/out")" ' 201 entries'
like '-v counts its large values' "$(cat "$tmp/out")" ' 1 large values'

# ---- length (CONTRACT C14) ---------------------------------------------------------------------------

cp "$tmp/a.kv" "$tmp/long.kv"
head -c 8192 /dev/zero >> "$tmp/long.kv"
status kvs-fsck -n -v "$tmp/long.kv"
like 'longer than it says: volume_long' "$(cat "$tmp/out")" '804 volume_long'
head -c $(($(stat -c %s "$tmp/a.kv") - 600000)) "$tmp/a.kv" > "$tmp/short.kv"
status kvs-fsck -n -v "$tmp/short.kv"
is 'shorter than it says: 4' "$code" 4
like 'and says volume_short' "$(cat "$tmp/out")" '801 volume_short'

# ---- -n writes nothing (C17) -------------------------------------------------------------------------

sum=$(sha256sum < "$tmp/a.kv")
stamp=$(stat -c '%Y %Z %s' "$tmp/a.kv")
for opt in '' -v --json --no-values; do
	# shellcheck disable=SC2086
	status kvs-fsck -n $opt "$tmp/a.kv"
done
is 'the image is byte-identical afterwards' "$(sha256sum < "$tmp/a.kv")" "$sum"
is 'and its times and length are the same' "$(stat -c '%Y %Z %s' "$tmp/a.kv")" "$stamp"
chmod a-w "$tmp/a.kv"
status kvs-fsck -n "$tmp/a.kv"
is 'a file without write permission can be checked' "$code" 0
chmod u+w "$tmp/a.kv"

# ---- damage: 4 ---------------------------------------------------------------------------------------

# The hand-made volume of image.h: fault 0 is a good one.
"$builddir/tests/fsck/test_fsck" write "$tmp/b.kv" 0
status kvs-fsck -n "$tmp/b.kv"
is 'the hand-made volume is clean' "$code" 0
status kvs-fsck -n -v "$tmp/b.kv"
like '-v tells that it was not closed cleanly' "$(cat "$tmp/out")" 'not closed cleanly'

cp "$tmp/b.kv" "$tmp/c.kv"
poke "$tmp/c.kv" 512 x
status kvs-fsck -n "$tmp/c.kv"
is 'a damaged superblock slot: 4' "$code" 4
like 'number, name, place, sentence' "$(head -n 1 "$tmp/out")" \
	'^101 super_magic: segment 0, offset 512: superblock: wrong magic'
like 'and the sum of problems' "$(tail -n 1 "$tmp/out")" ': 1 problem found; nothing was changed$'
status kvs-fsck -n --json "$tmp/c.kv"
is 'the same with --json: 4' "$code" 4
is '--json: each line is an object' "$(jq -r 'type' "$tmp/out" | sort -u)" object
is '--json: the finding' \
	"$(jq -c 'select(.finding) | [.finding, .name, .severity, .segment, .offset]' "$tmp/out")" \
	'[101,"super_magic","problem",0,512]'
is '--json: the summary' "$(jq -c 'select(.summary) | .summary | [.clean, .problems, .error]' "$tmp/out")" \
	'[false,1,null]'
is 'exit 4 left it unchanged' "$(cmp -l "$tmp/b.kv" "$tmp/c.kv" | wc -l)" 1

# Every value of the two log segments: more findings of a code than are shown.
kvs create "$tmp/d.kv" > "$tmp/log"
for i in $(seq 1 30); do
	printf '{"key":"k%03d","value":"%s"}\n' "$i" "$(head -c 3000 /dev/zero | tr '\0' 'V')"
done | kvs load "$tmp/d.kv" - > "$tmp/log" 2>&1
LC_ALL=C sed -i 's/VVVVVVVV/VVVWVVVV/g' "$tmp/d.kv"
status kvs-fsck -n "$tmp/d.kv"
is 'damaged values: 4' "$code" 4
is 'ten of a code are shown' "$(grep -c '^307 record_payload: .*key .k' "$tmp/out")" 10
like 'the others are counted' "$(cat "$tmp/out")" '307 record_payload: 20 more not shown'
status kvs-fsck -n -v "$tmp/d.kv"
is '-v shows all' "$(grep -c '^307 record_payload: ' "$tmp/out")" 30
status kvs-fsck -n --max-per-code 3 "$tmp/d.kv"
is '--max-per-code' "$(grep -c '^307 record_payload: .*key .k' "$tmp/out")" 3
status kvs-fsck -n --no-values "$tmp/d.kv"
is '--no-values does not look at them' "$code" 0

# ---- not to be checked: 8 ------------------------------------------------------------------------------

status kvs-fsck -n "$tmp/none.kv"
is 'no such file: 8' "$code" 8
like 'and says so' "$(cat "$tmp/err")" 'none\.kv: cannot be opened: No such file'
status kvs-fsck -n "$tmp"
is 'a folder: 8' "$code" 8
echo 'something else' > "$tmp/text"
status kvs-fsck -n "$tmp/text"
is 'another file: 8' "$code" 8
like 'not a volume' "$(cat "$tmp/err")" 'not a kvs volume'
truncate -s 1M "$tmp/zero"
status kvs-fsck -n "$tmp/zero"
is 'zeros: 8' "$code" 8
like 'empty' "$(cat "$tmp/err")" 'empty'
python3 - "$tmp/b.kv" "$tmp/ready" <<'PY' &
import fcntl, os, struct, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
open(sys.argv[2], 'w').close()
time.sleep(60)
PY
holder=$!
for _ in $(seq 1 100); do
	[ -e "$tmp/ready" ] && break
	sleep 0.05
done
status kvs-fsck -n "$tmp/b.kv"
is 'open in a writing process: 8' "$code" 8
like 'busy' "$(cat "$tmp/err")" 'in use by another process'
kill "$holder"
wait "$holder" || true
status kvs-fsck -n "$tmp/b.kv"
is 'free again: 0' "$code" 0
# A full disk for standard output.
if [ -c /dev/full ]; then
	code=0
	kvs-fsck -n "$tmp/b.kv" > /dev/full 2> "$tmp/err" || code=$?
	is 'output that cannot be written: 8' "$code" 8
fi

# ---- usage: 16 -------------------------------------------------------------------------------------------

status kvs-fsck "$tmp/b.kv"
is 'without -n: 16' "$code" 16
like 'repair is not available yet' "$(cat "$tmp/err")" 'repair is not available yet; use -n'
status kvs-fsck -n
is 'no volume: 16' "$code" 16
status kvs-fsck -n a b
is 'two volumes: 16' "$code" 16
status kvs-fsck -n --max-per-code x "$tmp/b.kv"
is 'not a number: 16' "$code" 16
status kvs-fsck -n --bogus "$tmp/b.kv"
is 'unknown option: 16' "$code" 16
status kvs-fsck --help
is '--help: 0' "$code" 0
like '--help on standard output' "$(cat "$tmp/out")" '^Usage: kvs-fsck -n'
status kvs-fsck --version
is '--version: 0' "$code" 0
like '--version says which' "$(cat "$tmp/out")" '^kvs-fsck [0-9]'
finish
