#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# dump.sh - kvs dump and kvs load: both formats, both ways, beside python's JSON and LMDB's own tools; bad
# input named by line; pipes and signals.

set -euo pipefail
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

# ---- NDJSON against python's parser
python3 - > "$tmp/model.ndjson" <<'PY'
import base64, json, random
random.seed(7)
alphabet = ["a", "\"", "\\", "\n", "\t", "\x00", "\x1f", "\x7f", "ü", "€", "\u2028", "𝄞", "/", "é", "\ud7ff", "\uffff"]
entries = {}
for i in range(3000):
    n = random.choice([0, 1, 3, 20, 300, 5000])
    if random.random() < 0.6:
        value = "".join(random.choice(alphabet) for _ in range(n)).encode()
    else:
        value = random.randbytes(n)
    key = ("k%d" % i).encode() if random.random() < 0.5 else random.randbytes(random.randint(1, 60))
    entries[key] = value
def member(name, data):
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {name + "_b64": base64.b64encode(data).decode()}
for key in entries:  # in no order
    print(json.dumps({**member("key", key), **member("value", entries[key])}))
PY
kvs load "$tmp/a.kv" "$tmp/model.ndjson" 2> /dev/null
kvs dump "$tmp/a.kv" > "$tmp/a.ndjson"
cat > "$tmp/equal.py" <<'PY'
import base64, json, sys
def read(path):
    out = []
    for line in open(path, encoding="utf-8", newline="\n"):
        o = json.loads(line)
        assert set(o) <= {"tree", "key", "key_b64", "value", "value_b64"}, line
        def get(name):
            return o[name].encode() if name in o else base64.b64decode(o[name + "_b64"], validate=True)
        for name in ("key", "value"):
            if name + "_b64" in o:
                try:
                    get(name).decode()
                except UnicodeDecodeError:
                    continue
                assert path.endswith("model.ndjson"), "base64 of valid UTF-8: " + line
        out.append((o.get("tree", "main"), get("key"), get("value")))
    return out
a, b = read(sys.argv[1]), read(sys.argv[2])
keys = [e[:2] for e in b]
main = [k for t, k in keys if t == "main"]
assert main == sorted(main), "not in order of keys"
assert dict((e[:2], e[2]) for e in a) == dict((e[:2], e[2]) for e in b)
assert len(keys) == len(set(keys))
PY
check 'dump gives what python loaded, in order' python3 "$tmp/equal.py" "$tmp/model.ndjson" "$tmp/a.ndjson"
kvs load "$tmp/b.kv" - < "$tmp/a.ndjson" 2> /dev/null
kvs dump "$tmp/b.kv" > "$tmp/b.ndjson"
same 'dump of a loaded dump is the same' "$tmp/a.ndjson" "$tmp/b.ndjson"
shuf --random-source=/dev/zero "$tmp/a.ndjson" | kvs load "$tmp/c.kv" - 2> /dev/null
kvs put "$tmp/c.kv" 'zz-gone' x
kvs del "$tmp/c.kv" 'zz-gone'
kvs dump "$tmp/c.kv" > "$tmp/c.ndjson"
same 'the content alone decides the output' "$tmp/a.ndjson" "$tmp/c.ndjson"
check 'scan -o json is the same text' cmp "$tmp/a.ndjson" <(kvs scan "$tmp/a.kv" -o json)
printf '%s\n' '{"key":"esc","value":"\u0041\ud834\udd1e\/\b\f\n\r\t\"\\\u00fc\u20ac\u0000"}' | kvs load "$tmp/e.kv" - 2> /dev/null
is 'escapes' "$(kvs get "$tmp/e.kv" esc --value-enc hex)" 41f09d849e2f080c0a0d09225cc3bce282ac00
printf '\n  { "value" : "v" ,\t"key" : "k" } \r\n\n{"value_b64":"AA==","key_b64":"aw=="}' | kvs load "$tmp/e.kv" -
is 'blanks, any order, CRLF, no newline at the end, last one wins' "$(kvs get "$tmp/e.kv" k --value-enc hex)" 00
is 'an empty volume dumps to nothing' "$(kvs create "$tmp/n.kv"; kvs dump "$tmp/n.kv")" ''
check 'an empty input loads' kvs load "$tmp/n.kv" /dev/null

# ---- trees
cat > "$tmp/t.ndjson" <<'END'
{"key":"k","value":"main"}
{"tree":"alpha","key":"k","value":"1"}
{"tree":"béta","key":"k","value":"2"}
{"tree":"béta","key":"l","value":"3"}
END
kvs load "$tmp/t.kv" "$tmp/t.ndjson" 2> /dev/null
kvs dump "$tmp/t.kv" > "$tmp/got"
same 'trees are dumped behind main, in order of names' "$tmp/t.ndjson" "$tmp/got"
is 'dump --tree' "$(kvs dump "$tmp/t.kv" --tree alpha)" '{"tree":"alpha","key":"k","value":"1"}'
is 'dump --tree main' "$(kvs dump "$tmp/t.kv" --tree main)" '{"key":"k","value":"main"}'
check 'dump of a missing tree gives 1' expect 1 kvs dump "$tmp/t.kv" --tree none
kvs load "$tmp/u.kv" "$tmp/t.ndjson" --tree other 2> /dev/null
is 'load --tree is for entries that name none' "$(kvs trees "$tmp/u.kv" | cut -f1 | xargs)" 'alpha béta main other'
is 'main stays empty then' "$(kvs count "$tmp/u.kv")" 0

# ---- bdb, and LMDB as the judge
kvs dump "$tmp/t.kv" --format bdb > "$tmp/t.bdb"
kvs load "$tmp/v.kv" "$tmp/t.bdb" 2> /dev/null
check 'bdb: trees come back' cmp "$tmp/t.ndjson" <(kvs dump "$tmp/v.kv")
like 'bdb: no database= for main' "$(sed '/HEADER=END/q' "$tmp/t.bdb" | xargs)" \
	'^VERSION=3 format=bytevalue type=btree mapsize=[0-9]+ HEADER=END$'
kvs load "$tmp/w.kv" - 2> /dev/null < <(grep -v '""' "$tmp/a.ndjson" | python3 -c '
import base64, json, sys
for line in sys.stdin:
    o = json.loads(line)
    n = len(o["key"].encode()) if "key" in o else len(base64.b64decode(o["key_b64"]))
    if n <= 511: sys.stdout.write(line)')
kvs dump "$tmp/w.kv" > "$tmp/w.ndjson"
kvs dump "$tmp/w.kv" --format bdb > "$tmp/w.bdb"
check 'mdb_load reads our dump' mdb_load -n -f "$tmp/w.bdb" "$tmp/w.mdb"
mdb_dump -n "$tmp/w.mdb" > "$tmp/m.bdb"
check 'LMDB holds the same lines' cmp <(sed '1,/HEADER=END/d' "$tmp/w.bdb") <(sed '1,/HEADER=END/d' "$tmp/m.bdb")
check 'load reads mdb_dump' kvs load "$tmp/x.kv" "$tmp/m.bdb"
check 'and holds the same' cmp "$tmp/w.ndjson" <(kvs dump "$tmp/x.kv")
# (mdb_dump -p of LMDB 0.9 does not escape a backslash, so its output is ambiguous: none here)
python3 - "$tmp/w.ndjson" > "$tmp/q.ndjson" <<'PY'
import base64, json, sys
for line in open(sys.argv[1], encoding="utf-8", newline="\n"):
    o = json.loads(line)
    if not any(b"\\" in (base64.b64decode(v) if n.endswith("_b64") else v.encode()) for n, v in o.items()):
        sys.stdout.write(line)
PY
kvs load "$tmp/q.kv" "$tmp/q.ndjson" 2> /dev/null
kvs dump "$tmp/q.kv" --format bdb | mdb_load -n "$tmp/q.mdb"
mdb_dump -n -p "$tmp/q.mdb" > "$tmp/p.bdb"
check 'load reads mdb_dump -p (format=print)' kvs load "$tmp/y.kv" "$tmp/p.bdb"
check 'and holds the same bytes' cmp "$tmp/q.ndjson" <(kvs dump "$tmp/y.kv")
mkdir "$tmp/env"
mdb_load -s one "$tmp/env" < <(printf 'VERSION=3\nformat=print\ntype=btree\nHEADER=END\n a\n 1\nDATA=END\n')
mdb_load -s two "$tmp/env" < <(printf 'VERSION=3\nformat=print\ntype=btree\nHEADER=END\n b\n 2\nDATA=END\n')
mdb_dump -a "$tmp/env" > "$tmp/all.bdb"
check 'load reads mdb_dump -a' kvs load "$tmp/z.kv" "$tmp/all.bdb"
is 'databases are trees' "$(kvs get "$tmp/z.kv" -t one a)$(kvs get "$tmp/z.kv" -t two b)" 12
printf 'VERSION=3\nformat=print\ntype=hash\ndb_pagesize=4096\nHEADER=END\n \\5ck\\\\\n \n k2\n a b\nDATA=END\n' | kvs load "$tmp/p.kv" - 2> /dev/null
is 'format=print: escapes, blanks, empty values' "$(kvs scan "$tmp/p.kv" --enc escape)" $'\\\\k\\\\\t\nk2\ta b'

# ---- bad input: status 2, the line is named, what came before is kept
# bad TEXT LINE REGEX INPUT
bad() {
	local status=0
	rm -f "$tmp/bad.kv"
	printf '%b' "$4" | kvs load "$tmp/bad.kv" - > "$tmp/out" 2>&1 || status=$?
	if [ "$status" -eq 2 ] && grep -Eq "^kvs: standard input: line $2: .*$3" "$tmp/out"; then
		ok "bad input: $1"
	else
		not_ok "bad input: $1" "status $status" "$(cat "$tmp/out")"
	fi
}
good='{"key":"a","value":"1"}\n'
bad 'no format' 1 'neither NDJSON' 'hello\n'
bad 'not an object' 2 'must be a JSON object' "${good}[]\\n"
bad 'cut line' 2 'the line ends inside' "$good{\"key\":\"b\",\"va"
bad 'cut object' 2 'the line ends inside' "$good{\"key\":\"b\"\\n"
bad 'newline in a string' 2 'the line ends inside' "$good{\"key\":\"b\\n\"}\\n"
bad 'two objects in a line' 2 'more text' "$good{\"key\":\"b\",\"value\":\"\"}{}\\n"
bad 'no key' 2 'no "key"' "$good{\"value\":\"\"}\\n"
bad 'no value' 2 'no "value"' "$good{\"key\":\"b\"}\\n"
bad 'empty object' 2 'no "key"' "$good{}\\n"
bad 'unknown member' 2 "unknown member 'ttl'" "$good{\"key\":\"b\",\"value\":\"\",\"ttl\":\"1\"}\\n"
bad 'long unknown member' 2 'unknown member' "$good{\"$(printf 'x%.0s' {1..200})\":\"\"}\\n"
bad 'key twice' 2 'key is given twice' "$good{\"key\":\"b\",\"key_b64\":\"\",\"value\":\"\"}\\n"
bad 'value twice' 2 'value is given twice' "$good{\"value\":\"b\",\"key\":\"b\",\"value\":\"\"}\\n"
bad 'value is a number' 2 'must be a string' "$good{\"key\":\"b\",\"value\":1}\\n"
bad 'empty key' 2 'the key is empty' "$good{\"key\":\"\",\"value\":\"\"}\\n"
bad 'bad base64' 2 'base64' "$good{\"key\":\"b\",\"value_b64\":\"A\"}\\n"
bad 'bad escape' 2 'no such escape' "$good{\"key\":\"b\",\"value\":\"\\\\q\"}\\n"
bad 'bad \u' 2 'four hexadecimal' "$good{\"key\":\"b\",\"value\":\"\\\\u12g4\"}\\n"
bad 'lone high surrogate' 2 'surrogate' "$good{\"key\":\"b\",\"value\":\"\\\\ud834x\"}\\n"
bad 'lone low surrogate' 2 'surrogate' "$good{\"key\":\"b\",\"value\":\"\\\\udd1e\"}\\n"
bad 'not UTF-8' 2 'not UTF-8' "$good{\"key\":\"b\",\"value\":\"\\0377\"}\\n"
bad 'overlong UTF-8' 2 'not UTF-8' "$good{\"key\":\"b\",\"value\":\"\\0300\\0200\"}\\n"
bad 'UTF-8 cut by an escape' 2 'not UTF-8' "$good{\"key\":\"b\",\"value\":\"\\0303\\\\n\"}\\n"
bad 'surrogate in UTF-8' 2 'not UTF-8' "$good{\"key\":\"b\",\"value\":\"\\0355\\0240\\0200\"}\\n"
bad 'control character' 2 'control character' "$good{\"key\":\"b\",\"value\":\"\\01\"}\\n"
bad 'missing colon' 2 "':' is missing" "$good{\"key\" \"b\"}\\n"
bad 'missing comma' 2 "',' or '}'" "$good{\"key\":\"b\" \"value\":\"\"}\\n"
bad 'comma at the end' 2 "',' before" "$good{\"key\":\"b\",\"value\":\"\",}\\n"
bad 'long key' 2 'the key is longer' "$good{\"key\":\"$(printf 'x%.0s' {1..20000})\",\"value\":\"\"}\\n"
bad 'long tree name' 2 'longer than 64' "$good{\"tree\":\"$(printf 'x%.0s' {1..200})\",\"key\":\"a\",\"value\":\"\"}\\n"
is 'the line before a bad one is stored' "$(kvs get "$tmp/bad.kv" a)" 1
like 'and the message says so' "$(cat "$tmp/out")" 'first 1 entries, up to line 1, are stored'
head='VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n'
bad 'bdb: odd digits' 7 'hexadecimal' "$head 61\\n 31\\n 626\\n 31\\nDATA=END\\n"
bad 'bdb: key without value' 6 'value of the key' "$head 61\\nDATA=END\\n"
bad 'bdb: no end' 7 'DATA=END' "$head 61\\n 31\\n"
bad 'bdb: cut line' 6 'cut' "$head 61\\n 31"
bad 'bdb: no space' 7 'begins with a space' "$head 61\\n 31\\n62\\n"
bad 'bdb: version' 1 'VERSION=9' 'VERSION=9\nHEADER=END\n'
bad 'bdb: format' 2 'format=odd' 'VERSION=3\nformat=odd\nHEADER=END\n'
bad 'bdb: duplicates' 2 'several values' 'VERSION=3\nduplicates=1\nHEADER=END\n'
bad 'bdb: recno' 2 'type=recno' 'VERSION=3\ntype=recno\nHEADER=END\n'
bad 'bdb: no header end' 2 'HEADER=END' 'VERSION=3\n'
bad 'bdb: second section' 8 'not name=value' "${head} 61\\n 31\\nDATA=END\\nrubbish\\n"
python3 -c 'for i in range(2500): print("{\"key\":\"k%04d\",\"value\":\"%d\"}" % (i, i))
print("rubbish")' > "$tmp/long.ndjson"
rm -f "$tmp/bad.kv"
check 'bad line 2501' expect 2 kvs load "$tmp/bad.kv" "$tmp/long.ndjson"
like 'is named with the file' "$(cat "$tmp/tap.out")" "long.ndjson: line 2501: "
is 'all lines before it are stored' "$(kvs count "$tmp/bad.kv")" 2500
check 'a missing file gives 3' expect 3 kvs load "$tmp/none.kv" "$tmp/none.ndjson"
check 'and creates no volume' test ! -e "$tmp/none.kv"
check 'a directory gives 3' expect 3 kvs load "$tmp/none2.kv" "$tmp"

# ---- values larger than the pieces that load and dump hold in memory
python3 - > "$tmp/large.ndjson" <<'PY'
import base64, json, random
random.seed(3)
print(json.dumps({"key": "bin", "value_b64": base64.b64encode(b"\xff" + random.randbytes(3000000)).decode()}, separators=(",", ":")))
print(json.dumps({"key": "text", "value": "zeile ü\n\"" * 300000}, separators=(",", ":"), ensure_ascii=False))
print(json.dumps({"tree": "t", "key": "edge", "value": "x" * 65536}, separators=(",", ":")))
print(json.dumps({"tree": "t", "key": "edge1", "value": "x" * 65537}, separators=(",", ":")))
PY
kvs load "$tmp/l.kv" "$tmp/large.ndjson" --cache 1M 2> /dev/null
check 'large values: NDJSON comes back' cmp "$tmp/large.ndjson" <(kvs dump "$tmp/l.kv" --cache 1M)
kvs dump "$tmp/l.kv" --format bdb --cache 1M > "$tmp/large.bdb"
kvs load "$tmp/l2.kv" "$tmp/large.bdb" --cache 1M 2> /dev/null
check 'large values: bdb comes back' cmp "$tmp/large.ndjson" <(kvs dump "$tmp/l2.kv" --cache 1M)
check 'large values: scan hex' cmp <(kvs scan "$tmp/l.kv" --cache 1M --enc hex) \
	<(sed -n '/HEADER=END/,/DATA=END/{/^ /p}' "$tmp/large.bdb" | head -4 | sed 's/^ //' | paste - -)
python3 -c 'print("{\"value\":\"%s\",\"key\":\"k\"}" % ("v" * 3000000))' > "$tmp/order.ndjson"
check 'a large value before its key gives 2' expect 2 kvs load "$tmp/o.kv" "$tmp/order.ndjson"
like 'and says what to do' "$(cat "$tmp/tap.out")" 'line 1: .*put "key" before "value"'
python3 -c 'print("{\"key\":\"k\",\"value\":\"%s\",\"tree\":\"t\"}" % ("v" * 3000000))' > "$tmp/order.ndjson"
check 'a large value before its tree gives 2' expect 2 kvs load "$tmp/o.kv" "$tmp/order.ndjson"
python3 -c 'print("{\"key\":\"k\",\"value\":\"%s" % ("v" * 3000000), end="")' > "$tmp/order.ndjson"
check 'a large value that is cut gives 2' expect 2 kvs load "$tmp/o.kv" "$tmp/order.ndjson"
is 'nothing of them is stored' "$(kvs count "$tmp/o.kv")" 0

# ---- pipes and signals
# shellcheck disable=SC2317 # called by expect
kvs_to_full() { kvs dump "$tmp/a.kv" > /dev/full; }
# shellcheck disable=SC2317
kvs_from_directory() { kvs put "$tmp/a.kv" k - < /; }
python3 -c 'print("some text that is long enough to fill pipes\n" * 70000)' | kvs put "$tmp/a.kv" pipe -
kvs dump "$tmp/a.kv" 2> "$tmp/err" | head -n 1 > /dev/null || true
is 'dump | head ends quietly' "$(cat "$tmp/err")" ''
(trap '' PIPE; kvs dump "$tmp/a.kv" 2> "$tmp/err" | head -n 1 > /dev/null) || true
is 'also where SIGPIPE is ignored' "$(cat "$tmp/err")" ''
check 'a full disk behind standard output gives 3' expect 3 kvs_to_full
like 'and says so' "$(cat "$tmp/tap.out")" 'standard output: No space left'
check 'a failing read gives 3' expect 3 kvs_from_directory

# interrupted SIGNAL: a load that waits for its input gets the signal; it keeps whole entries and gives 130
interrupted() {
	local i=$tmp/int-$1.kv pid status=0
	mkfifo "$tmp/fifo-$1"
	kvs load "$i" "$tmp/fifo-$1" 2> "$tmp/err" &
	pid=$!
	exec 7> "$tmp/fifo-$1"
	python3 -c 'for n in range(1500): print("{\"key\":\"k%04d\",\"value\":\"v\"}" % n)
print("{\"key\":\"half\",\"value\":\"ha", end="")' >&7
	# the reader has taken everything once the pipe is empty; it looks at signals only before the next read
	python3 -c 'import fcntl, struct, termios, time
while struct.unpack("i", fcntl.ioctl(7, termios.FIONREAD, b"\0" * 4))[0]: time.sleep(0.02)'
	kill -"$1" "$pid"
	wait "$pid" || status=$?
	exec 7>&-
	is "$1 in load gives 130" "$status" 130
	is "$1: whole entries are kept" "$(kvs count "$i")" 1500
	check "$1: nothing half" expect 1 kvs exists "$i" half
	is "$1: the volume is clean" "$(kvs check "$i")" clean
	like "$1: the message says what is stored" "$(cat "$tmp/err")" 'first 1500 entries, up to line 1500'
}
set -m # background jobs of a script ignore SIGINT otherwise
interrupted INT
interrupted TERM
set +m

finish
