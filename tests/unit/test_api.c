/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_api.c - kvengine.h on devices in memory and on files, default and tiny geometry: volumes,
 * options, statistics, health, a full volume, damage, errors and their texts. Operations and batches:
 * test_api_ops.c. Trees, cursors and read transactions: test_api_trees.c. Streams and large values:
 * test_api_stream.c. Threads: test_threads.c, test_groups.c.
 */
#include "format/kvf.h"
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
	must(v.st.format_version == KVF_VERSION);
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
	must_be(kv_open(missing, NULL, &db), KV_E_NOTVOLUME);
	error_names(missing, "no such file");
	must_be(kv_open("/nonexistent/dir/x", NULL, &db), KV_E_NOTVOLUME);
	opt.flags = KV_OPEN_CREATE;
	must_be(kv_open("/nonexistent/dir/x", &opt, &db), KV_E_IO);
	/* nothing is left of what could not be made */
	opt.block_bytes = 777;
	must_be(kv_open(missing, &opt, &db), KV_E_INVALID);
	must(access(missing, F_OK));
	opt.block_bytes = 0;
	must_be(kv_open(path, NULL, &db), KV_E_NOTVOLUME);
	error_names(path, "empty");
	pattern(junk, sizeof(junk), 5);
	write_file(path, junk, sizeof(junk));
	must_be(kv_open(path, NULL, &db), KV_E_NOTVOLUME);
	error_names(path, NULL);
	must_be(kv_create(path, NULL), KV_E_NOTVOLUME);
	opt.flags = KV_OPEN_CREATE;
	must_be(kv_open(path, &opt, &db), KV_E_NOTVOLUME);
	/* Zeros where a volume begins say nothing of what follows. */
	memset(junk, 0, 60000);
	write_file(path, junk, sizeof(junk));
	must_be(kv_open(path, &opt, &db), KV_E_NOTVOLUME);
	must_be(kv_create(path, NULL), KV_E_NOTVOLUME);
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

/* ---- the whole volume ---------------------------------------------------------------------------- */

static void labelled(kv_options *opt)
{
	strcpy(opt->label, "a label of the most bytes: 32 --");
	memset(opt->uuid, 0x5a, sizeof(opt->uuid));
	opt->max_bytes = 64 << 20;
}

static void healthy(struct volume *v, bool clean)
{
	kv_health_info h;

	ok(kv_health(v->db, &h));
	must(h.writable && !h.error && !h.reason[0] && !h.errors_nr);
	must(clean ? h.clean && !h.replayed : !h.clean && h.replayed >= 1);
}

/* What counts calls, and what a cursor holds. */
static void stat_of_changes(struct volume *v)
{
	kv_stat_info st, was = v->st;
	kv_cursor *c;
	kv_tree *t;
	char key[16];
	int i;

	ok(kv_tree_open(v->db, "t", KV_TREE_CREATE, &t));
	for (i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "%d", i);
		ok(put(v, i % 2 ? t : NULL, key, "value"));
	}
	expect(v, NULL, "0", "value");
	ok(del(v, NULL, "2"));
	ok(kv_sync(v->db));
	ok(kv_cursor_open(v->db, NULL, NULL, &c));
	ok(kv_stat(v->db, &st));
	must(st.trees == 2 && st.entries == 99 && st.readers == 1);
	must(st.reader_generation > 0 && st.reader_generation <= st.generation + 1);
	must(st.puts == 100 && st.gets == 1 && st.dels == 1 && st.commits >= 102);
	must(st.syncs > was.syncs && st.lsn > was.lsn && st.durable_lsn == st.lsn);
	must(st.device_writes > was.device_writes && st.device_write_bytes > was.device_write_bytes);
	must(st.dirty_bytes > 0 && st.cache_used_bytes >= st.dirty_bytes);
	must(st.cache_bytes == 64 << 20);
	/* what changes and is written out stays for the cursor, and goes with it */
	ok(put(v, NULL, "0", "another value"));
	ok(kv_checkpoint(v->db));
	ok(kv_stat(v->db, &st));
	must(st.reader_bytes > 0 && st.readers == 1);
	kv_cursor_close(c);
	ok(kv_stat(v->db, &st));
	must(!st.reader_bytes && !st.reader_generation && !st.readers);
}

static void stat_of_checkpoint(struct volume *v, kv_stat_info *st)
{
	kv_stat_info was;

	ok(kv_stat(v->db, &was));
	ok(put(v, NULL, "0", "value"));
	ok(kv_checkpoint(v->db));
	ok(kv_stat(v->db, st));
	must(st->readers == 0 && st->checkpoints > was.checkpoints && st->generation > was.generation);
	must(st->replay_lsn > was.replay_lsn && st->tree_bytes > 0);
	must(st->segments_free + st->segments_log + st->segments_tree <= st->segments);
	must(st->volume_bytes >= st->segments * st->segment_bytes);
	if (!v->dev)
		must(st->allocated_bytes > 0);
}

START_TEST(stat_and_health) /* row H5 */
{
	struct volume v;
	kv_stat_info st;

	volume_make(&v, _i, labelled);
	ck_assert_str_eq(v.st.label, "a label of the most bytes: 32 --");
	must(v.st.uuid[0] == 0x5a && v.st.uuid[15] == 0x5a);
	must(v.st.max_bytes == 64 << 20 && v.st.trees == 1 && v.st.entries == 0);
	stat_of_changes(&v);
	stat_of_checkpoint(&v, &st);
	healthy(&v, true);
	ok(put(&v, NULL, "x", "y"));
	volume_crash(&v);
	healthy(&v, false);
	must(v.st.incarnation > st.incarnation);
	volume_reopen(&v);
	healthy(&v, true);
	ck_assert_str_eq(v.st.label, "a label of the most bytes: 32 --");
	/* a reader, which does not need the segment table, tells the same of the space */
	st = v.st;
	volume_close(&v);
	v.opt.flags |= KV_OPEN_READONLY;
	volume_open(&v);
	must(st.segments_log > 0 && st.tree_bytes > 0 && st.pending_free_bytes > 0);
	must(v.st.segments_free == st.segments_free && v.st.segments_log == st.segments_log);
	must(v.st.segments_tree == st.segments_tree && v.st.segments == st.segments);
	must(v.st.live_bytes == st.live_bytes && v.st.tree_bytes == st.tree_bytes);
	must(v.st.pending_free_bytes == st.pending_free_bytes);
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
	return s;
}

int main(void)
{
	return suite_run(suite());
}
