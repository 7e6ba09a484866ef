#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Real input for demo.sh, and its judge.

mk_ndjson.py make MANIFEST DIRECTORY...   NDJSON to standard output: all regular readable files below
                                          (path -> content; tree main) and the stanzas of
                                          'apt-cache dumpavail' (package -> text; tree packages).
                                          MANIFEST gets a digest per entry.
mk_ndjson.py verify MANIFEST              reads a dump from standard input: every entry of the manifest
                                          must be there once, with its digest, and nothing else.
mk_ndjson.py sample MANIFEST N            N lines "tree TAB key in hex TAB digest", evenly spread
"""
import base64
import hashlib
import json
import os
import stat
import subprocess
import sys

KEY_MAX = 511  # what LMDB can hold too


def digest(data):
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def member(name, data):
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {name + "_b64": base64.b64encode(data).decode()}


def files(directories):
    """(path, content) of every regular file that can be read and whose path fits a key."""
    for directory in directories:
        for folder, subfolders, names in os.walk(os.fsencode(directory)):
            subfolders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                try:
                    if not stat.S_ISREG(os.lstat(path).st_mode):
                        continue
                    with open(path, "rb") as f:
                        content = f.read()
                except OSError:
                    continue
                if len(path) <= KEY_MAX:
                    yield path, content


def packages():
    """(name, stanza); a further stanza of the same name gets its architecture and version too."""
    seen = set()
    out = subprocess.run(["apt-cache", "dumpavail"], stdout=subprocess.PIPE, check=True).stdout
    for stanza in out.split(b"\n\n"):
        if not stanza.strip():
            continue
        fields = dict(
            line.split(b": ", 1) for line in stanza.split(b"\n") if b": " in line and line[:1] != b" ")
        key = fields[b"Package"]
        if key in seen:
            key += b":" + fields.get(b"Architecture", b"") + b"=" + fields.get(b"Version", b"")
        if key not in seen:
            seen.add(key)
            yield key, stanza


def make(manifest_path, directories):
    count = size = 0
    out = sys.stdout
    out.reconfigure(encoding="utf-8", newline="\n")
    with open(manifest_path, "w", encoding="ascii") as manifest:
        for tree, entries in (("main", files(directories)), ("packages", packages())):
            for key, value in entries:
                line = {} if tree == "main" else {"tree": tree}
                line.update(member("key", key))
                line.update(member("value", value))
                out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
                manifest.write(f"{tree}\t{key.hex()}\t{digest(value)}\n")
                count += 1
                size += len(key) + len(value)
    print(f"{count} entries, {size >> 20} MiB", file=sys.stderr)


def read_manifest(path):
    with open(path, encoding="ascii") as f:
        return [tuple(line.rstrip("\n").split("\t")) for line in f]


def verify(manifest_path):
    want = {(tree, bytes.fromhex(key)): value for tree, key, value in read_manifest(manifest_path)}
    bad = nr = 0
    last = None
    for line in sys.stdin.buffer:
        o = json.loads(line)
        key = o["key"].encode() if "key" in o else base64.b64decode(o["key_b64"])
        value = o["value"].encode() if "value" in o else base64.b64decode(o["value_b64"])
        at = (o.get("tree", "main"), key)
        if last is not None and at <= last:  # "main" sorts before "packages"
            print(f"out of order: {at}", file=sys.stderr)
            bad += 1
        last = at
        if want.pop(at, None) != digest(value):
            print(f"wrong value or key: {at}", file=sys.stderr)
            bad += 1
        nr += 1
    for at in list(want)[:10]:
        print(f"missing: {at}", file=sys.stderr)
    bad += len(want)
    print(f"{nr} entries read back and compared by hash, {bad} wrong or missing")
    return 1 if bad or not nr else 0


def sample(manifest_path, n):
    entries = read_manifest(manifest_path)
    for i in range(n):
        print("\t".join(entries[i * len(entries) // n]))


def main(args):
    if len(args) >= 3 and args[0] == "make":
        make(args[1], args[2:])
    elif len(args) == 2 and args[0] == "verify":
        return verify(args[1])
    elif len(args) == 3 and args[0] == "sample":
        sample(args[1], int(args[2]))
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
