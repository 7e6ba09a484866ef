#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# map.sh - kvs map: as text, JSON and HTML it says of each segment what kvs stat says of all; what it names
# as GC's next victim, GC empties. Forged and damaged images are drawn, too.

# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

image=$tmp/a.kv

# Some of the keys, in order, are set again: segments die to different degrees.
kvs create "$image" --block 512 --segment 16K --frame 2K --window 1
for i in {100..999}; do
	printf 'put\tkey%d\t%0400d\n' "$i" "$i"
done > "$tmp/script"
for i in {100..400..3} {500..800..2}; do
	printf 'put\tkey%d\t%0401d\n' "$i" "$i"
done >> "$tmp/script"
kvs apply "$image" "$tmp/script" > /dev/null

kvs map "$image" > "$tmp/text"
kvs map "$image" -o json > "$tmp/json"
kvs stat "$image" -o json > "$tmp/stat"

# Prints number and generation of the next victim.
cat > "$tmp/compare.py" << 'EOF'
import json, sys
m, s = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
seg = m["segments"]
def kinds(*k):
    return sum(x["what"] in k for x in seg)
assert len(seg) == s["segments"], (len(seg), s["segments"])
assert kinds("tree") == s["segments_tree"], (kinds("tree"), s["segments_tree"])
assert kinds("log", "cold", "head", "freed") == s["segments_log"], s["segments_log"]
assert kinds("free") == s["segments_free"], (kinds("free"), s["segments_free"])
live = sum(x["live_bytes"] for x in seg if x["what"] in ("log", "cold", "head"))
assert live == s["live_bytes"], (live, s["live_bytes"])
assert [x["number"] for x in seg] == list(range(len(seg)))
assert m["generation"] == s["generation"]
victims = sorted((x for x in seg if x["victim"]), key=lambda x: x["victim"])
assert [x["victim"] for x in victims] == list(range(1, len(victims) + 1)) and len(victims) > 3
assert all(a["score"] >= b["score"] for a, b in zip(victims, victims[1:]))
lives = sorted(x["live_bytes"] for x in victims)
assert victims[0]["live_bytes"] <= lives[len(lives) // 2] <= victims[-1]["live_bytes"], "the fullest first"
print(victims[0]["number"], victims[0]["generation"])
EOF
check 'segments, live bytes and generation are those of kvs stat' \
	python3 "$tmp/compare.py" "$tmp/json" "$tmp/stat"
read -r victim gen < <(python3 "$tmp/compare.py" "$tmp/json" "$tmp/stat")

# ---- a terminal -----------------------------------------------------------------------------------

like 'first line' "$(head -n 1 "$tmp/text")" '^[0-9]+ segments of 16384 bytes, generation [0-9]+, closed cleanly$'
cat > "$tmp/cells.py" << 'EOF'
import json, re, sys
letters = dict(super="S", tail="W", head="H", log="L", cold="C", freed="x", tree="T", free=".", unknown="?")
cells = []
for line in open(sys.argv[1]):
    row = re.match(r"^ *(\d+) ((?:[SWHLCxT.?].[ 1-9])+)$", line.rstrip("\n"))
    if row:
        assert int(row[1]) == len(cells), line
        cells += re.findall("...", row[2])
want = []
for x in json.load(open(sys.argv[2]))["segments"]:
    v, f = x["victim"], x["fill"] // 10
    graded = x["what"] in ("head", "log", "cold", "freed", "tree")
    want.append(letters[x["what"]] + (" " if not graded else "#" if f > 9 else str(f)) +
                (str(v) if 0 < v < 10 else " "))
assert cells == want, (cells, want)
EOF
check 'the cells are those of the JSON' python3 "$tmp/cells.py" "$tmp/text" "$tmp/json"
is 'no colour but on a terminal' "$(grep -c $'\033' "$tmp/text" || true)" 0

# terminal COMMAND: its output on a terminal of 40 columns.
cat > "$tmp/terminal.py" << 'EOF'
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if not pid:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    sys.stdout.buffer.write(data.replace(b"\r\n", b"\n"))
os.waitpid(pid, 0)
EOF
python3 "$tmp/terminal.py" kvs map "$image" > "$tmp/tty"
check 'in colour on a terminal' grep -q $'\033\[3' "$tmp/tty"
sed 's/\x1b\[[0-9;]*m//g' "$tmp/tty" > "$tmp/plain"
check 'the same cells' python3 "$tmp/cells.py" "$tmp/plain" "$tmp/json"
is 'as wide as it is' "$(grep -E '^ *[0-9]+ [SWHLCxT.?]' "$tmp/plain" | awk 'length > 40' | wc -l)" 0
NO_COLOR=1 python3 "$tmp/terminal.py" kvs map "$image" > "$tmp/tty"
is 'not with NO_COLOR' "$(grep -c $'\033' "$tmp/tty" || true)" 0

# ---- the page for a browser -----------------------------------------------------------------------

cat > "$tmp/page.py" << 'EOF'
import html.parser, json, re, sys
text = open(sys.argv[1]).read()
nr = len(json.load(open(sys.argv[2]))["segments"])
class Page(html.parser.HTMLParser):
    titles, stack = 0, []
    def handle_starttag(self, tag, attrs):
        assert not {"src", "href", "xlink:href"} & {a for a, _ in attrs}
        assert tag not in ("script", "link", "img", "iframe", "object")
        if tag != "meta":
            self.stack.append(tag)
        self.titles += tag == "title"
    def handle_startendtag(self, tag, attrs):
        assert tag == "rect"
    def handle_endtag(self, tag):
        assert self.stack.pop() == tag
p = Page()
p.feed(text)
assert not p.stack and p.titles == nr + 1, (p.stack, p.titles, nr)
assert "http" not in text and "url(" not in text
assert re.search(r"segment 3: [a-z]+, byte 49152\n", text)
EOF
check '--html' kvs map "$image" --html "$tmp/map.html"
check 'the page is well-formed, has a cell for each segment, and refers to nothing' \
	python3 "$tmp/page.py" "$tmp/map.html" "$tmp/json"
cp "$image" "$tmp/<&\">.kv"
check 'a name that would be markup' kvs map "$tmp/<&\">.kv" --html "$tmp/map.html"
check 'is text there' python3 "$tmp/page.py" "$tmp/map.html" "$tmp/json"
check 'not over the image itself' expect 2 kvs map "$image" --html "$image"
check 'nor where it cannot be written' expect 3 kvs map "$image" --html "$tmp/none/map.html"
check 'the image is as it was' kvs-fsck -n "$image"

# ---- GC does what the map says --------------------------------------------------------------------

kvs gc "$image" > /dev/null
kvs map "$image" -o json > "$tmp/json"
cat > "$tmp/emptied.py" << 'EOF'
import json, sys
s = json.load(open(sys.argv[1]))["segments"][int(sys.argv[2])]
assert s["what"] in ("free", "freed") or s["generation"] != int(sys.argv[3]), s
EOF
check 'the next victim was emptied' python3 "$tmp/emptied.py" "$tmp/json" "$victim" "$gen"

# ---- others ---------------------------------------------------------------------------------------

check 'not through a mount' expect 2 kvs map mount:/nowhere
check 'a missing image' expect 5 kvs map "$tmp/none.kv"
check 'no volume' expect 5 kvs map "$tmp/script"
# the first page of a tree: everybody needs it
tree=$(python3 -c 'import json, sys
print([s["number"] for s in json.load(open(sys.argv[1]))["segments"] if s["what"] == "tree" and s["pages"]][0])' \
	"$tmp/json")
for ((at = 0; at < 16384; at += 512)); do
	printf '\377' | dd of="$image" bs=1 seek=$((16384 * tree + at + 20)) conv=notrunc status=none
done
code=0
kvs map "$image" > "$tmp/text" 2> "$tmp/err" || code=$?
is 'a damaged image is drawn, exit status 4' "$code $(head -n 1 "$tmp/text" | grep -c segments)" '4 1'
for forged in "$srcdir"/tests/images/forged/*.xz; do
	name=${forged##*/}
	xz -dc "$forged" > "$tmp/forged.kv"
	code=0
	timeout 60 kvs map "$tmp/forged.kv" --html "$tmp/map.html" > /dev/null 2>&1 || code=$?
	if [ "$code" -lt 6 ]; then
		ok "forged image ${name%.xz}: exit status $code"
	else
		not_ok "forged image ${name%.xz}: exit status $code"
	fi
done
finish
