#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# explain.sh - kvs explain: the way to a key, and the owner of each byte; the offsets that it names are
# compared with the bytes of the image and with what kvs-fsck says. row S14

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

image=$tmp/a.kv

# field FILE WHAT NAME...: of the last thing of that kind in the JSON of explain.
cat > "$tmp/field.py" << 'EOF'
import json, sys
step = [s for s in json.load(open(sys.argv[1]))["steps"] if s["what"] == sys.argv[2]][-1]
print(*[step[name] for name in sys.argv[3:]])
EOF
field() {
	python3 "$tmp/field.py" "$@"
}

# at OFFSET BYTES: of the image.
at() {
	dd if="$image" bs=1 skip="$1" count="$2" status=none
}

# ---- the way to a key -----------------------------------------------------------------------------

kvs create "$image" --block 512 --segment 4K --frame 2K --window 1
for i in {100..499}; do
	printf 'put\tkey%d\tvalue%d\n' "$i" "$i"
done > "$tmp/script"
{
	printf 'put\tlong\t%0300d\n' 7
	printf 'tree\tother\nput\tthere\tyes\n'
} >> "$tmp/script"
kvs apply "$image" "$tmp/script" > /dev/null
head -c 20000 /dev/urandom > "$tmp/large"
kvs put "$image" large - < "$tmp/large"

check 'a small value' kvs explain "$image" key200
kvs explain "$image" key200 -o json > "$tmp/json"
is 'it stands in the leaf' "$(field "$tmp/json" slot is)" value200
like 'the answer' "$(cat "$tmp/json")" '"answer": "there"'
leaf=$(field "$tmp/json" slot page)
is 'a page stands where it says' "$(at "$leaf" 4)" PKPG
check 'and holds the value' grep -aq value200 <(at "$leaf" 2048)
is 'the superblock stands where it says' "$(at "$(field "$tmp/json" superblock offset)" 4 | xxd -p)" 894b5653

kvs explain "$image" long -o json > "$tmp/json"
record=$(field "$tmp/json" record offset)
is 'a value in the log: its record, behind header and key' "$(at $((record + 56 + 4)) 300)" \
	"$(printf '%0300d' 7)"
is 'its checksums' "$(field "$tmp/json" record header payload)" 'good good'
kvs explain "$image" there -t other -o json > "$tmp/json"
is 'a key of another tree' "$(field "$tmp/json" slot is)" yes

# counts FILE: lines of chunks, records, more
counts() {
	awk '{ n[$1]++ } END { print n["chunk"] + 0, n["record"] + 0, n["more"] + 0 }' "$1"
}
kvs explain "$image" large > "$tmp/out"
is 'a large value: the first chunks' "$(counts "$tmp/out")" '8 8 1'
kvs explain "$image" large --all > "$tmp/out"
is 'all of them' "$(counts "$tmp/out")" '20 20 0'
kvs explain "$image" large -o json > "$tmp/json"
chunk=$(field "$tmp/json" record offset)
check 'the last chunk shown stands where it says' cmp <(at $((chunk + 56 + 17)) 1024) \
	<(tail -c +$((7 * 1024 + 1)) "$tmp/large" | head -c 1024)

code=0
kvs explain "$image" key200x > "$tmp/out" 2> "$tmp/err" || code=$?
is 'no such key' "$code" 1
like 'the path proves it' "$(cat "$tmp/out")" "none +before 'key200', behind 'key201'"
check 'no such tree' expect 1 kvs explain "$image" key200 -t none
check 'not through a mount' expect 2 kvs explain mount:/nowhere key
check 'a missing image' expect 5 kvs explain "$tmp/none.kv" key
check 'a foreign file' expect 5 kvs explain "$tmp/script" key
check 'a longer key than there can be' expect 2 kvs explain "$image" "$(printf '%0200d' 1)"
check 'neither key nor byte' expect 2 kvs explain "$image"
check 'both' expect 2 kvs explain "$image" key --addr 5
check 'not an offset' expect 2 kvs explain "$image" --addr x

# ---- the log behind the checkpoint ----------------------------------------------------------------

# A process that is killed leaves its changes in the log. Nobody looks at the image before that process
# says that it is ready: an explain that comes first holds the lock, and the process is refused.
cp "$image" "$tmp/killed.kv"
mkfifo "$tmp/pipe"
kvs apply "$tmp/killed.kv" - < "$tmp/pipe" > "$tmp/said" &
pid=$!
exec 3> "$tmp/pipe"
printf 'put\tnew\tborn\ndel\tkey200\nput\tkey201\tlater\nsync\necho\tready\n' >&3
for _ in {1..600}; do
	[ ! -s "$tmp/said" ] || break
	sleep 0.1
done
is 'changes in the log alone' "$(cat "$tmp/said")" ready
code=0
kvs explain "$tmp/killed.kv" new > "$tmp/out" 2>&1 || code=$?
is 'a volume that is open elsewhere' "$code" 6
{ kill -9 "$pid" && wait "$pid"; } 2> /dev/null || true
exec 3>&-
kvs explain "$tmp/killed.kv" new > "$tmp/out" || true
like 'a key that only the log has' "$(tr '\n' ' ' < "$tmp/out")" \
	'logged .*kind put.*answer +now there, at checkpoint no_key'
code=0
kvs explain "$tmp/killed.kv" key200 > "$tmp/out" 2> /dev/null || code=$?
is 'one that the log deletes' "$code" 1
like 'and how' "$(tr '\n' ' ' < "$tmp/out")" 'logged .*kind delete.*answer +now no_key, at checkpoint there'
kvs explain "$tmp/killed.kv" key201 -o json > "$tmp/json"
offset=$(field "$tmp/json" logged offset)
kvs explain "$tmp/killed.kv" --addr "$offset" -o json > "$tmp/json"
is 'its record, by its place' "$(field "$tmp/json" record key fate)" 'key201 logged'

# ---- bytes ----------------------------------------------------------------------------------------

kvs explain "$image" --addr "$leaf" -o json > "$tmp/json"
is 'a leaf, by its place' "$(field "$tmp/json" page reached from_byte)" "live_and_previous $leaf"
kvs explain "$image" --addr $((record + 100)) -o json > "$tmp/json"
is 'a record, by a byte in its value' "$(field "$tmp/json" record key fate)" 'long live'
kvs explain "$image" --addr $((chunk + 100)) -o json > "$tmp/json"
is 'a chunk knows whose it is' "$(field "$tmp/json" record chunk_of in_tree fate)" 'large main live'
kvs put "$image" long short
kvs explain "$image" --addr "$record" -o json > "$tmp/json"
is 'overwritten: it is dead' "$(field "$tmp/json" record key fate)" 'long dead'
check 'behind the end' expect 1 kvs explain "$image" --addr 1T
check 'in hexadecimal' kvs explain "$image" --addr 0x200

# tile IMAGE: from stretch to stretch: no gap, no overlap, an answer at each begin; kinds that were seen.
cat > "$tmp/tile.py" << 'EOF'
import json, subprocess, sys
at, kinds = 0, set()
while "beyond" not in kinds:
    run = subprocess.run(["kvs", "explain", sys.argv[1], "--addr", str(at), "-o", "json"],
                         capture_output=True, timeout=60)
    if run.returncode in (4, 5) and not run.stdout:
        print("refused")
        break
    assert run.returncode in (0, 1, 4), run
    step = json.loads(run.stdout)["steps"][0]
    assert step["from_byte"] == at < step["to_byte"], (at, step)
    kinds.add(step["what"])
    at = step["to_byte"]
print(*sorted(kinds))
EOF
tile() {
	python3 "$tmp/tile.py" "$1"
}

is 'every byte has one owner' "$(tile "$image")" \
	'beyond entries footer free header log page record superblock tail_place unused'

# ---- damage ---------------------------------------------------------------------------------------

cp "$image" "$tmp/bad.kv"
printf '\377' | dd of="$tmp/bad.kv" bs=1 seek=$((leaf + 70)) conv=notrunc status=none
kvs explain "$image" key200 -o json > "$tmp/json"
if [ "$(field "$tmp/json" slot page)" = "$leaf" ]; then
	check 'a damaged leaf: exit status 4' expect 4 kvs explain "$tmp/bad.kv" key200
	check 'by its place, too' expect 4 kvs explain "$tmp/bad.kv" --addr "$leaf"
	kvs explain "$tmp/bad.kv" key200 > "$tmp/out" 2> /dev/null || true
	like 'what is wrong with it' "$(cat "$tmp/out")" 'verdict page_head_sum'
	kvs-fsck -n "$tmp/bad.kv" > "$tmp/fsck" || true
	like 'kvs-fsck says the same of the same place' "$(cat "$tmp/fsck")" \
		"page_head_sum: segment $((leaf / 4096)), offset $leaf"
	check 'another key is not concerned' kvs explain "$tmp/bad.kv" there -t other
else
	not_ok 'the leaf is where it was'
fi

for forged in "$srcdir"/tests/images/forged/*.xz; do
	name=${forged##*/}
	xz -dc "$forged" > "$tmp/forged.kv"
	check "forged image ${name%.xz}: every byte has one owner" tile "$tmp/forged.kv"
	code=0
	timeout 60 kvs explain "$tmp/forged.kv" k > /dev/null 2>&1 || code=$?
	if [ "$code" -lt 6 ]; then
		ok "forged image ${name%.xz}: the way to a key, exit status $code"
	else
		not_ok "forged image ${name%.xz}: the way to a key, exit status $code"
	fi
done
finish
