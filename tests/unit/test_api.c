/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_api.c - kvengine.h on devices in memory and on files, default and tiny geometry: volumes,
 * single operations, numbers, batches, statistics, health, errors and their texts. Trees, cursors and
 * read transactions: test_api_trees.c. Streams and large values: test_api_stream.c. Threads:
 * test_threads.c.
 */
#include "tests/unit/volume.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- volumes ----------------------------------------------------------------------------------- */

START_TEST(version_and_error_names)
{
	int e, other;

	ck_assert_str_eq(kv_version(), KV_VERSION_STRING);
	ck_assert_str_eq(kv_strerror(KV_OK), "success");
	for (e = KV_E_NOTFOUND; e >= KV_E_CANCELLED; e--) {
		must(kv_strerror(e) && strlen(kv_strerror(e)) > 3);
		for (other = e + 1; other <= 0; other++)
			ck_assert_str_ne(kv_strerror(e), kv_strerror(other));
	}
	must(kv_strerror(-12345) != NULL);
	must(kv_last_error() != NULL);
}
END_TEST

START_TEST(options_are_checked)
{
	kv_options opt = KV_OPTIONS_INIT;
	struct volume v;
	kv_db *db = NULL;

	volume_make(&v, FILE_DEFAULT, NULL);
	volume_close(&v);
	opt.size = 4;
	must_be(kv_open(v.path, &opt, &db), KV_E_INVALID);
	must_be(kv_create(v.path, &opt), KV_E_INVALID);
	opt.size = sizeof(opt) + 8;
	must_be(kv_open(v.path, &opt, &db), KV_E_INVALID);
	opt = (kv_options)KV_OPTIONS_INIT;
	opt.durability = 4;
	must_be(kv_open(v.path, &opt, &db), KV_E_INVALID);
	opt = (kv_options)KV_OPTIONS_INIT;
	opt.flags = 0x8000;
	must_be(kv_open(v.path, &opt, &db), KV_E_INVALID);
	error_names("option", NULL);
	ok(kv_open(v.path, NULL, &db)); /* defaults */
	ok(kv_close(db));
	ok(kv_close(NULL));
	volume_end(&v);
}
END_TEST

/* What creation chooses and what it refuses. row L8 */
START_TEST(geometry_is_chosen_and_refused)
{
	kv_options opt = KV_OPTIONS_INIT;
	struct volume v;
	static const struct { uint32_t block, segment, frame; } bad[] = {
		{ 1000, 0, 0 }, { 256, 0, 0 }, { 8192, 0, 0 }, { 0, 6000, 0 }, { 4096, 4096, 0 },
		{ 0, 128u << 20, 0 }, { 0, 0, 1024 }, { 0, 0, 131072 }, { 512, 4096, 4096 },
	};
	size_t i;

	volume_make(&v, FILE_DEFAULT, NULL);
	ck_assert_uint_eq(v.st.block_bytes, 4096);
	ck_assert_uint_ge(v.st.key_max, 1024);
	ck_assert_uint_le(v.st.inline_max, 512);
	must(v.st.format_version == 1);
	volume_close(&v);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		opt.flags = KV_OPEN_FORCE;
		opt.block_bytes = bad[i].block;
		opt.segment_bytes = bad[i].segment;
		opt.frame_bytes = bad[i].frame;
		unlink(v.path);
		must_be(kv_create(v.path, &opt), KV_E_INVALID);
		error_names(v.path, "geometry");
	}
	volume_end(&v);
}
END_TEST

/* 64 KiB frames take keys of 4 KiB and more. row H6 row K9 */
START_TEST(long_keys_with_large_frames)
{
	struct volume v;
	uint8_t *key;

	memset(&v, 0, sizeof(v));
	volume_make(&v, MEM_DEFAULT, NULL);
	volume_end(&v);
	memset(&v, 0, sizeof(v));
	v.in_use = kvp_alloc_in_use();
	v.opt = (kv_options)KV_OPTIONS_INIT;
	v.opt.frame_bytes = 65536;
	strcpy(v.path, "/tmp/kvs-api.XXXXXX");
	close(mkstemp(v.path));
	ok(kv_create(v.path, &v.opt));
	volume_open(&v);
	ck_assert_uint_ge(v.st.key_max, 4096);
	key = malloc(v.st.key_max);
	pattern(key, v.st.key_max, 3);
	ok(kv_put(v.db, NULL, key, v.st.key_max, "long", 4, 0));
	volume_reopen(&v);
	expect_bytes(&v, NULL, key, v.st.key_max, "long", 4);
	free(key);
	volume_end(&v);
}
END_TEST

static void write_file(const char *path, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	must(fd >= 0);
	must(write(fd, bytes, len) == (ssize_t)len);
	close(fd);
}

/* Each kind of "not a volume" has its own answer, and is left as it is. row H2 row L4 */
START_TEST(what_is_no_volume)
{
	char path[] = "/tmp/kvs-api.XXXXXX", missing[64];
	kv_options opt = KV_OPTIONS_INIT;
	uint8_t junk[70000], back[70000];
	kv_db *db = NULL;
	int fd = mkstemp(path);

	snprintf(missing, sizeof(missing), "%s.none", path);
	must_be(kv_open(missing, NULL, &db), KV_E_IO);
	error_names(missing, "No such file");
	must_be(kv_open("/nonexistent/dir/x", NULL, &db), KV_E_IO);
	must_be(kv_open(path, NULL, &db), KV_E_NOTVOLUME);
	error_names(path, "empty");
	pattern(junk, sizeof(junk), 5);
	write_file(path, junk, sizeof(junk));
	must_be(kv_open(path, NULL, &db), KV_E_NOTVOLUME);
	error_names(path, NULL);
	must_be(kv_create(path, NULL), KV_E_NOTVOLUME);
	opt.flags = KV_OPEN_CREATE;
	must_be(kv_open(path, &opt, &db), KV_E_NOTVOLUME);
	write_file(path, "hello\n", 6);
	must_be(kv_open(path, &opt, &db), KV_E_NOTVOLUME);
	must_be(kv_create(path, NULL), KV_E_NOTVOLUME);
	fd = open(path, O_RDONLY);
	must(read(fd, back, sizeof(back)) == 6 && !memcmp(back, "hello\n", 6));
	close(fd);
	opt.flags = KV_OPEN_FORCE;
	ok(kv_create(path, &opt));
	must_be(kv_create(path, NULL), KV_E_EXISTS);
	error_names(path, "already");
	opt.flags = KV_OPEN_CREATE;
	ok(kv_open(path, &opt, &db)); /* one that is there is opened */
	ok(kv_close(db));
	must_be(kv_open("/tmp", NULL, &db), KV_E_INVALID);
	error_names("/tmp", "directory");
	unlink(path);
	ok(kv_open(path, &opt, &db)); /* made */
	ok(kv_put(db, NULL, "k", 1, "v", 1, 0));
	ok(kv_close(db));
	unlink(path);
}
END_TEST

START_TEST(second_opener_is_told_busy) /* CONTRACT C13 */
{
	struct volume v;
	kv_options ro = KV_OPTIONS_INIT;
	kv_db *db = NULL;

	volume_make(&v, FILE_DEFAULT, NULL);
	ro.flags = KV_OPEN_READONLY;
	must_be(kv_open(v.path, NULL, &db), KV_E_BUSY);
	error_names(v.path, NULL);
	must_be(kv_open(v.path, &ro, &db), KV_E_BUSY);
	must_be(kv_create(v.path, NULL), KV_E_BUSY);
	ok(put(&v, NULL, "still", "here"));
	volume_close(&v);
	ok(kv_open(v.path, NULL, &db));
	ok(kv_close(db));
	volume_end(&v);
}
END_TEST

START_TEST(readonly_writes_nothing) /* row L4 */
{
	struct volume v;
	kv_batch *b;
	kv_writer *w;
	kv_tree *t;
	kv_health_info h;
	struct stat before, after;
	void *image, *now;
	int fd;

	volume_make(&v, FILE_DEFAULT, NULL);
	ok(put(&v, NULL, "a", "1"));
	ok(kv_sync(v.db));
	kve_crash(v.db);
	stat(v.path, &before);
	image = malloc((size_t)before.st_size);
	fd = open(v.path, O_RDONLY);
	must(read(fd, image, (size_t)before.st_size) == before.st_size);
	v.opt.flags = KV_OPEN_READONLY;
	volume_open(&v);
	expect(&v, NULL, "a", "1");
	must_be(put(&v, NULL, "b", "2"), KV_E_READONLY);
	error_names(v.path, "read-only");
	must_be(del(&v, NULL, "a"), KV_E_READONLY);
	must_be(kv_inc(v.db, NULL, "a", 1, 1, NULL, 0), KV_E_READONLY);
	must_be(kv_batch_new(v.db, &b), KV_E_READONLY);
	must_be(kv_writer_open(v.db, NULL, "x", 1, &w), KV_E_READONLY);
	must_be(kv_tree_open(v.db, "new", KV_TREE_CREATE, &t), KV_E_READONLY);
	must_be(kv_tree_drop(v.db, "main"), KV_E_READONLY);
	must_be(kv_checkpoint(v.db), KV_E_READONLY);
	ok(kv_sync(v.db)); /* nothing to do */
	ok(kv_health(v.db, &h));
	must(!h.writable && !h.error && !h.clean && h.replayed >= 1);
	volume_check(&v);
	volume_close(&v);
	stat(v.path, &after);
	must(before.st_size == after.st_size);
	now = malloc((size_t)before.st_size);
	must(pread(fd, now, (size_t)before.st_size, 0) == before.st_size);
	must(!memcmp(image, now, (size_t)before.st_size));
	close(fd);
	free(image);
	free(now);
	v.opt.flags = 0;
	volume_open(&v);
	expect(&v, NULL, "a", "1");
	volume_end(&v);
}
END_TEST

START_TEST(close_is_refused_while_things_are_open)
{
	struct volume v;
	kv_batch *b;
	kv_read *r;
	kv_cursor *c;
	kv_writer *w;
	kv_reader *rd;
	size_t big;
	uint8_t *bytes;

	volume_make(&v, _i, NULL);
	big = 3 * v.st.chunk_bytes;
	bytes = calloc(1, big);
	ok(kv_put(v.db, NULL, "big", 3, bytes, big, 0));
	ok(put(&v, NULL, "small", "1"));
	ok(kv_batch_new(v.db, &b));
	must_be(kv_close(v.db), KV_E_BUSY);
	error_names("open", NULL);
	kv_batch_free(b);
	ok(kv_read_begin(v.db, &r));
	must_be(kv_close(v.db), KV_E_BUSY);
	kv_read_end(r);
	ok(kv_cursor_open(v.db, NULL, NULL, &c));
	must_be(kv_close(v.db), KV_E_BUSY);
	kv_cursor_close(c);
	ok(kv_writer_open(v.db, NULL, "w", 1, &w));
	must_be(kv_close(v.db), KV_E_BUSY);
	kv_writer_abort(w);
	ok(kv_reader_open(v.db, NULL, NULL, "big", 3, &rd, NULL));
	must_be(kv_close(v.db), KV_E_BUSY);
	kv_reader_close(rd);
	ok(kv_reader_open(v.db, NULL, NULL, "small", 5, &rd, NULL));
	must_be(kv_close(v.db), KV_E_BUSY);
	kv_reader_close(rd);
	expect(&v, NULL, "small", "1"); /* the handle stayed good */
	kv_read_end(NULL);
	kv_cursor_close(NULL);
	kv_batch_free(NULL);
	free(bytes);
	volume_end(&v);
}
END_TEST

START_TEST(a_forked_child_is_refused)
{
	struct volume v;
	kv_read *r;
	kv_cursor *c;
	kv_stat_info st;
	kv_health_info h;
	uint64_t n;
	pid_t pid;
	int status;

	volume_make(&v, _i, NULL);
	ok(put(&v, NULL, "a", "1"));
	ok(kv_cursor_open(v.db, NULL, NULL, &c));
	ok(kv_cursor_first(c));
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		int bad = put(&v, NULL, "b", "2") != KV_E_INVALID;

		bad |= (kv_exists(v.db, NULL, "a", 1, NULL) != KV_E_INVALID) << 1;
		bad |= (kv_cursor_next(c) != KV_E_INVALID) << 2;
		bad |= (kv_read_begin(v.db, &r) != KV_E_INVALID) << 3;
		bad |= (kv_stat(v.db, &st) != KV_E_INVALID || kv_health(v.db, &h) != KV_E_INVALID) << 4;
		bad |= (kv_sync(v.db) != KV_E_INVALID || kv_checkpoint(v.db) != KV_E_INVALID) << 5;
		bad |= (kv_close(v.db) != KV_E_INVALID) << 6;
		bad |= (kv_count(v.db, NULL, &n) != KV_E_INVALID) << 7;
		_exit(bad);
	}
	must(waitpid(pid, &status, 0) == pid);
	ck_assert_int_eq(status, 0);
	kv_cursor_close(c);
	ok(put(&v, NULL, "c", "3")); /* the parent goes on */
	expect_none(&v, NULL, "b");
	volume_end(&v);
}
END_TEST

/* ---- single operations --------------------------------------------------------------------------- */

START_TEST(keys_of_every_length) /* row K9 row K10 */
{
	struct volume v;
	uint8_t key[8192], buf[16];
	size_t n, len;

	volume_make(&v, _i, NULL);
	must(v.st.key_max < sizeof(key));
	for (n = 0; n < sizeof(key); n++)
		key[n] = (uint8_t)(n * 7);
	for (n = 1; n <= v.st.key_max; n += n < 300 || n > v.st.key_max - 10 ? 1 : 9)
		ok(kv_put(v.db, NULL, key, n, &n, sizeof(n), KV_PUT_NEW));
	must_be(kv_put(v.db, NULL, key, 0, "", 0, 0), KV_E_INVALID);
	must_be(kv_put(v.db, NULL, NULL, 4, "", 0, 0), KV_E_INVALID);
	must_be(kv_put(v.db, NULL, key, v.st.key_max + 1, "", 0, 0), KV_E_TOOBIG);
	error_names("key", NULL);
	must_be(kv_get_into(v.db, NULL, key, v.st.key_max + 1, buf, 16, &len), KV_E_TOOBIG);
	must_be(kv_del(v.db, NULL, key, 0, 0), KV_E_INVALID);
	must_be(kv_exists(v.db, NULL, key, 0, NULL), KV_E_INVALID);
	must_be(kv_put(v.db, NULL, "x", 1, NULL, 4, 0), KV_E_INVALID);
	volume_reopen(&v);
	for (n = 1; n <= v.st.key_max; n += n < 300 || n > v.st.key_max - 10 ? 1 : 9) {
		ok(kv_get_into(v.db, NULL, key, n, buf, 16, &len));
		must(len == sizeof(n) && !memcmp(buf, &n, len));
	}
	volume_end(&v);
}
END_TEST

/* Around each place where the way of storing changes. row H6 row H18 row K10 */
START_TEST(values_of_every_size)
{
	struct volume v;
	size_t at[16], nr = 0, i, j, n;
	uint8_t *bytes, *buf;
	char key[32];

	volume_make(&v, _i, NULL);
	at[nr++] = 0;
	at[nr++] = 1;
	at[nr++] = v.st.inline_max;
	at[nr++] = v.st.key_max;
	at[nr++] = v.st.block_bytes;
	at[nr++] = v.st.chunk_bytes;
	at[nr++] = 2 * (size_t)v.st.chunk_bytes;
	at[nr++] = v.st.segment_bytes;
	at[nr++] = 7 * (size_t)v.st.chunk_bytes + 5;
	bytes = malloc(at[nr - 1] + v.st.segment_bytes + 4);
	buf = malloc(at[nr - 1] + v.st.segment_bytes + 4);
	for (j = 0; j < 2; j++) {
		for (i = 0; i < nr; i++) {
			for (n = at[i] ? at[i] - 1 : 0; n <= at[i] + 1; n++) {
				size_t len = 99;
				uint64_t elen = 99;

				snprintf(key, sizeof(key), "v%zu", n);
				pattern(bytes, n, n + 1);
				if (!j)
					ok(kv_put(v.db, NULL, key, strlen(key), bytes, n, 0));
				expect_bytes(&v, NULL, key, strlen(key), bytes, n);
				ok(kv_exists(v.db, NULL, key, strlen(key), &elen));
				must(elen == n);
				ok(kv_get_into(v.db, NULL, key, strlen(key), buf, n, &len));
				must(len == n && !memcmp(buf, bytes, n));
				if (!n)
					continue;
				len = 0;
				must_be(kv_get_into(v.db, NULL, key, strlen(key), buf, n - 1, &len),
					KV_E_TOOBIG);
				must(len == n);
			}
		}
		volume_reopen(&v);
	}
	free(bytes);
	free(buf);
	volume_end(&v);
}
END_TEST

/* Each way of storing a value, replaced by each other. */
START_TEST(values_change_their_kind)
{
	struct volume v;
	size_t size[4], from, to;
	uint8_t *bytes;

	volume_make(&v, _i, NULL);
	size[0] = 0;
	size[1] = v.st.inline_max;
	size[2] = v.st.inline_max + 1;
	size[3] = 2 * (size_t)v.st.chunk_bytes;
	bytes = malloc(size[3]);
	for (from = 0; from < 4; from++)
		for (to = 0; to < 5; to++) {
			pattern(bytes, size[from], from + 1);
			ok(kv_put(v.db, NULL, "key", 3, bytes, size[from], 0));
			if (to == 4) {
				ok(del(&v, NULL, "key"));
				expect_none(&v, NULL, "key");
				must(count(&v, NULL) == 0);
			} else {
				pattern(bytes, size[to], to + 77);
				ok(kv_put(v.db, NULL, "key", 3, bytes, size[to], 0));
				expect_bytes(&v, NULL, "key", 3, bytes, size[to]);
				must(count(&v, NULL) == 1);
			}
			if (to == 1)
				ok(kv_checkpoint(v.db));
			if (to == 2)
				volume_crash(&v);
		}
	free(bytes);
	volume_end(&v);
}
END_TEST

START_TEST(put_new_put_replace_del) /* row L11 */
{
	struct volume v;
	uint8_t *big;
	size_t n;

	volume_make(&v, _i, NULL);
	n = 2 * (size_t)v.st.chunk_bytes;
	big = calloc(1, n);
	must_be(kv_put(v.db, NULL, "k", 1, "1", 1, KV_PUT_REPLACE), KV_E_NOTFOUND);
	error_names(v.dev ? v.dev->name : v.path, "no such key");
	ok(kv_put(v.db, NULL, "k", 1, "1", 1, KV_PUT_NEW));
	must_be(kv_put(v.db, NULL, "k", 1, "2", 1, KV_PUT_NEW), KV_E_EXISTS);
	error_names("exists", NULL);
	expect(&v, NULL, "k", "1");
	ok(kv_put(v.db, NULL, "k", 1, "3", 1, KV_PUT_REPLACE | KV_SYNCED));
	expect(&v, NULL, "k", "3");
	must_be(kv_put(v.db, NULL, "k", 1, big, n, KV_PUT_NEW), KV_E_EXISTS);
	expect(&v, NULL, "k", "3");
	must_be(kv_put(v.db, NULL, "b", 1, big, n, KV_PUT_REPLACE), KV_E_NOTFOUND);
	ok(kv_put(v.db, NULL, "b", 1, big, n, KV_PUT_NEW | KV_MEMORY));
	ok(kv_put(v.db, NULL, "b", 1, "small", 5, KV_PUT_REPLACE));
	must_be(kv_put(v.db, NULL, "k", 1, "4", 1, 7), KV_E_INVALID);	    /* no such durability */
	must_be(kv_put(v.db, NULL, "k", 1, "4", 1, 0x1000), KV_E_INVALID); /* no such flag */
	must_be(kv_put(v.db, NULL, "k", 1, "4", 1, KV_PUT_NEW | KV_PUT_REPLACE), KV_E_INVALID);
	must_be(kv_del(v.db, NULL, "k", 1, 9), KV_E_INVALID);
	expect(&v, NULL, "k", "3");
	ok(kv_del(v.db, NULL, "k", 1, KV_SYNCED));
	must_be(del(&v, NULL, "k"), KV_E_NOTFOUND);
	must_be(kv_exists(v.db, NULL, "k", 1, NULL), KV_E_NOTFOUND);
	must(count(&v, NULL) == 1);
	free(big);
	volume_end(&v);
}
END_TEST

/* Each durability after a death of the process; syncing after it. row H9 row Y9 CONTRACT C2 */
START_TEST(durabilities)
{
	struct volume v;
	kv_stat_info st;
	char key[16];
	int i;

	volume_make(&v, _i, NULL);
	for (i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		ok(kv_put(v.db, NULL, key, strlen(key), key, strlen(key), 0));
		if (i % 50 == 7)
			ok(kv_put(v.db, NULL, "s", 1, key, strlen(key), KV_SYNCED));
	}
	ok(kv_stat(v.db, &st));
	must(st.durable_lsn <= st.lsn && st.syncs >= 6);
	volume_crash(&v);
	for (i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		expect(&v, NULL, key, key);
	}
	expect(&v, NULL, "s", "k257");
	ok(kv_put(v.db, NULL, "m", 1, "1", 1, KV_MEMORY));
	expect(&v, NULL, "m", "1");
	ok(kv_sync(v.db));
	ok(kv_stat(v.db, &st));
	ck_assert_uint_eq(st.durable_lsn, st.lsn);
	volume_crash(&v);
	expect(&v, NULL, "m", "1");
	ok(kv_checkpoint(v.db));
	volume_end(&v);
}
END_TEST

/* ---- numbers: row K6 ----------------------------------------------------------------------------- */

static const struct number {
	const char *text;
	int64_t delta;
	int err;
	int64_t result;
} numbers[] = {
	{ "0", 1, 0, 1 },
	{ "42", 1, 0, 43 },
	{ "42", -1, 0, 41 },
	{ "-1", 1, 0, 0 },
	{ "+7", 0, 0, 7 },
	{ "-0", 0, 0, 0 },
	{ "0b101", 1, 0, 6 },
	{ "-0b101", 0, 0, -5 },
	{ "0B1", 0, 0, 1 },
	{ "017", 1, 0, 16 },
	{ "-017", 0, 0, -15 },
	{ "00", 0, 0, 0 },
	{ "0x2a", 1, 0, 43 },
	{ "0X2A", 0, 0, 42 },
	{ "+0xff", 0, 0, 255 },
	{ "-0xFf", 0, 0, -255 },
	{ "9223372036854775807", 0, 0, INT64_MAX },
	{ "9223372036854775806", 1, 0, INT64_MAX },
	{ "9223372036854775807", 1, KV_E_NUMBER, 0 },
	{ "9223372036854775808", 0, KV_E_NUMBER, 0 },
	{ "9223372036854775808", -1, KV_E_NUMBER, 0 },
	{ "99999999999999999999999", 0, KV_E_NUMBER, 0 },
	{ "-9223372036854775808", 0, 0, INT64_MIN },
	{ "-9223372036854775808", -1, KV_E_NUMBER, 0 },
	{ "-9223372036854775809", 0, KV_E_NUMBER, 0 },
	{ "-9223372036854775807", -1, 0, INT64_MIN },
	{ "-9223372036854775808", INT64_MAX, 0, -1 },
	{ "9223372036854775807", INT64_MIN, 0, -1 },
	{ "-1", INT64_MIN, KV_E_NUMBER, 0 },
	{ "0x7fffffffffffffff", 0, 0, INT64_MAX },
	{ "0x8000000000000000", 0, KV_E_NUMBER, 0 },
	{ "-0x8000000000000000", 0, 0, INT64_MIN },
	{ "0777777777777777777777", 0, 0, INT64_MAX },
	{ "01000000000000000000000", 0, KV_E_NUMBER, 0 },
	{ "0b111111111111111111111111111111111111111111111111111111111111111", 0, 0, INT64_MAX },
	{ "-0b1000000000000000000000000000000000000000000000000000000000000000", 0, 0, INT64_MIN },
	{ "0b1000000000000000000000000000000000000000000000000000000000000000", 0, KV_E_NUMBER, 0 },
	{ "", 1, KV_E_NUMBER, 0 },
	{ " 1", 1, KV_E_NUMBER, 0 },
	{ "1 ", 1, KV_E_NUMBER, 0 },
	{ "1\n", 1, KV_E_NUMBER, 0 },
	{ "-", 1, KV_E_NUMBER, 0 },
	{ "+", 1, KV_E_NUMBER, 0 },
	{ "+-1", 1, KV_E_NUMBER, 0 },
	{ "0x", 1, KV_E_NUMBER, 0 },
	{ "0b", 1, KV_E_NUMBER, 0 },
	{ "0b2", 1, KV_E_NUMBER, 0 },
	{ "08", 1, KV_E_NUMBER, 0 },
	{ "0xg", 1, KV_E_NUMBER, 0 },
	{ "1a", 1, KV_E_NUMBER, 0 },
	{ "1.5", 1, KV_E_NUMBER, 0 },
	{ "abc", 1, KV_E_NUMBER, 0 },
	{ "1_000", 1, KV_E_NUMBER, 0 },
};

START_TEST(inc_number_rules)
{
	struct volume v;
	const struct number *n;
	int64_t result;
	char want[32];
	size_t i;

	volume_make(&v, _i, NULL);
	must_be(kv_inc(v.db, NULL, "k", 1, 1, &result, 0), KV_E_NOTFOUND);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		n = &numbers[i];
		ok(put(&v, NULL, "k", n->text));
		result = 4711;
		if (kv_inc(v.db, NULL, "k", 1, n->delta, &result, 0) != n->err)
			ck_abort_msg("'%s' + %lld: not %d, %s", n->text, (long long)n->delta, n->err,
				     kv_last_error());
		if (n->err) {
			expect(&v, NULL, "k", n->text); /* unchanged */
			must(result == 4711);
			continue;
		}
		ck_assert_msg(result == n->result, "'%s' + %lld gave %lld", n->text,
			      (long long)n->delta, (long long)result);
		snprintf(want, sizeof(want), "%lld", (long long)n->result);
		expect(&v, NULL, "k", want);
	}
	ok(kv_put(v.db, NULL, "k", 1, "1\0002", 3, 0));
	must_be(kv_inc(v.db, NULL, "k", 1, 1, NULL, 0), KV_E_NUMBER);
	volume_end(&v);
}
END_TEST

/* A number among many digits, in a separated and a large value; durable as asked for. */
START_TEST(inc_long_values)
{
	struct volume v;
	int64_t result = 0;
	char *text;
	size_t n;
	int i;

	volume_make(&v, _i, NULL);
	n = 3 * (size_t)v.st.chunk_bytes;
	text = malloc(n);
	memset(text, '7', n);
	ok(kv_put(v.db, NULL, "big", 3, text, n, 0));
	must_be(kv_inc(v.db, NULL, "big", 3, 1, &result, 0), KV_E_NUMBER);
	ok(kv_put(v.db, NULL, "sep", 3, text, v.st.inline_max + 1, 0));
	must_be(kv_inc(v.db, NULL, "sep", 3, 1, &result, 0), KV_E_NUMBER);
	/* With the tiny geometry this is a separated value. */
	memset(text, '0', n);
	text[89] = '5';
	ok(kv_put(v.db, NULL, "zeros", 5, text, 90, 0));
	ok(kv_inc(v.db, NULL, "zeros", 5, 1, &result, 0));
	must(result == 6);
	ok(put(&v, NULL, "n", "0"));
	for (i = 0; i < 1000; i++)
		ok(kv_inc(v.db, NULL, "n", 1, i % 2 ? 3 : -1, NULL, i % 100 ? KV_MEMORY : KV_SYNCED));
	expect(&v, NULL, "n", "1000");
	must_be(kv_inc(v.db, NULL, "n", 1, 1, NULL, 5), KV_E_INVALID);
	must_be(kv_inc(v.db, NULL, "", 0, 1, NULL, 0), KV_E_INVALID);
	volume_crash(&v);
	ok(kv_inc(v.db, NULL, "zeros", 5, 0, &result, 0));
	must(result == 6);
	free(text);
	volume_end(&v);
}
END_TEST

/* ---- batches ------------------------------------------------------------------------------------- */

START_TEST(batch_is_all_or_nothing_across_trees) /* row S4 */
{
	struct volume v;
	kv_tree *users, *names, *gone;
	kv_batch *b;
	int i;
	char k[16], n[16];

	volume_make(&v, _i, NULL);
	ok(kv_tree_open(v.db, "users", KV_TREE_CREATE, &users));
	ok(kv_tree_open(v.db, "names", KV_TREE_CREATE, &names));
	ok(kv_tree_open(v.db, "gone", KV_TREE_CREATE, &gone));
	ok(kv_batch_new(v.db, &b));
	ok(kv_batch_commit(b, 0)); /* empty */
	for (i = 0; i < 100; i++) {
		snprintf(k, sizeof(k), "%03d", i);
		snprintf(n, sizeof(n), "n%d", 99 - i);
		ok(kv_batch_put(b, users, k, 3, n, strlen(n)));
		ok(kv_batch_put(b, names, n, strlen(n), k, 3));
	}
	must(kv_batch_count(b) == 200);
	must(count(&v, users) == 0);
	ok(kv_batch_commit(b, KV_SYNCED));
	must(kv_batch_count(b) == 0);
	must(count(&v, users) == 100 && count(&v, names) == 100);
	/* rename: both trees or none */
	ok(kv_batch_del(b, names, "n99", 3));
	ok(kv_batch_put(b, names, "root", 4, "000", 3));
	ok(kv_batch_put(b, users, "000", 3, "root", 4));
	kv_batch_clear(b);
	must(kv_batch_count(b) == 0);
	ok(kv_batch_commit(b, 0));
	expect(&v, users, "000", "n99");
	/* one operation that cannot be: nothing of the rest */
	ok(kv_batch_put(b, users, "000", 3, "broken", 6));
	ok(kv_batch_put(b, gone, "x", 1, "y", 1));
	ok(kv_tree_drop(v.db, "gone"));
	must_be(kv_batch_commit(b, 0), KV_E_NOTFOUND);
	must(kv_batch_count(b) == 2);
	expect(&v, users, "000", "n99");
	kv_batch_clear(b);
	ok(kv_batch_put(b, users, "000", 3, "broken", 6));
	ok(kv_batch_del(b, gone, "x", 1));
	must_be(kv_batch_commit(b, 0), KV_E_NOTFOUND);
	expect(&v, users, "000", "n99");
	kv_batch_free(b);
	volume_crash(&v);
	ok(kv_tree_open(v.db, "names", 0, &names));
	must(count(&v, names) == 100);
	expect(&v, names, "n99", "000");
	volume_end(&v);
}
END_TEST

START_TEST(batch_order_and_repeated_keys)
{
	struct volume v;
	kv_batch *b;
	uint8_t *big;
	int i;

	volume_make(&v, _i, NULL);
	big = malloc(v.st.chunk_bytes + 1);
	pattern(big, v.st.chunk_bytes + 1, 9);
	ok(kv_batch_new(v.db, &b));
	ok(kv_batch_del(b, NULL, "missing", 7)); /* no error */
	ok(kv_batch_put(b, NULL, "a", 1, "1", 1));
	ok(kv_batch_put(b, NULL, "a", 1, "2", 1));
	ok(kv_batch_put(b, NULL, "b", 1, "1", 1));
	ok(kv_batch_del(b, NULL, "b", 1));
	ok(kv_batch_del(b, NULL, "c", 1));
	ok(kv_batch_put(b, NULL, "c", 1, big, v.st.chunk_bytes));
	for (i = 0; i < 50; i++)
		ok(kv_batch_put(b, NULL, "r", 1, big, (size_t)(v.st.inline_max - 20 + (uint32_t)i)));
	ok(kv_batch_put(b, NULL, "e", 1, NULL, 0));
	ok(kv_batch_commit(b, 0));
	for (i = 0; i < 2; i++) {
		expect(&v, NULL, "a", "2");
		expect_none(&v, NULL, "b");
		expect_bytes(&v, NULL, "c", 1, big, v.st.chunk_bytes);
		expect_bytes(&v, NULL, "r", 1, big, v.st.inline_max + 29);
		expect(&v, NULL, "e", "");
		must(count(&v, NULL) == 4);
		kv_batch_free(b);
		volume_crash(&v);
		ok(kv_batch_new(v.db, &b));
	}
	must_be(kv_batch_put(b, NULL, "", 0, "", 0), KV_E_INVALID);
	must_be(kv_batch_put(b, NULL, "k", 1, NULL, 5), KV_E_INVALID);
	must_be(kv_batch_put(b, NULL, big, v.st.key_max + 1, "", 0), KV_E_TOOBIG);
	must_be(kv_batch_put(b, NULL, "k", 1, big, v.st.chunk_bytes + 1), KV_E_TOOBIG);
	must_be(kv_batch_commit(b, KV_PUT_NEW), KV_E_INVALID);
	must_be(kv_batch_commit(b, 4), KV_E_INVALID);
	must(kv_batch_count(b) == 0);
	kv_batch_free(b);
	free(big);
	volume_end(&v);
}
END_TEST

static void small_cache(kv_options *opt)
{
	opt->cache_bytes = 1 << 20;
}

START_TEST(batch_too_big)
{
	struct volume v;
	kv_batch *b;
	uint8_t value[200] = { 0 };
	uint32_t i;
	int err = 0;

	volume_make(&v, _i, small_cache);
	ok(kv_batch_new(v.db, &b));
	for (i = 0; !err && i < 100000; i++)
		err = kv_batch_put(b, NULL, &i, sizeof(i), value, sizeof(value));
	must_be(err, KV_E_TOOBIG);
	error_names("parts", NULL);
	must(kv_batch_count(b) == i - 1 && i > 1000);
	/* What was accepted fits, or is refused as a whole. */
	err = kv_batch_commit(b, 0);
	must(err == 0 || err == KV_E_TOOBIG);
	must(count(&v, NULL) == (err ? 0 : i - 1));
	kv_batch_free(b);
	volume_end(&v);
}
END_TEST

/* A batch of random keys that splits many leaves at once, over a tree that exists. */
START_TEST(batch_splits_many_leaves)
{
	struct volume v;
	uint8_t key[16], value[64];
	kv_batch *b;
	uint64_t round, i, n = _i % 2 ? 400 : 4000;

	volume_make(&v, _i, NULL);
	ok(kv_batch_new(v.db, &b));
	for (round = 0; round < 3; round++) {
		for (i = 0; i < n; i++) {
			pattern(key, sizeof(key), i * 3 + round);
			pattern(value, sizeof(value), i);
			ok(kv_batch_put(b, NULL, key, sizeof(key), value, i % 64));
		}
		ok(kv_batch_commit(b, KV_MEMORY));
		must(count(&v, NULL) == (round + 1) * n);
		volume_check(&v);
	}
	for (i = 0; i < 3 * n; i++) {
		pattern(key, sizeof(key), i);
		ok(kv_batch_del(b, NULL, key, sizeof(key)));
	}
	ok(kv_batch_commit(b, 0));
	must(count(&v, NULL) == 0);
	kv_batch_free(b);
	volume_reopen(&v);
	must(count(&v, NULL) == 0);
	volume_end(&v);
}
END_TEST

/* ---- the whole volume ---------------------------------------------------------------------------- */

static void labelled(kv_options *opt)
{
	strcpy(opt->label, "a label of the most bytes: 32 --");
	memset(opt->uuid, 0x5a, sizeof(opt->uuid));
	opt->max_bytes = 64 << 20;
}

START_TEST(stat_and_health) /* row H5 */
{
	struct volume v;
	kv_stat_info st, was;
	kv_health_info h;
	kv_cursor *c;
	kv_tree *t;
	char key[16];
	int i;

	volume_make(&v, _i, labelled);
	ck_assert_str_eq(v.st.label, "a label of the most bytes: 32 --");
	must(v.st.uuid[0] == 0x5a && v.st.uuid[15] == 0x5a);
	must(v.st.max_bytes == 64 << 20 && v.st.trees == 1 && v.st.entries == 0);
	was = v.st;
	ok(kv_tree_open(v.db, "t", KV_TREE_CREATE, &t));
	for (i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "%d", i);
		ok(put(&v, i % 2 ? t : NULL, key, "value"));
	}
	expect(&v, NULL, "0", "value");
	ok(del(&v, NULL, "2"));
	ok(kv_sync(v.db));
	ok(kv_cursor_open(v.db, NULL, NULL, &c));
	ok(kv_stat(v.db, &st));
	must(st.trees == 2 && st.entries == 99 && st.readers == 1);
	must(st.puts == 100 && st.gets == 1 && st.dels == 1 && st.commits >= 102);
	must(st.syncs > was.syncs && st.lsn > was.lsn && st.durable_lsn == st.lsn);
	must(st.device_writes > was.device_writes && st.device_write_bytes > was.device_write_bytes);
	must(st.dirty_bytes > 0 && st.cache_used_bytes >= st.dirty_bytes);
	must(st.cache_bytes == 64 << 20);
	kv_cursor_close(c);
	ok(kv_checkpoint(v.db));
	was = st;
	ok(kv_stat(v.db, &st));
	must(st.readers == 0 && st.checkpoints > was.checkpoints && st.generation > was.generation);
	must(st.replay_lsn > was.replay_lsn && st.tree_bytes > 0);
	must(st.segments_free + st.segments_log + st.segments_tree <= st.segments);
	must(st.volume_bytes >= st.segments * st.segment_bytes);
	if (!v.dev)
		must(st.allocated_bytes > 0);
	ok(kv_health(v.db, &h));
	must(h.writable && !h.error && !h.reason[0] && h.clean && !h.replayed && !h.errors_nr);
	ok(put(&v, NULL, "x", "y"));
	volume_crash(&v);
	ok(kv_health(v.db, &h));
	must(h.writable && !h.clean && h.replayed >= 1);
	must(v.st.incarnation > st.incarnation);
	volume_reopen(&v);
	ok(kv_health(v.db, &h));
	must(h.clean && !h.replayed);
	ck_assert_str_eq(v.st.label, "a label of the most bytes: 32 --");
	volume_end(&v);
}
END_TEST

/* A full volume says so, keeps what it has, and can be emptied. CONTRACT C10 */
static void capped(kv_options *opt)
{
	opt->max_bytes = opt->segment_bytes == 4096 ? 256 << 10 : 24 << 20;
	opt->cache_bytes = 1 << 20;
}

START_TEST(full_volume)
{
	struct volume v;
	uint8_t value[700];
	uint32_t i, n, round, be;
	int err;

	volume_make(&v, _i, capped);
	for (round = 0; round < 2; round++) {
		err = 0;
		for (n = 0; !err; n++) {
			be = __builtin_bswap32(n);
			pattern(value, sizeof(value), n);
			err = kv_put(v.db, NULL, &be, 4, value, sizeof(value), KV_MEMORY);
		}
		n--;
		must_be(err, KV_E_NOSPACE);
		error_names(v.dev ? v.dev->name : v.path, "no space");
		must(n > 50);
		must(count(&v, NULL) == n);
		for (i = 0; i < n; i++) {
			be = __builtin_bswap32(i);
			pattern(value, sizeof(value), i);
			expect_bytes(&v, NULL, &be, 4, value, sizeof(value));
		}
		if (round)
			volume_reopen(&v);
		for (i = 0; i < n; i++) {
			be = __builtin_bswap32(i);
			ok(kv_del(v.db, NULL, &be, 4, KV_MEMORY));
		}
		must(count(&v, NULL) == 0);
		volume_check(&v);
	}
	volume_end(&v);
}
END_TEST

struct lines {
	char last[1024];
	int nr, level;
};

static void log_line(void *arg, int level, const char *message)
{
	struct lines *l = arg;

	l->nr++;
	l->level = level;
	snprintf(l->last, sizeof(l->last), "%s", message);
}

/* Damage is named with its place, in the error and in the log; other keys stay. row H13 */
START_TEST(damage_is_named)
{
	struct volume v;
	struct lines lines = { .nr = 0 };
	uint8_t value[3000];
	uint64_t problems = 0;
	void *got;
	size_t len, i, hits = 0;
	uint8_t *bytes;

	volume_make(&v, MEM_DEFAULT, NULL);
	pattern(value, sizeof(value), 77);
	ok(kv_put(v.db, NULL, "bad", 3, value, sizeof(value), 0));
	ok(put(&v, NULL, "good", "1"));
	volume_close(&v);
	bytes = volume_bytes(&v);
	for (i = 0; i + sizeof(value) < v.dev->size; i++)
		if (!memcmp(bytes + i, value, 64)) {
			bytes[i + 2000] ^= 4;
			hits++;
		}
	must(hits >= 1); /* the window may hold it, too */
	v.opt.log = log_line;
	v.opt.log_arg = &lines;
	v.opt.log_level = KV_LOG_WARN;
	volume_open(&v);
	must_be(kv_get(v.db, NULL, "bad", 3, &got, &len), KV_E_CORRUPT);
	error_names(v.dev->name, "segment");
	must(lines.nr >= 1 && lines.level == KV_LOG_ERROR && strstr(lines.last, v.dev->name));
	expect(&v, NULL, "good", "1");
	ok(kv_exists(v.db, NULL, "bad", 3, NULL));
	ok(kv_check(v.db, KV_CHECK_VALUES, NULL, NULL, &problems));
	must(problems == 1);
	ok(kv_check(v.db, 0, NULL, NULL, &problems));
	must(problems == 0);
	must_be(put(&v, NULL, "bad", "mended"), KV_OK);
	expect(&v, NULL, "bad", "mended");
	volume_end(&v);
}
END_TEST

/* A failed flush: indeterminate, then read-only until opened again. CONTRACT C9 C12 */
START_TEST(failed_flush_degrades)
{
	struct volume v;
	struct kvp_fault fault = { .error = -KVE_io_flush };
	struct kvp_dev *inner, *dev;
	struct lines lines = { .nr = 0 };
	kv_health_info h;
	kv_db *db;

	volume_make(&v, MEM_DEFAULT, NULL);
	ok(put(&v, NULL, "a", "1"));
	volume_close(&v);
	must(!kvp_mem_open_copy(&inner, volume_bytes(&v), v.dev->size, MEM_BYTES_MAX));
	must(!kvp_fault_open(&dev, inner, &fault));
	v.opt.log = log_line;
	v.opt.log_arg = &lines;
	ok(kve_open_dev(dev, &v.opt, &db));
	ok(kv_put(db, NULL, "b", 1, "2", 1, KV_SYNCED));
	fault = (struct kvp_fault){ .kinds = KVP_FAULT_FLUSH | KVP_FAULT_WRITE, .nth = 1,
				    .persistent = true, .error = -KVE_io_flush };
	must(kv_put(db, NULL, "c", 1, "3", 1, KV_SYNCED) < 0);
	ok(kv_health(db, &h));
	must(!h.writable && h.error < 0 && h.reason[0] && h.errors_nr == 1);
	must(lines.nr >= 1);
	must_be(kv_put(db, NULL, "d", 1, "4", 1, 0), KV_E_READONLY);
	error_names("reopen", NULL);
	must_be(kv_checkpoint(db), KV_E_READONLY);
	ok(kv_exists(db, NULL, "a", 1, NULL)); /* reads go on */
	must(kv_close(db) < 0);
	volume_open(&v);
	expect(&v, NULL, "a", "1");
	volume_end(&v);
}
END_TEST

static void no_thread(kv_options *opt)
{
	opt->flags |= KV_OPEN_NOTHREAD;
	opt->checkpoint_bytes = 64 << 10;
	opt->cache_bytes = 1 << 20;
}

/* Without a background thread: checkpoints and deletions run inside the calls. row H10 */
START_TEST(no_background_thread)
{
	struct volume v;
	uint8_t *big;
	kv_stat_info st;
	uint32_t i, n = _i % 2 ? 500 : 5000;
	size_t len;

	volume_make(&v, _i, no_thread);
	len = 5 * (size_t)v.st.chunk_bytes;
	big = calloc(1, len);
	for (i = 0; i < n; i++)
		ok(kv_put(v.db, NULL, &i, 4, big, i % 300, 0));
	for (i = 0; i < 5; i++)
		ok(kv_put(v.db, NULL, "big", 3, big, len, 0));
	ok(del(&v, NULL, "big"));
	for (i = 0; i < n; i++)
		ok(kv_del(v.db, NULL, &i, 4, 0));
	ok(kv_stat(v.db, &st));
	must(st.checkpoints > v.st.checkpoints);
	must(count(&v, NULL) == 0);
	free(big);
	volume_end(&v);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api");
	TCase *t = tcase_create("volumes");

	tcase_add_test(t, version_and_error_names);
	tcase_add_test(t, options_are_checked);
	tcase_add_test(t, geometry_is_chosen_and_refused);
	tcase_add_test(t, long_keys_with_large_frames);
	tcase_add_test(t, what_is_no_volume);
	tcase_add_test(t, second_opener_is_told_busy);
	tcase_add_test(t, readonly_writes_nothing);
	tcase_add_loop_test(t, close_is_refused_while_things_are_open, 0, WORLDS);
	tcase_add_loop_test(t, a_forked_child_is_refused, 0, WORLDS);
	tcase_add_loop_test(t, stat_and_health, 0, WORLDS);
	tcase_add_loop_test(t, full_volume, 0, WORLDS);
	tcase_add_test(t, damage_is_named);
	tcase_add_test(t, failed_flush_degrades);
	tcase_add_loop_test(t, no_background_thread, 0, WORLDS);
	suite_add_tcase(s, t);
	t = tcase_create("operations");
	tcase_add_loop_test(t, keys_of_every_length, 0, WORLDS);
	tcase_add_loop_test(t, values_of_every_size, 0, WORLDS);
	tcase_add_loop_test(t, values_change_their_kind, 0, WORLDS);
	tcase_add_loop_test(t, put_new_put_replace_del, 0, WORLDS);
	tcase_add_loop_test(t, durabilities, 0, WORLDS);
	tcase_add_loop_test(t, inc_number_rules, 0, WORLDS);
	tcase_add_loop_test(t, inc_long_values, 0, WORLDS);
	suite_add_tcase(s, t);
	t = tcase_create("batches");
	tcase_add_loop_test(t, batch_is_all_or_nothing_across_trees, 0, WORLDS);
	tcase_add_loop_test(t, batch_order_and_repeated_keys, 0, WORLDS);
	tcase_add_loop_test(t, batch_too_big, 0, WORLDS);
	tcase_add_loop_test(t, batch_splits_many_leaves, 0, WORLDS);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(suite());
	int failed;

	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
