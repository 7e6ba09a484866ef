#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# usage.sh - the command line itself: help, version, did-you-mean, wrong usage (always status 2 and a next
# step on standard error), option forms, and the man page against the command table.

set -euo pipefail
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

img=$tmp/a.kv
kvs put "$img" key value 2> /dev/null
man=$srcdir/cli/man/kvs.1

# wrong TEXT REGEX ARGUMENT...: kvs gives 2, prints nothing, and a message that matches.
wrong() {
	local text=$1 regex=$2 status=0
	shift 2
	kvs "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null || status=$?
	if [ "$status" -eq 2 ] && [ ! -s "$tmp/out" ] && [[ $(cat "$tmp/err") =~ ^kvs:\ .*($regex) ]] &&
		[ "$(wc -l < "$tmp/err")" -eq 1 ]; then
		ok "$text"
	else
		not_ok "$text" "status $status" "$(cat "$tmp/out" "$tmp/err")"
	fi
}

wrong 'no verb' "kvs --help"
wrong 'unknown verb' "unknown verb 'frobnicate'; 'kvs --help'" frobnicate
wrong 'did you mean: swapped letters' "did you mean 'kvs get'" gte "$img" k
wrong 'did you mean: beginning' "did you mean 'kvs create'" creat "$img"
wrong 'did you mean: other word' "did you mean 'kvs del'" rm "$img" k
wrong 'did you mean: typo' "did you mean 'kvs exists'" exsits "$img" k
wrong 'an option before the verb' 'options follow it' --tree x get "$img" k
wrong 'no image' 'usage: kvs count IMAGE' count
wrong 'too few arguments' 'usage: kvs put IMAGE KEY VALUE' put "$img" key
wrong 'too many arguments' "too many arguments, at 'surplus'" get "$img" key surplus
wrong 'empty name of the image' 'name of the image is empty' get '' key
wrong 'unknown option' "kvs get takes no option '--frob'" get "$img" key --frob
wrong 'unknown letter' "kvs get takes no option '-x'" get "$img" key -x
wrong 'an option of another verb' "kvs get takes no option '--prefix'" get "$img" --prefix k
wrong 'an option without its argument' '--tree needs its argument NAME' get "$img" key --tree
wrong 'a letter without its argument' '--tree needs its argument NAME' get "$img" key -t
wrong 'bad --enc' "not auto, escape, hex" get "$img" key --enc rot13
wrong 'bad --limit' 'not a number' scan "$img" --limit many
wrong 'negative --limit' 'not a number' scan "$img" --limit=-1
wrong 'bad --output' 'not text or json' stat "$img" -o xml
wrong 'bad --format' 'not ndjson or bdb' dump "$img" --format xml
for bad in 0 x 1Q -5 1KK 99999999999999999999 20000000T ''; do
	wrong "bad --size '$bad'" 'not a size' create "$tmp/new.kv" --size="$bad"
done
wrong 'bad --block' 'not a size' create "$tmp/new.kv" --block 5G
wrong 'bad --uuid' 'not 32 hexadecimal digits' create "$tmp/new.kv" --uuid 1234
wrong 'long --label' 'longer than 32 bytes' create "$tmp/new.kv" --label "$(printf 'l%.0s' {1..33})"
wrong 'bad --cache' 'not a size' get "$img" key --cache lots
check 'wrong usage creates nothing' test ! -e "$tmp/new.kv"

for args in --help -h help; do
	kvs "$args" > "$tmp/help"
	check "kvs $args: at most 60 lines, 6 examples" \
		python3 -c 'import sys; t=open(sys.argv[1]).read(); e=t[t.index("Examples:"):]; assert t.count("\n")<=60 and e.count("\n  kvs ")==6' "$tmp/help"
done
like 'kvs --version' "$(kvs --version)" '^kvs [0-9]+\.[0-9]+\.[0-9]+ \(libkvengine [0-9.]+\)$'
like 'kvs VERB --version' "$(kvs get --version)" '^kvs [0-9]'
is 'kvs help VERB' "$(kvs help scan)" "$(kvs scan --help)"
wrong 'kvs help of an unknown verb' "unknown verb" help frobnicate

# The table, the help and the man page agree.
kvs help --table > "$tmp/table"
is 'the verbs' "$(cut -f1 "$tmp/table" | sort -u | xargs)" \
	'apply check clone count create dec del detach diff dump exists explain gc get inc load map mount put receive resize scan send snap stat trees'
sed 's/\\-/-/g; s/\\f[BRIP]//g' "$man" > "$tmp/man"
# shellcheck disable=SC2013 # words, one a line
for verb in $(cut -f1 "$tmp/table" | sort -u); do
	kvs "$verb" --help > "$tmp/help"
	like "kvs $verb --help: usage" "$(cat "$tmp/help")" "Usage: kvs $verb IMAGE"
	check "kvs --help lists $verb" grep -q "^  $verb IMAGE" <(kvs --help)
	check "the man page describes $verb" grep -Eq "^\.B[IR]? $verb( |\$)" "$tmp/man"
	# shellcheck disable=SC2013
	for option in $(sed -n "s/^$verb\t//p" "$tmp/table"); do
		check "kvs $verb --help names $option" grep -Eq -- "(, |  )$option( |\$)" "$tmp/help"
	done
done
# shellcheck disable=SC2013
for option in $(cut -f2 "$tmp/table" | sort -u); do
	check "the man page describes $option" grep -Eq -- "^\.(B|BR) (-., \"?, ?\"? ?|-[a-z] \", \" )?$option( |\$)|^\.BR .* $option " "$tmp/man"
done
check 'the man page begins with examples' \
	awk '/^\.SH EXAMPLES/ { e = NR } /^\.SH DESCRIPTION/ { exit !(e && e < NR) }' "$man"
check 'the man page has EXIT STATUS' grep -q '^.SH EXIT STATUS' "$man"
if command -v man > /dev/null; then
	is 'the man page is free of warnings' \
		"$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -l "$man" 2>&1 > /dev/null)" ''
fi

finish
