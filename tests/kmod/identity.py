# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# identity.py VERB ARGUMENT... - scripts for 'kvs apply' from a seed, what a volume may hold after them, and
# images byte by byte. For identity.sh, on the host.
#
#	make STATE SCRIPT SEED OPERATIONS   a script that goes on from STATE (a missing file: an empty volume)
#	judge STATE SCRIPT DUMP SAID LEVEL  does DUMP hold a prefix of SCRIPT that has all that was said to be
#	                                    done ("done N"; LEVEL done) or durable ("durable N"; LEVEL durable),
#	                                    or everything (LEVEL all)? Then STATE becomes that prefix.
#	compare IMAGE IMAGE [tail]          where they differ; "tail": the blocks of the segment TAIL behind its
#	                                    header, which hold window and tail places, do not count
#	flip IMAGE OFFSET                   changes one bit: what the others must notice

import hashlib
import json
import pickle
import random
import sys

TREES = ["main", "alpha", "beta", "gamma"]
DONE_EVERY = 20		# operations between two lines "echo done"
APPEND_MAX = 40000	# the view appends in memory up to 64 KiB
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,-+/"

SEG_TAIL = 1		# docs/FORMAT.md, section 3


def die(*words):
	print("identity.py:", *words, file=sys.stderr)
	sys.exit(1)


# ---- state: {tree: {key: value}}, and its digest -----------------------------------------------------


def pair_digest(tree, key, value):
	h = hashlib.blake2b(b"%s\0%s\0%s" % (tree.encode(), key.encode(), value.encode()), digest_size=8)
	return int.from_bytes(h.digest(), "little")


class State:
	def __init__(self):
		self.trees = {t: {} for t in TREES}
		self.digest = 0

	def set(self, tree, key, value):
		old = self.trees[tree].get(key)
		if old is not None:
			self.digest -= pair_digest(tree, key, old)
		if value is None:
			del self.trees[tree][key]
		else:
			self.trees[tree][key] = value
			self.digest += pair_digest(tree, key, value)

	# A line of a script; the tree at hand is the caller's.
	def apply(self, tree, words):
		verb, key = words[0], words[1]
		if verb == "put":
			self.set(tree, key, words[2])
		elif verb == "append":
			self.set(tree, key, self.trees[tree][key] + words[2])
		elif verb in ("inc", "dec"):
			self.set(tree, key, str(int(self.trees[tree][key]) + (1 if verb == "inc" else -1)))
		elif verb == "del":
			self.set(tree, key, None)


def load(path):
	try:
		with open(path, "rb") as f:
			return pickle.load(f)
	except FileNotFoundError:
		return State()


def save(path, state):
	with open(path, "wb") as f:
		pickle.dump(state, f)


# ---- scripts -----------------------------------------------------------------------------------------


class Maker:
	def __init__(self, state, seed, operations):
		self.state = state
		# Of a tree, of each kind at most: most operations meet a key that is there.
		self.keys = max(20, operations // 40)
		self.random = random.Random(seed)
		self.tree = "main"
		self.lines = ["tree\tmain"]
		self.pool = "".join(self.random.choices(LETTERS, k=1 << 18))
		self.n = 0	# operations
		self.have = {t: list(keys) for t, keys in state.trees.items()}

	def line(self, *words):
		self.state.apply(self.tree, words)
		self.lines.append("\t".join(words))
		self.n += 1

	def text(self, least, most):
		length = self.random.randint(least, most)
		at = self.random.randrange(len(self.pool) - length)
		# No two are alike, and none is empty or looks like a number.
		return "v%d:%s" % (self.n, self.pool[at:at + length])

	# Small ones stand in the leaf, others in the log alone, and few are kept in chunks.
	def value(self, key):
		if key.startswith("l"):
			return self.text(70000, 200000)
		dice = self.random.random()
		if dice < 0.75:
			return self.text(0, 300)
		return self.text(500, 2500) if dice < 0.985 else self.text(4000, 20000)

	def new_key(self):
		dice = self.random.random()
		kind = "l" if dice < 0.002 else "n" if dice < 0.15 else "k"
		return "%s%05d" % (kind, self.random.randrange(6 if kind == "l" else self.keys))

	def put_new(self, key):
		self.line("put", key, "")
		self.have[self.tree].append(key)
		self.line("put", key, str(self.random.randint(-9, 999)) if key[0] == "n" else self.value(key))

	def change(self):
		have, keys = self.have[self.tree], self.state.trees[self.tree]
		key = self.new_key()
		dice = self.random.random()
		if key not in keys and (dice < 0.5 or len(have) < 20):
			return self.put_new(key)
		at = self.random.randrange(len(have))
		key = have[at]
		if dice > 0.93:
			have[at] = have[-1]
			have.pop()
			return self.line("del", key)
		if dice > 0.92 and key[0] == "k":
			return self.line("put", key, "")
		if key[0] == "n" and keys[key]:
			return self.line("inc" if dice < 0.7 else "dec", key)
		if key[0] == "n":	# a crash came between making it and its first number
			return self.line("put", key, str(self.random.randint(-9, 999)))
		if dice < 0.3 and len(keys[key]) < APPEND_MAX and key[0] == "k":
			return self.line("append", key, self.text(0, 400))
		if key[0] == "l" and self.random.random() < 0.7:
			return None
		return self.line("put", key, self.value(key))

	def script(self, operations):
		gap = max(1, min(1500, operations // 20))	# longest between two lines "sync"
		done, sync = 0, self.random.randint(1, gap)
		while self.n < operations:
			if self.random.random() < 0.04:
				self.tree = self.random.choice(TREES)
				self.lines.append("tree\t" + self.tree)
			self.change()
			if self.n >= sync:
				sync = self.n + self.random.randint(1, gap)
				self.lines += ["sync", "echo\tdurable %d" % len(self.lines)]
			if self.n - done >= DONE_EVERY:
				done = self.n
				self.lines.append("echo\tdone %d" % len(self.lines))


def cmd_make(state, script, seed, operations):
	before = load(state)
	save(state, before)
	m = Maker(before, "identity %s" % seed, int(operations))
	m.script(int(operations))
	with open(script, "w") as f:
		f.write("\n".join(m.lines) + "\n")


# ---- what a volume holds -----------------------------------------------------------------------------


def dump_digest(path):
	digest = 0
	with open(path) as f:
		for line in f:
			e = json.loads(line)
			digest += pair_digest(e.get("tree", "main"), e["key"], e["value"])
	return digest


# Lines of the script that somebody was told of. What a reset cut off in the middle was not said.
def said(path, level):
	words = {"durable": ("durable",), "done": ("durable", "done"), "all": ("durable", "done")}[level]
	most = 0
	with open(path, errors="replace") as f:
		for line in f.read().split("\n")[:-1]:
			part = line.strip().split()
			if len(part) == 2 and part[0] in words and part[1].isdigit():
				most = max(most, int(part[1]))
	return most


def cmd_judge(state_path, script, dump, said_path, level):
	state, tree, found = load(state_path), "main", None
	want, least = dump_digest(dump), said(said_path, level)
	with open(script) as f:
		lines = f.read().split("\n")[:-1]
	if level == "all":
		least = len(lines)
	if state.digest == want:
		found = 0
		kept = pickle.dumps(state)
	for n, line in enumerate(lines, 1):
		if found is not None and found >= least:
			break
		words = line.split("\t")
		if words[0] == "tree":
			tree = words[1]
		elif words[0] not in ("sync", "echo"):
			state.apply(tree, words)
			if state.digest == want:
				kept = pickle.dumps(state)
		if state.digest == want:
			found = n
	if found is None:
		die("no prefix of the script leaves what the dump holds")
	if found < least:
		die("the volume ends at line %d, but line %d was said to be %s" % (found, least, level))
	with open(state_path, "wb") as f:
		f.write(kept)
	print("holds %d of %d lines; %d were said to be %s" % (found, len(lines), least, level))


# ---- images ------------------------------------------------------------------------------------------


MAGIC = b"\x89KVS\r\n\x1a\n"
BLOCK_SHIFT, SEGMENT_SHIFT = 0x60, 0x61		# in a superblock: docs/FORMAT.md, section 5


def read_image(path, without_tail):
	with open(path, "rb") as f:
		image = bytearray(f.read())
	# The first group: four slots, of which a young volume has not used all.
	slot = next((at for at in range(0, 4 * 4096, 512) if image[at:at + 8] == MAGIC), None)
	if slot is None:
		die(path, "has no superblock")
	block, segment = 1 << image[slot + BLOCK_SHIFT], 1 << image[slot + SEGMENT_SHIFT]
	if without_tail:
		begin, end = SEG_TAIL * segment + block, (SEG_TAIL + 1) * segment
		image[begin:end] = bytes(end - begin)
	return image, block, segment


def cmd_compare(a_path, b_path, tail=""):
	a, block, segment = read_image(a_path, tail)
	b, _, _ = read_image(b_path, tail)
	if len(a) != len(b):
		die("%d bytes and %d bytes" % (len(a), len(b)))
	print("sha256", hashlib.sha256(a).hexdigest(), hashlib.sha256(b).hexdigest())
	bad = [at for at in range(0, len(a), block) if a[at:at + block] != b[at:at + block]]
	for at in bad[:20]:
		first = next(i for i in range(at, at + block) if a[i] != b[i])
		print("segment %d, block %d: first difference at byte %d: %s and %s" % (at // segment,
			at % segment // block, first % block, a[first:first + 16].hex(), b[first:first + 16].hex()))
	if bad:
		die("%d of %d blocks differ" % (len(bad), len(a) // block))


def cmd_flip(path, offset):
	with open(path, "r+b") as f:
		f.seek(int(offset))
		byte = f.read(1)[0] ^ 1
		f.seek(int(offset))
		f.write(bytes([byte]))


verbs = {"make": cmd_make, "judge": cmd_judge, "compare": cmd_compare, "flip": cmd_flip}
if len(sys.argv) < 2 or sys.argv[1] not in verbs:
	die("verbs are", ", ".join(verbs))
verbs[sys.argv[1]](*sys.argv[2:])
