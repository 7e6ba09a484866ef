#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# style.sh - rules of style and of layers that a text search can judge. Each check lists the offending
# places as file:line. Rules that need a compiler are in symbols.sh and .ci/lint.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

# none below reads a pipe and counts: in this shell, not in a child.
shopt -s lastpipe
cd "$srcdir"
folders=(format engine kvfs cli lib fsck kmod fuzz tests docs .ci)
mapfile -t c_files < <(find "${folders[@]}" -name '*.[ch]' | sort)
mapfile -t core_files < <(find format engine -path engine/user -prune -o -name '*.[ch]' -print | sort)
mapfile -t scripts < <(
	echo bootstrap
	find .ci tests fuzz -type f \( -name '*.sh' -o -path '.ci/*' ! -name '*.md' \) | sort
)
mapfile -t lists < <(
	printf '%s\n' configure.ac Makefile.am engine/libkvengine.map
	find "${folders[@]}" -name Makefile.inc
)

# none TEXT: passes if standard input is empty.
none() {
	cat > "$tmp/places"
	if [ -s "$tmp/places" ]; then
		not_ok "$1" "$(head -n 40 "$tmp/places")"
	else
		ok "$1"
	fi
}

# without_comments FILE...: the C sources with comments and strings blanked, as file:line:text.
without_comments() {
	awk '
	FNR == 1 { open = 0 }
	{
		text = $0
		gsub(/\\./, "", text)
		gsub(/"[^"]*"/, "\"\"", text)
		out = ""
		while (text != "") {
			if (open) {
				i = index(text, "*/")
				if (!i) break
				text = substr(text, i + 2)
				open = 0
			} else {
				i = index(text, "/*")
				if (!i) { out = out text; break }
				out = out substr(text, 1, i - 1)
				text = substr(text, i + 2)
				open = 1
			}
		}
		sub(/\/\/.*/, "", out)
		print FILENAME ":" FNR ":" out
	}' "$@"
}
without_comments "${c_files[@]}" > "$tmp/code"
without_comments "${core_files[@]}" > "$tmp/core"

# ---- files ---------------------------------------------------------------------------------------

for f in "${c_files[@]}" "${scripts[@]}" "${lists[@]}"; do
	head -n 3 "$f" | grep -qE "SPDX-License-Identifier: (GPL-2.0-only|[(]GPL-2.0-only WITH Linux-syscall-note[)]) OR BSD-2-Clause" || echo "$f:1"
done | none 'each source names its licence at the top'

for f in "${c_files[@]}"; do
	lines=$(wc -l < "$f")
	[ "$lines" -le 1000 ] || echo "$f: $lines lines"
done | none 'no source file is longer than 1000 lines'

awk 'FNR <= 3 && /\/\*/ && !/SPDX/ { seen[FILENAME] = 1 }
	END { for (i = 1; i < ARGC; i++) if (!(ARGV[i] in seen)) print ARGV[i] ":2" }' "${c_files[@]}" |
	none 'each C file says its purpose right after the licence'

for f in "${folders[@]}" engine/user; do
	[ -s "$f/README.md" ] || echo "$f/README.md"
done | none 'each folder has a README.md'

# A source is named with its path in a Makefile.inc, a test program without .c.
for f in "${c_files[@]}"; do
	case $f in
	docs/* | kmod/*) continue ;;
	esac
	grep -qE "(^|[[:space:]])(${f//./\\.}|${f%.c})([[:space:]]|\$)" "${lists[@]}" || echo "$f"
done | none 'each C file is listed in a Makefile.inc'

for f in tests/*/*.sh fuzz/*.sh; do
	[ ! -e "$f" ] || grep -qE "(^|[[:space:]])${f//./\\.}([[:space:]]|\$)" "${lists[@]}" || echo "$f"
done | none 'each shell script is listed in a Makefile.inc'

# ---- lines ---------------------------------------------------------------------------------------

for f in "${c_files[@]}"; do
	expand "$f" | awk -v f="$f" 'length($0) > 110 { print f ":" FNR ": " length($0) " columns" }'
done | none 'no C line is longer than 110 columns (the aim is 100)'

{ grep -nE '[[:space:]]+$' "${c_files[@]}" "${scripts[@]}" "${lists[@]}" || true; } |
	none 'no white space at the end of a line'

{ grep -nE '^ {8}' "${c_files[@]}" || true; } | none 'C code is indented by tabs'

# The words are split so that this file does not find itself.
words='TO''DO|FIX''ME|XX''X|HA''CK'
{ grep -nwE "$words" "${c_files[@]}" "${scripts[@]}" "${lists[@]}" || true; } |
	none 'no note of unfinished work'

awk '
	FNR == 1 { start = 0 }
	/^\{/ { start = FNR }
	/^\}/ && start {
		if (FNR - start - 1 > 100) print FILENAME ":" start ": " FNR - start - 1 " lines"
		start = 0
	}' "${c_files[@]}" | none 'no function is longer than 100 lines'

# ---- layers --------------------------------------------------------------------------------------

{ grep -E '__KERNEL__' "$tmp/code" | grep -vE '^(kmod|engine/user)/' || true; } |
	none '__KERNEL__ is tested only in the port'

{ grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*<' "${core_files[@]}" |
	grep -v '^engine/include/kvengine\.h:.*<std\(def\|int\)\.h>' || true; } |
	none 'format/ and the core of engine/ include only quoted headers'

{ grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"(\.\./)*(engine/)?user/' "${core_files[@]}" || true; } |
	none 'the core does not reach into engine/user/'

{ grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"[^"]*(engine|cli|fsck|tests)/' format/*.[ch] || true; } |
	none 'format/ includes nothing of the others'

{ grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"[^"]*(cli|fsck|tests)/' "${core_files[@]}" || true; } |
	none 'the engine includes nothing of the tools'

{ find fsck -name '*.[ch]' -exec grep -nHE '#[[:space:]]*include.*(kvengine\.h|kve[a-z_]*\.h|node\.h)' {} + || true; } |
	none 'fsck/ includes nothing of the engine but its port'

{ grep -E '\b(float|double)\b' "$tmp/core" || true; } | none 'no floating point in the core'

{ grep -E '\b(malloc|calloc|realloc|alloca|strcpy|strcat|sprintf|gets)[[:space:]]*\(' "$tmp/core" || true; } |
	none 'no libc allocation or unbounded copy in the core'

finish
