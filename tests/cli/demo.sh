#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# demo.sh - the main job on real input ('./bootstrap demo'):
#
#   1. every regular readable file under /usr/include and /usr/share (path -> content, tree main) and every
#      stanza of 'apt-cache dumpavail' (package -> text, tree packages) is loaded with 'kvs load'
#   2. every value is read back and compared by hash, a sample also with 'kvs get'
#   3. a dump is loaded into a second volume; both dump the same bytes
#   4. our dump makes a real LMDB file (mdb_load); it holds the same; its mdb_dump loads into a volume,
#      which dumps the same
#
# By hand: srcdir=$PWD builddir=$PWD/build tests/cli/demo.sh [DIRECTORY...]. Scratch space (about five
# times the input) is in TMPDIR and is removed.

set -euo pipefail

srcdir=${srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
PATH=${builddir:-$srcdir/build}:$PATH
[ $# -gt 0 ] || set -- /usr/include /usr/share
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kvs-demo.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
mk=$srcdir/tests/cli/mk_ndjson.py
begin=$SECONDS

step() { printf '[%3d s] %s\n' $((SECONDS - begin)) "$*"; }
fail() {
	printf 'demo: FAILED: %s\n' "$*" >&2
	exit 1
}
# equal WHAT A B: two digests are the same and not empty.
equal() {
	if [ -z "$2" ] || [ "$2" != "$3" ]; then fail "$1 differ"; fi
	step "$1 are identical ($(cut -c1-16 <<< "$2"))"
}
digest() { b2sum -l 128 | cut -d' ' -f1; }
# data: the lines of data of a db_dump text.
data() { sed '1,/^HEADER=END$/d'; }

step "load: files under $*, stanzas of apt-cache dumpavail"
"$mk" make "$tmp/manifest" "$@" 2> "$tmp/made" | kvs load "$tmp/a.kv" - || fail "load"
step "loaded $(cat "$tmp/made"); trees: $(kvs trees "$tmp/a.kv" | tr '\t\n' '= ')"

step 'read every value back, and load the dump into a second volume'
mkfifo "$tmp/to-load" "$tmp/to-digest"
kvs load "$tmp/b.kv" "$tmp/to-load" 2> /dev/null & load=$!
digest < "$tmp/to-digest" > "$tmp/dump-a" & sum=$!
kvs dump "$tmp/a.kv" | tee "$tmp/to-load" "$tmp/to-digest" | "$mk" verify "$tmp/manifest" ||
	fail "values differ"
wait "$load" || fail "load of the dump"
wait "$sum"
equal 'the dumps of both volumes' "$(cat "$tmp/dump-a")" "$(kvs dump "$tmp/b.kv" | digest)"

"$mk" sample "$tmp/manifest" 200 > "$tmp/sample"
n=0
while IFS=$'\t' read -r tree key want; do
	got=$(kvs get "$tmp/a.kv" --tree "$tree" --key-enc hex "$key" | digest)
	[ "$got" = "$want" ] || fail "get of key $key in tree $tree"
	n=$((n + 1))
done < "$tmp/sample"
[ "$n" -gt 0 ] || fail 'no sample'
step "$n values read with kvs get are right"

step 'through LMDB and back'
for tree in main packages; do
	rm -f "$tmp/lmdb"*
	sub=()
	[ "$tree" = main ] || sub=(-s "$tree")
	mkfifo "$tmp/lmdb-text"
	data < "$tmp/lmdb-text" | digest > "$tmp/lmdb-ours" & sum=$!
	kvs dump "$tmp/b.kv" --tree "$tree" --format bdb | tee "$tmp/lmdb-text" |
		mdb_load -n "$tmp/lmdb.mdb" || fail "mdb_load of our dump"
	wait "$sum"
	mkfifo "$tmp/lmdb-back"
	data < "$tmp/lmdb-back" | digest > "$tmp/lmdb-theirs" & sum=$!
	mdb_dump -n "${sub[@]}" "$tmp/lmdb.mdb" | tee "$tmp/lmdb-back" | kvs load "$tmp/c.kv" - 2> /dev/null ||
		fail "load of mdb_dump"
	wait "$sum"
	equal "kvs dump and mdb_dump of $tree" "$(cat "$tmp/lmdb-ours")" "$(cat "$tmp/lmdb-theirs")"
done
equal 'the dumps before and after LMDB' "$(cat "$tmp/dump-a")" "$(kvs dump "$tmp/c.kv" | digest)"

for image in a b c; do
	[ "$(kvs check "$tmp/$image.kv")" = clean ] || fail "check of $image.kv"
done
step 'kvs check: all three volumes are clean'
printf 'demo: all good in %d s; volume %s, input %s\n' $((SECONDS - begin)) \
	"$(du -h "$tmp/a.kv" | cut -f1)" "$(cat "$tmp/made")"
