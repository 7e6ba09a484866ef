/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_api_stream.c - kvengine.h: values as streams, of any size; what a commit, an abort and a crash
 * leave behind, and that their space comes back.
 */
#include "tests/unit/volume.h"

#include <sys/wait.h>

#define PART 3001u

/* Bytes [at, at + len) of the endless stream of a seed: it can be made and checked in any parts. */
static void stream_bytes(uint8_t *buf, uint64_t at, size_t len, uint64_t seed)
{
	uint8_t block[64];
	size_t i, part;

	for (i = 0; i < len; i += part) {
		pattern(block, sizeof(block), (at + i) / 64 * 31 + seed + 1);
		part = 64 - (size_t)((at + i) % 64);
		part = part < len - i ? part : len - i;
		memcpy(buf + i, block + (at + i) % 64, part);
	}
}

static kv_writer *stream_begin(struct volume *v, kv_tree *t, const char *key, uint64_t len, uint64_t seed)
{
	uint8_t buf[PART];
	uint64_t at;
	size_t part;
	kv_writer *w;

	ok(kv_writer_open(v->db, t, key, strlen(key), &w));
	for (at = 0; at < len; at += part) {
		part = len - at < PART ? (size_t)(len - at) : PART;
		stream_bytes(buf, at, part, seed);
		ok(kv_writer_write(w, buf, part));
	}
	return w;
}

static void stream_put(struct volume *v, kv_tree *t, const char *key, uint64_t len, uint64_t seed)
{
	ok(kv_writer_commit(stream_begin(v, t, key, len, seed), 0));
}

/* The rest of the value from where the reader stands. */
static void read_rest(kv_reader *rd, uint64_t at, uint64_t len, uint64_t seed, size_t part)
{
	uint8_t buf[2 * PART], want[2 * PART];
	size_t got;

	must(part <= sizeof(buf));
	for (;;) {
		ok(kv_reader_read(rd, buf, part, &got));
		if (!got)
			break;
		must(got == part || at + got == len);
		stream_bytes(want, at, got, seed);
		must(!memcmp(buf, want, got));
		at += got;
	}
	must(at == len);
}

static void stream_check(struct volume *v, kv_read *r, kv_tree *t, const char *key, uint64_t len,
			 uint64_t seed)
{
	kv_reader *rd;
	uint64_t vlen = ~0ull;

	ok(kv_reader_open(v->db, r, t, key, strlen(key), &rd, &vlen));
	must(vlen == len);
	read_rest(rd, 0, len, seed, PART - 1);
	kv_reader_close(rd);
}

static void small_cache(kv_options *opt)
{
	opt->cache_bytes = 1 << 20;
}

/* Checkpoints until the chunks of what was deleted are gone. */
static void expect_live(struct volume *v, uint64_t most)
{
	kv_stat_info st;
	int i;

	for (i = 0; i < 2000; i++) {
		ok(kv_checkpoint(v->db));
		ok(kv_stat(v->db, &st));
		if (st.live_bytes <= most)
			return;
		usleep(2000);
	}
	ck_abort_msg("%llu bytes live, at most %llu expected", (unsigned long long)st.live_bytes,
		     (unsigned long long)most);
}

START_TEST(streams_of_every_size)
{
	struct volume v;
	uint64_t size[12], c;
	char key[16];
	size_t i, j, got;
	kv_reader *rd;
	uint8_t b;

	volume_make(&v, _i, small_cache);
	c = v.st.chunk_bytes;
	memcpy(size, (uint64_t[]){ 0, 1, v.st.inline_max, v.st.inline_max + 1, c - 1, c, c + 1, 2 * c - 1,
				   2 * c, 2 * c + 1, 9 * c + 17, 40 * c }, sizeof(size));
	for (i = 0; i < 12; i++) {
		snprintf(key, sizeof(key), "s%zu", i);
		stream_put(&v, NULL, key, size[i], i);
		stream_check(&v, NULL, NULL, key, size[i], i);
	}
	for (j = 0; j < 2; j++) {
		if (j)
			volume_reopen(&v);
		else
			volume_crash(&v);
		for (i = 0; i < 12; i++) {
			snprintf(key, sizeof(key), "s%zu", i);
			stream_check(&v, NULL, NULL, key, size[i], i);
			ok(kv_reader_open(v.db, NULL, NULL, key, strlen(key), &rd, NULL));
			ok(kv_reader_seek(rd, size[i]));
			ok(kv_reader_read(rd, &b, 1, &got));
			must(got == 0);
			ok(kv_reader_seek(rd, size[i] + 1000));
			ok(kv_reader_read(rd, &b, 1, &got));
			must(got == 0);
			ok(kv_reader_seek(rd, size[i] / 2));
			read_rest(rd, size[i] / 2, size[i], i, 512);
			ok(kv_reader_seek(rd, 0));
			read_rest(rd, 0, size[i], i, PART);
			kv_reader_close(rd);
		}
	}
	must_be(kv_reader_open(v.db, NULL, NULL, "none", 4, &rd, NULL), KV_E_NOTFOUND);
	must_be(kv_reader_open(v.db, NULL, NULL, "", 0, &rd, NULL), KV_E_INVALID);
	volume_end(&v);
}
END_TEST

START_TEST(a_stream_is_invisible_until_commit)
{
	struct volume v;
	kv_writer *w, *w2;
	kv_tree *t;
	uint64_t len;

	volume_make(&v, _i, small_cache);
	len = 5 * (uint64_t)v.st.chunk_bytes + 5;
	ok(kv_tree_open(v.db, "t", KV_TREE_CREATE, &t));
	must_be(kv_writer_open(v.db, t, "", 0, &w), KV_E_INVALID);
	must_be(kv_writer_open(v.db, t, NULL, 5, &w), KV_E_INVALID);
	must_be(kv_writer_open(v.db, t, (char[8192]){ 1 }, v.st.key_max + 1, &w), KV_E_TOOBIG);
	w = stream_begin(&v, t, "k", len, 1);
	expect_none(&v, t, "k");
	must(count(&v, t) == 0);
	ok(kv_checkpoint(v.db));
	expect_none(&v, t, "k");
	/* Two streams to one key: the last commit wins. */
	w2 = stream_begin(&v, t, "k", len + 1, 2);
	ok(kv_writer_commit(w, KV_SYNCED));
	stream_check(&v, NULL, t, "k", len, 1);
	ok(kv_writer_commit(w2, 0));
	stream_check(&v, NULL, t, "k", len + 1, 2);
	must(count(&v, t) == 1);
	w = stream_begin(&v, t, "k", len, 3);
	must_be(kv_writer_commit(w, KV_PUT_NEW), KV_E_EXISTS);
	w = stream_begin(&v, t, "new", len, 3);
	must_be(kv_writer_commit(w, KV_PUT_REPLACE), KV_E_NOTFOUND);
	w = stream_begin(&v, t, "k", len, 4);
	must_be(kv_writer_commit(w, 9), KV_E_INVALID);
	w = stream_begin(&v, t, "k", 3, 4); /* small, with a condition */
	must_be(kv_writer_commit(w, KV_PUT_NEW), KV_E_EXISTS);
	stream_check(&v, NULL, t, "k", len + 1, 2);
	w = stream_begin(&v, t, "k", len, 5);
	ok(kv_tree_drop(v.db, "t"));
	must_be(kv_writer_commit(w, 0), KV_E_NOTFOUND);
	expect_live(&v, 0);
	volume_end(&v);
}
END_TEST

START_TEST(an_aborted_stream_leaves_nothing)
{
	struct volume v;
	kv_writer *w;
	uint64_t len;
	int i;

	volume_make(&v, _i, small_cache);
	len = 12 * (uint64_t)v.st.chunk_bytes;
	ok(put(&v, NULL, "k", "old"));
	for (i = 0; i < 10; i++) {
		w = stream_begin(&v, NULL, "k", len, 1);
		kv_writer_abort(w);
		expect(&v, NULL, "k", "old");
	}
	w = stream_begin(&v, NULL, "k", 5, 1); /* nothing was written yet */
	kv_writer_abort(w);
	expect_live(&v, 0);
	volume_reopen(&v);
	expect(&v, NULL, "k", "old");
	expect_live(&v, 0);
	volume_end(&v);
}
END_TEST

/* kve_crash() wants no open handles: what belongs to them leaks, as it does in a process that dies. */
START_TEST(a_stream_that_dies_is_dropped)
{
	struct volume v;
	uint64_t len;
	pid_t pid;
	int i;
	kv_stat_info st;

	volume_make(&v, _i ? FILE_TINY : FILE_DEFAULT, small_cache);
	len = 12 * (uint64_t)v.st.chunk_bytes;
	ok(put(&v, NULL, "k", "old"));
	for (i = 0; i < 3; i++) {
		volume_close(&v);
		pid = fork();
		must(pid >= 0);
		if (!pid) {
			volume_open(&v);
			stream_begin(&v, NULL, "k", len, 1);
			if (i == 1)
				ok(kv_checkpoint(v.db));
			ok(put(&v, NULL, "after", "it"));
			_exit(0);
		}
		must(waitpid(pid, NULL, 0) == pid);
		volume_open(&v);
		expect(&v, NULL, "k", "old");
		expect(&v, NULL, "after", "it");
		expect_live(&v, 0);
		ok(kv_stat(v.db, &st));
		must(st.entries == 2);
		volume_check(&v);
	}
	volume_end(&v);
}
END_TEST

/* The value as it was when the reader was opened, whatever happens to the key. */
START_TEST(a_reader_keeps_its_value)
{
	struct volume v;
	kv_reader *rd, *small, *in_r;
	kv_read *r;
	kv_cursor *c;
	uint64_t len, vlen;
	uint8_t buf[100], want[100];
	size_t got;
	int i;

	volume_make(&v, _i, small_cache);
	len = 11 * (uint64_t)v.st.chunk_bytes + 3;
	stream_put(&v, NULL, "k", len, 1);
	stream_put(&v, NULL, "small", 20, 7);
	ok(kv_read_begin(v.db, &r));
	ok(kv_reader_open(v.db, NULL, NULL, "k", 1, &rd, NULL));
	ok(kv_reader_open(v.db, r, NULL, "k", 1, &in_r, NULL));
	ok(kv_reader_open(v.db, NULL, NULL, "small", 5, &small, NULL));
	ok(kv_reader_read(rd, buf, sizeof(buf), &got));
	must(got == sizeof(buf));
	for (i = 0; i < 6; i++) {
		if (i % 2)
			stream_put(&v, NULL, "k", len, (uint64_t)i + 10);
		else
			ok(del(&v, NULL, "k"));
		ok(kv_checkpoint(v.db));
		stream_put(&v, NULL, "other", len, 5); /* takes what was freed */
		usleep(1000);
	}
	ok(del(&v, NULL, "small"));
	read_rest(rd, sizeof(buf), len, 1, PART);
	ok(kv_reader_seek(rd, v.st.chunk_bytes - 50));
	ok(kv_reader_read(rd, buf, sizeof(buf), &got));
	stream_bytes(want, v.st.chunk_bytes - 50, sizeof(want), 1);
	must(got == sizeof(buf) && !memcmp(buf, want, got));
	read_rest(small, 0, 20, 7, PART);
	read_rest(in_r, 0, len, 1, PART);
	kv_reader_close(in_r);
	stream_check(&v, r, NULL, "k", len, 1);
	ok(kv_cursor_open(v.db, r, NULL, &c));
	ok(kv_cursor_first(c));
	ok(kv_cursor_reader(c, &in_r, &vlen));
	must(vlen == len);
	read_rest(in_r, 0, len, 1, PART);
	kv_reader_close(in_r);
	ok(kv_cursor_next(c));
	ok(kv_cursor_reader(c, &in_r, &vlen));
	read_rest(in_r, 0, 20, 7, PART);
	kv_reader_close(in_r);
	must_be(kv_cursor_next(c), KV_E_NOTFOUND);
	must_be(kv_cursor_reader(c, &in_r, &vlen), KV_E_INVALID);
	kv_cursor_close(c);
	kv_read_end(r);
	kv_reader_close(rd);
	kv_reader_close(small);
	ok(del(&v, NULL, "k"));
	ok(del(&v, NULL, "other"));
	expect_live(&v, 0);
	volume_end(&v);
}
END_TEST

/* 24 MiB through a cache of 1 MiB: memory stays bounded, overwriting does not grow the volume. row Y6 */
START_TEST(larger_than_the_cache)
{
	struct volume v;
	uint64_t len = _i % 2 ? 200 << 10 : 24 << 20, segments = 0;
	kv_stat_info st;
	int i;

	volume_make(&v, _i, small_cache);
	for (i = 0; i < 10; i++) {
		stream_put(&v, NULL, "big", len, (uint64_t)i);
		ok(kv_stat(v.db, &st));
		ck_assert_uint_le(st.cache_used_bytes, 3 << 20);
		stream_check(&v, NULL, NULL, "big", len, (uint64_t)i);
		expect_live(&v, len + len / 8 + 65536);
		ok(kv_stat(v.db, &st));
		if (i == 3)
			segments = st.segments - st.segments_free;
	}
	ck_assert_uint_le(st.segments - st.segments_free, segments + segments / 2);
	volume_reopen(&v);
	stream_check(&v, NULL, NULL, "big", len, 9);
	ok(del(&v, NULL, "big"));
	expect_live(&v, 0);
	volume_end(&v);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_stream");
	TCase *t = tcase_create("streams");

	tcase_set_timeout(t, 400); /* a sanitizer on a busy machine */
	tcase_add_loop_test(t, streams_of_every_size, 0, WORLDS);
	tcase_add_loop_test(t, a_stream_is_invisible_until_commit, 0, WORLDS);
	tcase_add_loop_test(t, an_aborted_stream_leaves_nothing, 0, WORLDS);
	tcase_add_loop_test(t, a_stream_that_dies_is_dropped, 0, 2);
	tcase_add_loop_test(t, a_reader_keeps_its_value, 0, WORLDS);
	tcase_add_loop_test(t, larger_than_the_cache, 0, WORLDS);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
