#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# example.sh - docs/example.c as a user builds it: flags from pkg-config alone, against the shared
# library and against the static one; in C, and the header in C++.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

export PKG_CONFIG_PATH=$builddir
cc=${CC:-cc}
read -ra cflags <<< "$(pkg-config --cflags kvengine)"
read -ra libs <<< "$(pkg-config --libs kvengine)"
read -ra private <<< "$(pkg-config --libs --static kvengine | sed 's/[^ ]*-lkvengine//')"

# run PROGRAM: twice on one image; the second run sees what the first has stored.
run() {
	local text=$1 program=$2

	rm -f "$tmp/example.kv"
	check "$text: first run" expect 0 "$program" "$tmp/example.kv"
	is "$text: output of the first run" "$("$program" "$tmp/again.kv" 2>&1)" \
		$'an apple is red\nfruit/cherry = dark red\nfruit/pear = green\nvisit 1'
	like "$text: the second run counts on" "$("$program" "$tmp/example.kv" 2>&1)" $'\nvisit 2$'
	rm -f "$tmp/again.kv"
}

check 'compiles and links by pkg-config' \
	"$cc" -Wall -Wextra -Werror "${cflags[@]}" "$srcdir/docs/example.c" "${libs[@]}" \
	-o "$tmp/example"
run 'shared' "$tmp/example"
check 'compiles and links with the static library' \
	"$cc" "${cflags[@]}" "$srcdir/docs/example.c" "$builddir/.libs/libkvengine.a" \
	"${private[@]}" -o "$tmp/example-static"
run 'static' "$tmp/example-static"

printf '#include <kvengine.h>\nint main(void)\n{\n\treturn kv_version() ? 0 : 1;\n}\n' > "$tmp/header.c"
for std in c99 c11 gnu17; do
	check "kvengine.h is clean in $std" \
		"$cc" -std=$std -pedantic -Wall -Wextra -Werror "${cflags[@]}" -fsyntax-only "$tmp/header.c"
done
if command -v c++ > /dev/null; then
	check 'kvengine.h is clean in C++17' \
		c++ -x c++ -std=c++17 -Wall -Wextra -Werror "${cflags[@]}" -fsyntax-only "$tmp/header.c"
else
	diag 'no C++ compiler here: the header was not tried in C++'
fi
finish
