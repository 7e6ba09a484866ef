/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fuzz_open.c - AFL++ target: any bytes as a volume, opened read-only and read from end to end.
 *
 * Whatever the bytes are: no crash, no out-of-bounds access, no leak, no endless walk (CONTRACT C16),
 * and answers that agree with each other: keys in order, the same forwards and backwards, a get gives
 * what the cursor gave (C4). Persistent mode with shared memory under AFL++; given files, an ordinary
 * program that reads each once.
 *
 * Of one image in four, and of each file, the judge is asked too what stands where (explain.c).
 *
 * KV_BUG=fuzz-crash plants a crash behind the checksums: no value of the corpus begins with a byte
 * above 127, and only who mends sums can make one that is served.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../engine/user/kve_test.h"
#include "../format/kvf.h"
#include "explain.h"

#define IMAGE_MAX (256u << 10)
#define TREES_MAX 64u
#define VALUE_MAX (64u << 10)

#ifdef __AFL_FUZZ_TESTCASE_LEN
__AFL_FUZZ_INIT();
#endif

struct walk {
	kv_db *db;
	size_t image_len;
	u64 entries, problems, errors;
	u32 trees;
	char names[TREES_MAX][256];
	u8 key[KVF_FRAME_MAX], value[VALUE_MAX];
};

#define MUST(cond, ...)                                                                            \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "fuzz_open: " __VA_ARGS__);                                \
			fprintf(stderr, " (%s:%d: %s)\n", __FILE__, __LINE__, #cond);              \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static void no_log(void *arg, int level, const char *message)
{
	(void)arg;
	(void)level;
	MUST(message && *message, "empty log message");
}

static void finding(void *arg, int number, const char *text)
{
	(void)arg;
	MUST(number && text && *text, "finding %d without text", number);
}

static int tree_name(void *arg, const char *name, uint64_t count)
{
	struct walk *w = arg;

	(void)count;
	if (w->trees < TREES_MAX && strlen(name) < sizeof(w->names[0]))
		strcpy(w->names[w->trees++], name);
	return 0;
}

static int compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	int c = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return c ? c : a_len < b_len ? -1 : a_len > b_len;
}

/* An error of the class that damaged bytes may give, nothing else. */
static void must_be_damage(struct walk *w, int err)
{
	MUST(err == KV_E_CORRUPT || err == KV_E_NOTFOUND || err == KV_E_TOOBIG ||
	     err == KV_E_UNSUPPORTED || err == KV_E_IO || err == KV_E_NOTVOLUME ||
	     err == KV_E_NOMEM,"error %d: %s", err, kv_last_error());
	MUST(kv_strerror(err) && *kv_strerror(err), "error %d without text", err);
	w->errors += err != KV_E_NOTFOUND;
}

/* Reads the value as a stream into w->value as far as it has room; its length or an error. */
static int64_t value_stream(struct walk *w, kv_cursor *c)
{
	uint64_t len, done = 0;
	kv_reader *rd;
	size_t got;
	int err;

	err = kv_cursor_reader(c, &rd, &len);
	if (err)
		return err;
	do {
		u8 rest[512];
		bool room = done + sizeof(rest) <= VALUE_MAX;

		err = kv_reader_read(rd, room ? w->value + done : rest, sizeof(rest), &got);
		MUST(err || got <= sizeof(rest), "read more than asked for");
		done += err ? 0 : got;
		MUST(done <= w->image_len, "a value longer than the image");
	} while (!err && got);
	kv_reader_close(rd);
	MUST(err || done == len, "value of %llu bytes, %llu read", (u64)len, (u64)done);
	return err ? err : (int64_t)done;
}

/* The entry at the cursor: its value as cursor, stream and get have it. */
static void entry_read(struct walk *w, kv_tree *tree, kv_cursor *c, const void *key, size_t key_len)
{
	const void *value = NULL;
	size_t len = 0, got_len = 0;
	uint64_t said = 0;
	void *got = NULL;
	int64_t streamed;
	int err, err_len, err_get;

	err_len = kv_cursor_value_len(c, &said);
	if (err_len)
		must_be_damage(w, err_len);
	streamed = value_stream(w, c);
	err = kv_cursor_value(c, &value, &len);
	if (err)
		must_be_damage(w, err);
	else
		MUST(streamed == (int64_t)len && !err_len && said == len,
		     "cursor has %zu bytes, stream %lld, length says %llu", len, (s64)streamed,
		     (u64)said);
	err_get = kv_get(w->db, tree, key, key_len, &got, &got_len);
	if (err_get)
		must_be_damage(w, err_get);
	MUST(err_get != KV_E_NOTFOUND, "a key of the cursor is not found");
	MUST(err || err_get || (len == got_len && !memcmp(value, got, len)), "get and cursor differ");
	MUST(err || len > VALUE_MAX || !memcmp(value, w->value, len), "stream and cursor differ");
	if (!err && len && KVP_BUG("fuzz-crash"))
		MUST(*(const u8 *)value < 128, "planted crash");
	if (!err_get)
		kv_free(got);
}

/* Returns the number of entries, or an error where the walk ended. */
static int64_t tree_walk(struct walk *w, kv_tree *tree, bool forward)
{
	size_t last_len = 0, key_len;
	kv_cursor *c;
	const void *key;
	int64_t n = 0;
	int err;

	err = kv_cursor_open(w->db, NULL, tree, &c);
	if (err) {
		must_be_damage(w, err);
		return err;
	}
	err = forward ? kv_cursor_first(c) : kv_cursor_last(c);
	while (!err) {
		err = kv_cursor_key(c, &key, &key_len);
		if (err)
			break;
		MUST(key_len <= sizeof(w->key), "a key of %zu bytes", key_len);
		MUST(!n || (compare(w->key, last_len, key, key_len) < 0) == forward, "order");
		MUST(!n || compare(w->key, last_len, key, key_len), "a key twice");
		/* an entry takes 12 bytes of a page or 56 of the log */
		MUST((size_t)++n <= w->image_len / 12, "more entries than the image can hold");
		w->entries += forward;
		memcpy(w->key, key, key_len);
		last_len = key_len;
		if (forward)
			entry_read(w, tree, c, w->key, key_len);
		err = forward ? kv_cursor_next(c) : kv_cursor_prev(c);
	}
	must_be_damage(w, err);
	kv_cursor_close(c);
	return err == KV_E_NOTFOUND ? n : err;
}

static void volume_read(struct walk *w)
{
	kv_health_info health;
	kv_stat_info stat;
	uint64_t problems = 0, count;
	kv_tree *tree;
	int64_t n, back;
	u32 i;
	int err;

	err = kv_check(w->db, KV_CHECK_VALUES, finding, NULL, &problems);
	w->problems = problems;
	if (err)
		must_be_damage(w, err);
	err = kv_stat(w->db, &stat);
	if (err)
		must_be_damage(w, err);
	err = kv_health(w->db, &health);
	MUST(!err && !health.writable, "health of a read-only volume: %d", err);
	err = kv_tree_list(w->db, tree_name, w);
	if (err)
		must_be_damage(w, err);
	for (i = 0; i < w->trees; i++) {
		err = kv_tree_open(w->db, w->names[i], 0, &tree);
		if (err) {
			must_be_damage(w, err);
			continue;
		}
		n = tree_walk(w, tree, true);
		back = tree_walk(w, tree, false);
		MUST(n < 0 || back < 0 || n == back, "%lld entries forwards, %lld backwards", (s64)n,
		     (s64)back);
		err = kv_count(w->db, tree, &count);
		if (err)
			must_be_damage(w, err);
	}
}

static void image_read(struct walk *w, const u8 *image, size_t len)
{
	kv_options opt = KV_OPTIONS_INIT;
	u64 before = kvp_alloc_in_use();
	struct kvp_dev *dev;
	int err;

	memset(w, 0, sizeof(*w));
	if (kvp_mem_open_copy(&dev, image, len, len))
		exit(EXIT_FAILURE);
	opt.flags = KV_OPEN_READONLY | KV_OPEN_NOTHREAD;
	opt.cache_bytes = 1 << 20;
	opt.log = no_log;
	w->image_len = len;
	err = kve_open_dev(dev, &opt, &w->db);
	if (err) {
		must_be_damage(w, err);
		MUST(*kv_last_error(), "error %d without text", err);
	} else {
		volume_read(w);
		err = kv_close(w->db);
		MUST(!err, "close: %d: %s", err, kv_last_error());
	}
	MUST(kvp_alloc_in_use() == before, "leak of %llu allocations", kvp_alloc_in_use() - before);
}

/* 0; 1: damage was found in a file that should be sound; 2: it cannot be read. */
static int file_read(struct walk *w, const char *path, bool sound)
{
	static u8 image[IMAGE_MAX + 1];
	FILE *f = fopen(path, "rb");
	size_t len;

	if (!f) {
		perror(path);
		return 2;
	}
	len = fread(image, 1, sizeof(image), f);
	fclose(f);
	if (len > IMAGE_MAX) {
		fprintf(stderr, "fuzz_open: %s: more than %u bytes\n", path, IMAGE_MAX);
		return 2;
	}
	image_read(w, image, len);
	fuzz_explain(image, len);
	printf("%s: %llu entries in %u trees, %llu problems, %llu errors\n", path, w->entries,
	       w->trees, w->problems, w->errors);
	return sound && (!w->trees || w->problems || w->errors);
}

/* fuzz_open [-s] FILE...; -s: the files are sound. */
int main(int argc, char **argv)
{
	struct walk *w = calloc(1, sizeof(*w));
	bool sound = argc > 1 && !strcmp(argv[1], "-s");
	int i, err = 0;

	if (!w)
		return 2;
	for (i = sound ? 2 : 1; i < argc && !err; i++)
		err = file_read(w, argv[i], sound);
#ifdef __AFL_FUZZ_TESTCASE_LEN
	if (argc == 1) {
		const u8 *image;

		__AFL_INIT();
		image = __AFL_FUZZ_TESTCASE_BUF;
		while (__AFL_LOOP(2000)) {
			size_t len = (size_t)__AFL_FUZZ_TESTCASE_LEN;

			if (!len || len > IMAGE_MAX)
				continue;
			image_read(w, image, len);
			if ((image[len / 2] ^ image[len / 3] ^ image[len - 1] ^ len) % 4 == 0)
				fuzz_explain(image, len);
		}
	}
#endif
	free(w);
	return err;
}
