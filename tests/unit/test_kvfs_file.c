/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_kvfs_file.c - reading and writing of open key files (kvfs/): SET, APPEND, truncation, streams, a full
 * volume, durability.
 */
#include "tests/unit/mount.h"

/* ---- open files ------------------------------------------------------------------------------ */

/* The document's examples, as calls. row K4 row K5 row K7 */
START_TEST(set_and_read_as_the_document_says)
{
	struct kvfs_file *f, *g;
	struct kvfs_node *n;
	struct mount m;
	char buf[8];
	u64 pos = 0, other = 3;

	mount_make(&m, _i);
	must_be(control(&m, KVFS_MK, "newkey", NULL), 0);
	n = node_of(&m, "newkey");
	f = file_of(&m, n, 0);
	must(write_text(f, "324") == 3);
	expect_read(f, &pos, "324");
	expect_read(f, &pos, "");
	must_be(control(&m, KVFS_INC, "newkey", n), 0);
	expect_read(f, &pos, "325");
	must(pos == 3);
	expect_read(f, &pos, "");
	/* The offset of a write is ignored, that of a read is not. */
	must(file_write(f, 77, "Hello, world!", 13) == 13);
	expect(&m.v, NULL, "newkey", "Hello, world!");
	g = file_of(&m, n, 0);
	pos = 7;
	expect_read(g, &pos, "world!");
	pos = 100;
	expect_read(g, &pos, "");
	must(kvfs_file_read(g, &other, buf, 4) == 4 && !memcmp(buf, "lo, ", 4) && other == 7);
	/* A pass sees one version, whatever happens in the middle of it. */
	must(write_text(f, "HELLO") == 5);
	expect_read(g, &other, "world!");
	expect_read(g, &other, ""); /* who reads to the end gets one version */
	expect_read(g, &other, "HELLO");
	kvfs_node_changed(n);
	other = 0;
	expect_read(g, &other, "HELLO");
	must(write_text(f, "") == 0);
	expect_read(g, &other, "");
	expect_read(g, &other, "");
	must(!size_of(&m, n) && !other);
	kvfs_file_close(f);
	kvfs_file_close(g);
	kvfs_file_close(NULL);
	node_end(n);
	mount_end(&m);
}
END_TEST

/* The node keeps the size; whoever changes the value tells it, or makes it ask again. */
START_TEST(the_size_follows_each_change)
{
	u8 *big = calloc(1, 3 * KVFS_PIECE);
	struct kvfs_file *f, *a;
	struct kvfs_node *n;
	struct mount m;

	mount_make(&m, _i);
	must_be(control(&m, KVFS_MK, "k", NULL), 0);
	n = node_of(&m, "k");
	f = file_of(&m, n, 0);
	a = file_of(&m, n, KVFS_O_APPEND);
	must(!size_of(&m, n));
	must(write_text(f, "12345") == 5);
	must(size_of(&m, n) == 5 && size_of(&m, n) == 5);
	must(write_text(a, "678") == 3 && size_of(&m, n) == 8);
	m.fs.durability = 0xf;
	must(write_text(f, "1234567") == -EINVAL && size_of(&m, n) == 8);
	/* Nobody asks after this one, and the next one does not tell: it is not taken for this one. */
	must(write_text(f, "1234567") == -EINVAL);
	m.fs.durability = 0;
	must(file_write(f, 0, big, 3 * KVFS_PIECE) == 3 * KVFS_PIECE && size_of(&m, n) == 3 * KVFS_PIECE);
	must(write_text(a, "x") == 1 && size_of(&m, n) == 3 * KVFS_PIECE + 1);
	must_be(kvfs_node_truncate(&m.fs, n, 2), 0);
	must(size_of(&m, n) == 2);
	must(write_text(f, "41") == 2 && size_of(&m, n) == 2);
	must_be(control(&m, KVFS_INC, "k", n), 0);
	must(write_text(f, "9") == 1 && size_of(&m, n) == 1);
	must_be(control(&m, KVFS_INC, "k", n), 0);
	must(size_of(&m, n) == 2);
	ok(put(&m.v, NULL, "k", "from beside"));
	kvfs_node_changed(n);
	must(size_of(&m, n) == 11);
	kvfs_file_close(f);
	kvfs_file_close(a);
	free(big);
	node_end(n);
	mount_end(&m);
}
END_TEST

static const size_t sizes[] = { 0, 1, 255, 257, 4096, KVFS_PIECE - 1, KVFS_PIECE, KVFS_PIECE + 1, 300000,
				(1u << 20) + 17 };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void read_all(struct kvfs_file *f, const uint8_t *want, size_t len, size_t step)
{
	uint8_t *buf = malloc(step);
	size_t done = 0;
	u64 pos = 0;
	long n;

	for (;;) {
		n = kvfs_file_read(f, &pos, buf, step);
		if (!n)
			break;
		must(n > 0 && done + (size_t)n <= len && !memcmp(buf, want + done, (size_t)n));
		done += (size_t)n;
		must(pos == done);
	}
	must(done == len);
	free(buf);
}

/* Set, read, append and truncate at all sizes around the limits. row K9 row K10 */
START_TEST(values_of_every_size)
{
	uint8_t *bytes = malloc(3u << 20);
	struct kvfs_file *f, *a;
	struct kvfs_node *n;
	size_t i, j, len;
	struct mount m;

	mount_make(&m, _i);
	pattern(bytes, 3u << 20, 5);
	must_be(control(&m, KVFS_MK, "k", NULL), 0);
	n = node_of(&m, "k");
	f = file_of(&m, n, 0);
	a = file_of(&m, n, KVFS_O_APPEND);
	for (i = 0; i < SIZES; i++) {
		must(file_write(f, 9, bytes, sizes[i]) == (long)sizes[i]);
		expect_value(&m, "k", bytes, sizes[i]);
		read_all(f, bytes, sizes[i], 65536);
		read_all(f, bytes, sizes[i], 7777);
		for (j = 1; j < SIZES; j += 2) {
			must(file_write(f, 0, bytes, sizes[i]) == (long)sizes[i]);
			must(file_write(a, 0, bytes + sizes[i], sizes[j]) == (long)sizes[j]);
			expect_value(&m, "k", bytes, sizes[i] + sizes[j]);
		}
		for (j = 0; j < SIZES; j++) {
			len = sizes[i];
			must(file_write(f, 0, bytes, len) == (long)len);
			must_be(kvfs_node_truncate(&m.fs, n, sizes[j]), 0);
			must(size_of(&m, n) == sizes[j]);
			must_be(kvfs_node_truncate(&m.fs, n, 2 * sizes[j] + 3), 0);
			if (len < sizes[j])
				memset(bytes + len, 0, sizes[j] - len);
			memset(bytes + sizes[j], 0, sizes[j] + 3);
			expect_value(&m, "k", bytes, 2 * sizes[j] + 3);
			pattern(bytes, 3u << 20, 5);
		}
	}
	must_be(kvfs_node_truncate(&m.fs, n, 1ull << 63), -EFBIG);
	must(file_write(f, ~0ull, "x", 1) == -EFBIG);
	kvfs_file_close(f);
	kvfs_file_close(a);
	node_end(n);
	free(bytes);
	mount_end(&m);
}
END_TEST

/* A pass over a long value keeps its version; what is read is never of two. */
START_TEST(a_long_value_that_changes_while_it_is_read)
{
	uint8_t *one = malloc(500000), *two = malloc(500000), buf[1000];
	struct kvfs_file *f, *w;
	struct kvfs_node *n;
	struct mount m;
	u64 pos = 0;
	size_t done;

	mount_make(&m, _i);
	pattern(one, 500000, 1);
	pattern(two, 500000, 2);
	must_be(control(&m, KVFS_MK, "k", NULL), 0);
	n = node_of(&m, "k");
	f = file_of(&m, n, 0);
	w = file_of(&m, n, 0);
	must(file_write(w, 0, one, 500000) == 500000);
	for (done = 0; done < 500000; done += 1000) {
		must(kvfs_file_read(f, &pos, buf, 1000) == 1000);
		must(!memcmp(buf, one + done, 1000));
		if (done == 200000)
			must(file_write(w, 0, two, 400000) == 400000);
	}
	must(kvfs_file_read(f, &pos, buf, 1000) == 0 && pos == 500000);
	must(kvfs_file_read(f, &pos, buf, 1000) == 1000 && pos == 1000 && !memcmp(buf, two, 1000));
	/* Back at 0, and changed: a new pass. */
	must(file_write(w, 0, one, 300000) == 300000);
	must(kvfs_file_read(f, &pos, buf, 1000) == 1000 && !memcmp(buf, two + 1000, 1000));
	pos = 0;
	must(kvfs_file_read(f, &pos, buf, 1000) == 1000 && !memcmp(buf, one, 1000));
	kvfs_file_close(f);
	kvfs_file_close(w);
	node_end(n);
	free(one);
	free(two);
	mount_end(&m);
}
END_TEST

START_TEST(truncation_is_deferred)
{
	struct kvfs_file *f;
	struct kvfs_node *n;
	struct mount m;
	u64 pos = 0;

	mount_make(&m, _i);
	ok(put(&m.v, NULL, "k", "old"));
	n = node_of(&m, "k");
	f = file_of(&m, n, KVFS_O_TRUNC);
	expect(&m.v, NULL, "k", "old");
	expect_read(f, &pos, "");
	must(write_text(f, "new") == 3);
	must_be(kvfs_file_flush(f), 0);
	expect(&m.v, NULL, "k", "new");
	kvfs_file_truncate_later(f);
	expect(&m.v, NULL, "k", "new");
	must_be(kvfs_file_flush(f), 0);
	expect(&m.v, NULL, "k", "");
	kvfs_file_close(f);
	ok(put(&m.v, NULL, "k", "old"));
	f = file_of(&m, n, KVFS_O_TRUNC | KVFS_O_APPEND | KVFS_O_SYNC);
	must(write_text(f, "a") == 1 && write_text(f, "b") == 1);
	expect(&m.v, NULL, "k", "ab");
	must_be(kvfs_file_sync(f), 0);
	kvfs_file_close(f);
	f = file_of(&m, n, KVFS_O_TRUNC);
	kvfs_file_close(f); /* never flushed: nothing happened */
	expect(&m.v, NULL, "k", "ab");
	node_end(n);
	mount_end(&m);
}
END_TEST

/* A fault of the caller's memory changes nothing. */
START_TEST(a_source_that_fails)
{
	uint8_t *bytes = calloc(1, 400000);
	struct memory_source s = { { memory_copy }, bytes, 2 };
	struct kvfs_file *f, *a;
	struct kvfs_node *n;
	struct mount m;

	mount_make(&m, _i);
	ok(put(&m.v, NULL, "k", "old"));
	n = node_of(&m, "k");
	f = file_of(&m, n, 0);
	a = file_of(&m, n, KVFS_O_APPEND);
	must(kvfs_file_write(f, 0, &s.source, 3) == -EFAULT);
	must(kvfs_file_write(a, 0, &s.source, 3) == -EFAULT);
	s.left = 300000;
	must(kvfs_file_write(f, 0, &s.source, 400000) == -EFAULT);
	s.left = 300000;
	s.bytes = bytes;
	must(kvfs_file_write(a, 0, &s.source, 400000) == -EFAULT);
	expect(&m.v, NULL, "k", "old");
	kvfs_file_truncate_later(f);
	must(kvfs_file_write(f, 0, &s.source, 400000) == -EFAULT);
	must_be(kvfs_file_flush(f), 0);
	expect(&m.v, NULL, "k", "old");
	/* A stream takes what there is. */
	m.fs.stream = true;
	s.left = 300000;
	s.bytes = bytes;
	must(kvfs_file_write(f, 0, &s.source, 400000) == 4 * 65536);
	s.left = 0;
	must(kvfs_file_write(f, 4 * 65536, &s.source, 10) == -EFAULT);
	must(file_write(f, 4 * 65536, "end", 3) == 3);
	must_be(kvfs_file_flush(f), 0);
	must(size_of(&m, n) == 4 * 65536 + 3);
	s.left = 0;
	kvfs_file_truncate_later(f);
	must(kvfs_file_write(f, 0, &s.source, 10) == -EFAULT);
	must_be(kvfs_file_flush(f), 0);
	must(size_of(&m, n) == 0);
	kvfs_file_close(f);
	kvfs_file_close(a);
	node_end(n);
	free(bytes);
	mount_end(&m);
}
END_TEST

/* row K12: delete/access: a deleted key does not come back through an open file */
START_TEST(files_of_deleted_keys)
{
	uint8_t *big = calloc(1, 200000);
	struct kvfs_file *f, *g;
	struct kvfs_node *n;
	struct mount m;
	u64 pos = 0, size;
	int i;

	mount_make(&m, _i);
	for (i = 0; i < 3; i++) {
		ok(put(&m.v, NULL, "k", "abc"));
		n = node_of(&m, "k");
		f = file_of(&m, n, 0);
		g = file_of(&m, n, KVFS_O_APPEND);
		pos = 0;
		expect_read(f, &pos, "abc");
		if (i == 0)
			must_be(kvfs_unlink(&m.fs, n), 0);
		else if (i == 1)
			must_be(control(&m, KVFS_DEL, "k", n), 0);
		else
			ok(del(&m.v, NULL, "k")); /* behind our back */
		must(write_text(f, "x") == -ESTALE);
		must(file_write(f, 0, big, 200000) == -ESTALE);
		must(write_text(g, "x") == -ESTALE);
		must(file_write(g, 0, big, 200000) == -ESTALE);
		must(kvfs_file_read(f, &pos, big, 1) == -ESTALE);
		must_be(kvfs_node_size(&m.fs, n, &size), -ESTALE);
		must_be(kvfs_node_truncate(&m.fs, n, 0), -ESTALE);
		must_be(kvfs_node_truncate(&m.fs, n, 9), -ESTALE);
		must_be(kvfs_unlink(&m.fs, n), -ESTALE);
		must_be(kvfs_rename(&m.fs, n, NULL, "z", 1, NULL, false), -ESTALE);
		kvfs_file_truncate_later(f);
		must_be(kvfs_file_flush(f), -ESTALE);
		expect_none(&m.v, NULL, "k");
		must(n->gone);
		kvfs_file_close(f);
		must_be(kvfs_file_open(&m.fs, n, 0, &f), -ESTALE);
		kvfs_file_close(g);
		node_end(n);
	}
	free(big);
	mount_end(&m);
}
END_TEST

/* ---- streams --------------------------------------------------------------------------------- */

#define MODEL_MAX 400000u

/* Writes at any offset, against a plain array. */
START_TEST(streams_are_posix_files)
{
	uint8_t *model = calloc(1, MODEL_MAX), *bytes = malloc(MODEL_MAX), *back = malloc(MODEL_MAX);
	size_t len = 0, n_bytes, visible = 0;
	uint64_t x = 12345 + (uint64_t)_i;
	struct kvfs_file *f;
	struct kvfs_node *n;
	struct mount m;
	u64 pos = 0, at;
	int i;

	mount_make(&m, _i);
	m.fs.stream = true;
	must_be(control(&m, KVFS_MK, "k", NULL), 0);
	n = node_of(&m, "k");
	f = file_of(&m, n, 0);
	for (i = 0; i < 300; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		n_bytes = (x >> 33) % (i % 10 ? 900 : 70000) + 1;
		if ((x >> 20) % 4 == 0)
			pos = (x >> 40) % (len + 5000);
		if (pos + n_bytes > MODEL_MAX)
			pos = 0;
		pattern(bytes, n_bytes, x);
		must(file_write(f, pos, bytes, n_bytes) == (long)n_bytes);
		memcpy(model + pos, bytes, n_bytes);
		pos += n_bytes;
		len = pos > len ? pos : len;
		switch ((x >> 50) % 8) {
		case 0:
			must_be(kvfs_file_flush(f), 0);
			expect_value(&m, "k", model, len);
			visible = len;
			break;
		case 1:
			at = len / 2;
			must(kvfs_file_read(f, &at, back, MODEL_MAX) == (long)(len - len / 2));
			must(!memcmp(back, model + len / 2, len - len / 2));
			break;
		case 2:
			if ((x >> 55) % 4)
				break;
			must_be(kvfs_file_flush(f), 0);
			len /= 2;
			must_be(kvfs_node_truncate(&m.fs, n, len), 0);
			memset(model + len, 0, MODEL_MAX - len);
			break;
		}
	}
	must_be(kvfs_file_sync(f), 0);
	expect_value(&m, "k", model, len);
	must(visible);
	/* The end is the end, though the value is new. */
	at = len;
	must(kvfs_file_read(f, &at, back, 10) == 0);
	kvfs_file_close(f);
	node_end(n);
	free(model);
	free(bytes);
	free(back);
	mount_end(&m);
}
END_TEST

START_TEST(a_stream_is_seen_when_it_is_flushed)
{
	struct kvfs_file *f, *g;
	struct kvfs_node *n;
	struct mount m;
	u64 pos = 0;

	mount_make(&m, _i);
	m.fs.stream = true;
	ok(put(&m.v, NULL, "k", "0123456789"));
	n = node_of(&m, "k");
	f = file_of(&m, n, 0);
	g = file_of(&m, n, KVFS_O_TRUNC);
	must(file_write(f, 2, "AB", 2) == 2);
	expect(&m.v, NULL, "k", "0123456789");
	must_be(kvfs_rename(&m.fs, n, NULL, "k2", 2, NULL, false), -EBUSY);
	must_be(kvfs_file_flush(f), 0);
	expect(&m.v, NULL, "k", "01AB456789");
	must_be(kvfs_rename(&m.fs, n, NULL, "k2", 2, NULL, false), 0);
	must(file_write(g, 0, "cut", 3) == 3);
	must_be(kvfs_file_flush(g), 0);
	expect(&m.v, NULL, "k2", "cut");
	kvfs_file_truncate_later(g);
	expect_read(g, &pos, "");
	must(file_write(g, 2, "x", 1) == 1);
	must(kvfs_file_read(g, &pos, (char[4]){ 0 }, 4) == 3);
	expect_bytes(&m.v, NULL, "k2", 2, "\0\0x", 3);
	/* Given up when the file closes unflushed; a deleted key stays deleted. */
	must(file_write(f, 0, "lost", 4) == 4);
	kvfs_file_close(f);
	must(n->staged == 0);
	must(file_write(g, 0, "late", 4) == 4);
	must_be(kvfs_unlink(&m.fs, n), 0);
	must_be(kvfs_file_flush(g), -ESTALE);
	must(n->staged == 0 && file_write(g, 0, "late", 4) == -ESTALE);
	expect_none(&m.v, NULL, "k2");
	kvfs_file_close(g);
	node_end(n);
	/* O_SYNC: each write; appends are atomic here too. */
	ok(put(&m.v, NULL, "k", "ab"));
	n = node_of(&m, "k");
	f = file_of(&m, n, KVFS_O_SYNC);
	must(file_write(f, 1, "X", 1) == 1);
	expect(&m.v, NULL, "k", "aX");
	g = file_of(&m, n, KVFS_O_APPEND);
	must(file_write(g, 0, "Y", 1) == 1);
	expect(&m.v, NULL, "k", "aXY");
	kvfs_file_close(f);
	kvfs_file_close(g);
	node_end(n);
	mount_end(&m);
}
END_TEST

/* ---- space and durability -------------------------------------------------------------------- */

static void small_volume(kv_options *opt)
{
	opt->max_bytes = 4u << 20;
}

/* A full volume: the value that was there stays. row Y9 */
START_TEST(full_volumes)
{
	uint8_t *big = malloc(8u << 20);
	struct kvfs_file *f, *a;
	struct kvfs_node *n;
	struct mount m;
	size_t done;
	long res;

	memset(&m, 0, sizeof(m));
	volume_make(&m.v, MEM_DEFAULT, small_volume);
	m.fs.db = m.v.db;
	m.fs.key_max = m.v.st.key_max;
	pattern(big, 8u << 20, 3);
	ok(put(&m.v, NULL, "k", "kept"));
	n = node_of(&m, "k");
	f = file_of(&m, n, 0);
	a = file_of(&m, n, KVFS_O_APPEND);
	must(file_write(f, 0, big, 8u << 20) == -ENOSPC);
	must(file_write(a, 0, big, 8u << 20) == -ENOSPC);
	must_be(kvfs_node_truncate(&m.fs, n, 1ull << 40), -ENOSPC);
	expect(&m.v, NULL, "k", "kept");
	m.fs.stream = true;
	for (done = 0, res = 0; res >= 0 && done < (8u << 20); done += 100000)
		res = file_write(f, done, big + done, 100000);
	must(res == -ENOSPC && n->staged == 0);
	must_be(kvfs_file_flush(f), -ENOSPC); /* said once more, as close(2) */
	must_be(kvfs_file_flush(f), 0);
	expect(&m.v, NULL, "k", "kept");
	kvfs_file_close(f);
	kvfs_file_close(a);
	node_end(n);
	free(big);
	mount_end(&m);
}
END_TEST

/* row Y9: all of it is there after a crash. row H9: as the mount says, or each write by O_SYNC */
START_TEST(durability_of_changes)
{
	struct kvfs_file *f;
	struct kvfs_node *n;
	struct mount m;
	kv_stat_info st;

	mount_make(&m, _i);
	must_be(control(&m, KVFS_MK, "k", NULL), 0);
	n = node_of(&m, "k");
	ok(kv_stat(m.v.db, &st));
	must(st.lsn > st.durable_lsn);
	m.fs.durability = KV_SYNCED;
	must_be(control(&m, KVFS_MK, "k2", NULL), 0);
	ok(kv_stat(m.v.db, &st));
	must(st.lsn == st.durable_lsn);
	m.fs.durability = 0;
	f = file_of(&m, n, KVFS_O_SYNC);
	must(write_text(f, "synced") == 6);
	ok(kv_stat(m.v.db, &st));
	must(st.lsn == st.durable_lsn);
	kvfs_file_close(f);
	f = file_of(&m, n, 0);
	must(write_text(f, "later") == 5);
	ok(kv_stat(m.v.db, &st));
	must(st.lsn > st.durable_lsn);
	must_be(kvfs_file_sync(f), 0);
	ok(kv_stat(m.v.db, &st));
	must(st.lsn == st.durable_lsn);
	kvfs_file_close(f);
	node_end(n);
	volume_crash(&m.v);
	expect(&m.v, NULL, "k", "later");
	expect(&m.v, NULL, "k2", "");
	mount_end(&m);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("kvfs_file");
	TCase *t = tcase_create("kvfs_file");

	tcase_set_timeout(t, 400); /* a sanitizer on a busy machine */
	tcase_add_loop_test(t, set_and_read_as_the_document_says, 0, MEM_WORLDS);
	tcase_add_loop_test(t, values_of_every_size, 0, MEM_WORLDS);
	tcase_add_loop_test(t, a_long_value_that_changes_while_it_is_read, 0, MEM_WORLDS);
	tcase_add_loop_test(t, truncation_is_deferred, 0, MEM_WORLDS);
	tcase_add_loop_test(t, a_source_that_fails, 0, MEM_WORLDS);
	tcase_add_loop_test(t, files_of_deleted_keys, 0, MEM_WORLDS);
	tcase_add_loop_test(t, streams_are_posix_files, 0, MEM_WORLDS);
	tcase_add_loop_test(t, the_size_follows_each_change, 0, MEM_WORLDS);
	tcase_add_loop_test(t, a_stream_is_seen_when_it_is_flushed, 0, MEM_WORLDS);
	tcase_add_test(t, full_volumes);
	tcase_add_loop_test(t, durability_of_changes, 0, MEM_WORLDS);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
