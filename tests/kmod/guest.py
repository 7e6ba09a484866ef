# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# guest.py VERB ARGUMENT... - what guest.sh checks that a shell cannot: system calls, several processes
# at once, large values. Prints TAP without a plan. Runs with the little of python's library that
# initrd.sh packs. The verb "dump" is for the host, to compare what it has with what the guest saw.

import array
import errno
import fcntl
import os
import struct
import sys
import time

failed = False


def check(text, good, *details):
	global failed
	print("ok - " + text if good else "not ok - " + text)
	if not good:
		failed = True
		for d in details:
			print("#  ", d)
	sys.stdout.flush()


def error_of(call, *args):
	"""The errno of a call that should fail, as its name; or what it gave."""
	try:
		return "no error but %r" % (call(*args),)
	except OSError as e:
		return errno.errorcode.get(e.errno, str(e.errno))


# Not larger: the emulated machine takes long to give memory to the process and back.
def read_all(path, piece=65536):
	fd = os.open(path, os.O_RDONLY)
	try:
		parts = []
		while True:
			part = os.read(fd, piece)
			if not part:
				return b"".join(parts)
			parts.append(part)
	finally:
		os.close(fd)


def read_once(path):
	fd = os.open(path, os.O_RDONLY)
	try:
		return os.read(fd, 16384)
	finally:
		os.close(fd)


def write_once(path, data, flags=os.O_CREAT | os.O_TRUNC):
	fd = os.open(path, os.O_WRONLY | flags, 0o660)
	try:
		return os.write(fd, data)
	finally:
		os.close(fd)


def parallel(workers):
	"""Each worker in a process of its own, all at once; what each returned (bytes), or None."""
	pipes = []
	go_r, go_w = os.pipe()
	for w in workers:
		r, wr = os.pipe()
		if os.fork() == 0:
			result = None
			try:
				os.close(go_w)
				os.read(go_r, 1)
				result = w()
			except BaseException as e:
				print("worker:", repr(e), file=sys.stderr)
			if result is not None:
				os.write(wr, b"+" + result)
			os._exit(0)
		os.close(wr)
		pipes.append(r)
	os.close(go_r)
	os.close(go_w)
	results = []
	for r in pipes:
		data = b""
		while True:
			part = os.read(r, 65536)
			if not part:
				break
			data += part
		os.close(r)
		results.append(data[1:] if data else None)
	for _ in workers:
		os.wait()
	return results


# ---- many keys -------------------------------------------------------------------------------------


def many_value(i):
	return b"value of %d " % i * (1 + i % 7)


def fill(where, count):
	begin = time.monotonic()
	for i in range(count):
		write_once("%s/many%05d" % (where, i), many_value(i))
	spent = time.monotonic() - begin
	print("# %d keys created in %.1f s" % (count, spent))


def verify(where, count, text):
	names = set(n for n in os.listdir(where) if n.startswith("many"))
	want = set("many%05d" % i for i in range(count))
	bad = [n for n in want if n in names and read_all("%s/%s" % (where, n)) != many_value(int(n[4:]))]
	check(text, names == want and not bad,
		"%d names, %d of them missing, wrong values: %s" % (len(names), len(want - names), bad[:5]))


def empty(where, count):
	"""Deletes what fill() made while the directory is being listed."""
	seen = 0
	with os.scandir(where) as it:
		for e in it:
			if e.name.startswith("many"):
				os.unlink(e.path)
				seen += 1
	left = [n for n in os.listdir(where) if n.startswith("many")]
	check("a listing goes on while its keys are deleted: %d keys" % count,
		seen == count and not left, "%d seen, %d left" % (seen, len(left)))


# ---- large values ----------------------------------------------------------------------------------


def block(n):
	"""Block n of a large value: no two are the same, and half of each does not compress."""
	noise = struct.pack("<Q", n * 0x9e3779b97f4a7c15 & 0xffffffffffffffff)
	return (noise + STATIC)[:65536]


STATIC = os.urandom(32768) + bytes(32768)


def stream(path, mib):
	blocks = mib * 16
	fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o660)
	for n in range(blocks):
		if os.write(fd, block(n)) != 65536:
			check("a write of a large value is whole", False, "block %d" % n)
	os.close(fd)
	size = os.stat(path).st_size
	check("write=stream: a value of %d MiB has its size" % mib, size == mib << 20, size)
	fd = os.open(path, os.O_RDONLY)
	bad = [n for n in range(blocks) if os.read(fd, 65536) != block(n)]
	check("write=stream: it is read as it was written", not bad and not os.read(fd, 1), bad[:5])
	some = [blocks - 1, 0, blocks // 2, 7]
	bad = [n for n in some if os.pread(fd, 65536, n * 65536) != block(n)]
	os.close(fd)
	check("write=stream: pread finds every place of it (K5)", not bad, bad)
	fd = os.open(path, os.O_WRONLY)
	os.pwrite(fd, b"changed", 5 * 65536 + 11)
	os.close(fd)
	want = block(5)[:11] + b"changed" + block(5)[18:]
	fd = os.open(path, os.O_RDONLY)
	got = os.pread(fd, 65536, 5 * 65536)
	os.close(fd)
	check("write=stream: pwrite changes bytes in the middle and no others",
		got == want and os.stat(path).st_size == mib << 20)


# ---- races (K12): four processes; suite.sh has two, and the increments -----------------------------


def control(where, name, keys):
	"""Which of the keys the control file took, as a byte each: 1, or 0 and the expected error."""
	fd = os.open("%s/%s" % (where, name), os.O_WRONLY)
	out = bytearray()
	for k in keys:
		try:
			os.write(fd, k)
			out.append(1)
		except OSError as e:
			if e.errno not in (errno.EEXIST, errno.ENOENT):
				raise
			out.append(0)
	os.close(fd)
	return bytes(out)


def races(where, count=200, workers=4):
	keys = [b"race%03d" % i for i in range(count)]

	def once(text, name):
		got = parallel([lambda: control(where, name, keys)] * workers)
		good = None not in got and all(sum(r[i] for r in got) == 1 for i in range(count))
		check(text, good, [r and sum(r) for r in got])

	once("K12 create/create: each key is made by exactly one of four", "_mk")
	once("K12 delete/delete: each key is deleted by exactly one of four", "_del")

	path = where + "/shared"
	write_once(path, b"A" * 5000)

	def whole(data):
		return len(set(data)) <= 1 and len(data) in (0, 5000, 9000)

	def accessor(letter, size):
		def run():
			for i in range(count):
				write_once(path, letter * size)
				if not whole(read_once(path)):
					return b"mixed"
			return b"good"
		return run

	got = parallel([accessor(b"A", 5000), accessor(b"B", 9000), accessor(b"C", 5000), accessor(b"D", 9000)])
	check("K12 S16 access/access: a reader sees one value, whole", got == [b"good"] * 4, got)

	def deleter():
		for i in range(count):
			try:
				os.unlink(path)
			except FileNotFoundError:
				pass
		return b"good"

	def user(letter):
		def run():
			for i in range(count):
				try:
					write_once(path, letter * 5000)
					if not whole(read_once(path)):
						return b"mixed"
				except OSError as e:
					if e.errno not in (errno.ENOENT, errno.ESTALE):
						raise
			return b"good"
		return run

	got = parallel([deleter, deleter, user(b"A"), user(b"B")])
	check("K12 delete/access: a whole value, or ENOENT, or ESTALE", got == [b"good"] * 4, got)

	def create(name):
		try:
			write_once("%s/%s" % (where, name), b"moved")
		except OSError as e:
			if e.errno != errno.ESTALE:  # another file was renamed to it meanwhile
				raise

	def renamer(a, b):
		def run():
			for i in range(count):
				try:
					os.rename("%s/%s" % (where, a), "%s/%s" % (where, b))
				except FileNotFoundError:
					create(a)
			return b"good"
		return run

	got = parallel([renamer("mv1", "mv2"), renamer("mv2", "mv1"), renamer("mv1", "mv3"), renamer("mv3", "mv2")])
	check("renames across each other end", got == [b"good"] * 4, got)
	for n in ("shared", "mv1", "mv2", "mv3"):
		if os.path.exists("%s/%s" % (where, n)):
			os.unlink("%s/%s" % (where, n))


# ---- ioctls (kmod/kvfs_ioctl.h) ---------------------------------------------------------------------

KV = "=IIQQQQIIII"
INC = "=IIQIIqq"
SCAN = "=IIQQIIQQIIII"


def number(direction, nr, layout):
	return direction << 30 | struct.calcsize(layout) << 16 | 0xBD << 8 | nr


GET, PUT, DEL = number(3, 1, KV), number(1, 2, KV), number(1, 3, KV)
INCREMENT, SCANNING = number(3, 4, INC), number(3, 5, SCAN)


def address(buf):
	return buf.buffer_info()[0] if len(buf) else 0


def kv(fd, request, key, value=b"", room=0, flags=0, reserved=0):
	k = array.array("B", key)
	v = array.array("B", value or bytes(room))
	arg = bytearray(struct.pack(KV, struct.calcsize(KV), flags, address(k), address(v), 0,
		len(v), len(k), reserved, 0, 0))
	fcntl.ioctl(fd, request, arg)
	length = struct.unpack(KV, arg)[5]
	return length, v.tobytes()[:length]


def scan(fd):
	buf = array.array("B", bytes(65536))
	arg = bytearray(struct.pack(SCAN, struct.calcsize(SCAN), 0, 0, 0, 0, 0, address(buf), len(buf), 0, 0, 0, 0))
	fcntl.ioctl(fd, SCANNING, arg)
	out = struct.unpack(SCAN, arg)
	data, at, records = buf.tobytes(), 0, []
	for _ in range(out[9]):
		value_len, key_len, flags = struct.unpack_from("=QII", data, at)
		at += 16
		records.append((data[at:at + key_len], data[at + key_len:at + key_len + value_len]))
		at += (key_len + value_len + 7) & ~7
	return records


def ioctls(where):
	root = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
	kv(root, PUT, b"io/ctl\0key", b"by ioctl")
	check("ioctl PUT, and a file shows it (K9 K10)",
		read_all(where + "/io%2Fctl%00key") == b"by ioctl", os.listdir(where))
	fd = os.open(where + "/io%2Fctl%00key", os.O_RDWR)
	check("the file shows its size", os.fstat(fd).st_size == 8)
	kv(root, PUT, b"io/ctl\0key", b"longer by ioctl")
	check("an open file shows a change by ioctl",
		os.pread(fd, 100, 0) == b"longer by ioctl" and os.fstat(fd).st_size == 15)
	os.write(fd, b"by file")
	check("ioctl GET shows a change by file", kv(fd, GET, b"io/ctl\0key", room=100) == (7, b"by file"))
	check("ioctl GET tells the length when there is no room", kv(root, GET, b"io/ctl\0key", room=2)[0] == 7)
	check("ioctl PUT NEW: EEXIST", error_of(kv, root, PUT, b"io/ctl\0key", b"x", 0, 1) == "EEXIST")
	check("ioctl PUT REPLACE: ENOENT", error_of(kv, root, PUT, b"io none", b"x", 0, 2) == "ENOENT")
	check("ioctl GET of no key: ENOENT", error_of(kv, root, GET, b"io none", b"", 10) == "ENOENT")
	check("ioctl with a reserved field: EINVAL", error_of(kv, root, PUT, b"io", b"x", 0, 0, 1) == "EINVAL")
	check("ioctl with an unknown flag: EINVAL", error_of(kv, root, PUT, b"io", b"x", 0, 0x80) == "EINVAL")
	check("an unknown ioctl: ENOTTY", error_of(fcntl.ioctl, root, 0xBDFF, 0) == "ENOTTY")
	arg = struct.pack(KV, struct.calcsize(KV), 0, 8, 8, 0, 4, 4, 0, 0, 0)
	check("ioctl with a bad address: EFAULT", error_of(fcntl.ioctl, root, PUT, arg) == "EFAULT")
	kv(root, PUT, b"io number", b"41")
	k = array.array("B", b"io number")
	arg = bytearray(struct.pack(INC, struct.calcsize(INC), 0, address(k), len(k), 0, 1, 0))
	fcntl.ioctl(root, INCREMENT, arg)
	check("ioctl INC gives the sum", struct.unpack(INC, arg)[6] == 42)
	got = [r for r in scan(root) if r[0].startswith(b"io")]
	check("ioctl SCAN gives keys and values in order",
		got == [(b"io number", b"42"), (b"io/ctl\0key", b"by file")], got)
	kv(root, DEL, b"io/ctl\0key")
	check("ioctl DEL: the open file is stale, the name is gone",
		error_of(os.pread, fd, 10, 0) == "ESTALE" and not os.path.exists(where + "/io%2Fctl%00key"))
	check("ioctl DEL of no key: ENOENT", error_of(kv, root, DEL, b"io none") == "ENOENT")
	kv(root, DEL, b"io number")
	os.close(fd)
	os.close(root)


FS_IOC_SHUTDOWN = 0x8004587d


def shutdown(where, flags):
	"""0: as a freeze first; 2: without writing anything more."""
	write_once(where + "/before", b"synced")
	fd = os.open(where, os.O_RDONLY)
	os.fsync(fd)
	key = os.open(where + "/before", os.O_RDWR)
	fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("I", flags))
	got = [error_of(os.write, key, b"late"), error_of(os.pread, key, 10, 0), error_of(os.fsync, fd),
		error_of(write_once, where + "/late", b"late")]
	check("after the shutdown ioctl (%d) each operation gives EIO" % flags, got == ["EIO"] * 4, got)
	for f in (key, fd):
		try:
			os.close(f)
		except OSError as e:
			if e.errno != errno.EIO:
				raise


# ---- refusals ----------------------------------------------------------------------------------------


def refusals(where):
	import stat
	write_once(where + "/plain", b"x")
	fd = os.open(where + "/plain", os.O_RDONLY)
	check("mkfifo, symlink, link, chmod are refused", [
		error_of(os.mkfifo, where + "/fifo"), error_of(os.symlink, "a", where + "/sym"),
		error_of(os.link, where + "/plain", where + "/hard"),
		error_of(os.chmod, where + "/plain", 0o777)] == ["EPERM"] * 4)
	check("a key is a regular file, an executable never", stat.S_ISREG(os.fstat(fd).st_mode) and
		not os.fstat(fd).st_mode & 0o111)
	os.close(fd)
	check("O_DIRECT is refused", error_of(os.open, where + "/plain", os.O_RDONLY | os.O_DIRECT) == "EINVAL")
	check("K9 a name of 256 bytes: ENAMETOOLONG",
		error_of(os.open, where + "/" + "n" * 256, os.O_WRONLY | os.O_CREAT) == "ENAMETOOLONG")
	os.unlink(where + "/plain")


# ---- the whole content, to compare ------------------------------------------------------------------


def digest(entries, left_out):
	try:
		from hashlib import sha256
	except ImportError:
		from _sha256 import sha256
	total, count = sha256(), 0
	for tree, key, value in sorted(entries):
		for part in (tree, key, value):
			total.update(struct.pack("<Q", len(part)) + part)
		count += 1
	return "%d entries, %s, and %d with long names" % (count, total.hexdigest(), left_out)


def unescape(name):
	out, at = bytearray(), 0
	while at < len(name):
		if name[at] == 0x25:
			out.append(int(name[at + 1:at + 3], 16))
			at += 3
		else:
			out.append(name[at])
			at += 1
	return bytes(out)


def files_below(where, tree, out):
	"""Entries of a directory; the number of those whose name does not tell the key."""
	aliases = 0
	for e in os.scandir(where):
		if e.is_dir():
			aliases += files_below(e.path, unescape(e.name), out)
		elif e.name in (b"_mk", b"_del", b"_inc", b"_dec"):
			continue
		elif b"%~" in e.name:
			aliases += 1
		else:
			out.append((tree, unescape(e.name), read_all(e.path)))
	return aliases


def view(where):
	entries = []
	aliases = files_below(where.encode(), b"main", entries)
	print(digest(entries, aliases))


def dump(path):
	import base64
	import json
	entries, aliases = [], 0
	for line in open(path, encoding="utf-8", newline="\n"):
		o = json.loads(line)

		def get(name):
			return o[name].encode() if name in o else base64.b64decode(o[name + "_b64"])

		key = get("key")
		special = key in (b".", b"..", b"_mk", b"_del", b"_inc", b"_dec")
		if len(key) + 2 * (special + sum(key.count(c) for c in (b"/", b"\0", b"%"))) > 255:
			aliases += 1
		else:
			entries.append((o.get("tree", "main").encode(), key, get("value")))
	print(digest(entries, aliases))


verbs = {
	"fill": lambda a: fill(a[0], int(a[1])),
	"verify": lambda a: verify(a[0], int(a[1]), a[2]),
	"empty": lambda a: empty(a[0], int(a[1])),
	"stream": lambda a: stream(a[0], int(a[1])),
	"races": lambda a: races(a[0]),
	"ioctls": lambda a: ioctls(a[0]),
	"shutdown": lambda a: shutdown(a[0], int(a[1])),
	"refusals": lambda a: refusals(a[0]),
	"view": lambda a: view(a[0]),
	"dump": lambda a: dump(a[0]),
}
try:
	verbs[sys.argv[1]](sys.argv[2:])
except Exception as e:
	where = e.__traceback__
	while where.tb_next:
		where = where.tb_next
	check("%s runs to its end" % sys.argv[1], False, "line %d: %r" % (where.tb_lineno, e))
sys.exit(failed)
