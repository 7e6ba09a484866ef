/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_values.c - the cache of separated values: what it takes for the same value, long values, what stays
 * when everything is looked at once, giving memory back, sharing it with frames, what cursors look at where
 * it stands, readers beside inserts and evictions, and the memory of a whole volume.
 *
 * All but the last work on the cache itself, with refs made up: bytes follow from the ref, so whatever a
 * hit returns can be judged. Meant for -fsanitize=thread as well. Row M2, planted bugs values-no-validation,
 * values-pin-ignored, values-over-frames, frames-keep-all.
 */
#include "tests/unit/volume.h"

#include "engine/kve.h"
#include "engine/node.h"

#include <pthread.h>

#define LEN_MAX 40000u

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOW 1 /* and memory is not what the program asks for */
#else
#define SLOW 0
#endif

/* The worker may be giving some back. */
static u64 values_bytes(const kv_db *db)
{
	return kvp_load(&db->values.bytes);
}

#define LSN_BASE (1ull << 40) /* far from those of real records */

/* Number n stands for a value; its length follows from it. */
static struct kvf_value_ref ref_of(uint32_t n, uint32_t len)
{
	struct kvf_value_ref ref = {
		.segment = cpu_to_le32(8 + n / 1000),
		.segment_gen = cpu_to_le32(n % 3),
		.offset = cpu_to_le32(n % 1000 * 4096),
		.lsn = cpu_to_le64(n + LSN_BASE),
		.payload_len = cpu_to_le32(len),
	};

	return ref;
}

static u64 hash_of(kv_db *db, uint32_t n)
{
	return kve_value_hash(kve_tree_of(db, NULL), &n, sizeof(n));
}

static void bytes_of(uint32_t n, uint32_t len, uint8_t *out)
{
	uint64_t x = n;
	uint32_t i;

	for (i = 0; i + 8 <= len; i += 8) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(out + i, &x, 8);
	}
	for (; i < len; i++)
		out[i] = (uint8_t)(n + i);
}

static void insert(kv_db *db, uint32_t n, uint32_t len, bool push)
{
	struct kvf_value_ref ref = ref_of(n, len);
	uint8_t bytes[LEN_MAX];

	bytes_of(n, len, bytes);
	kve_values_put(db, hash_of(db, n), &ref, bytes, push);
}

/* Is it there? Then it must be right. */
static bool look(kv_db *db, uint32_t n, uint32_t len)
{
	struct kvf_value_ref ref = ref_of(n, len);
	uint8_t got[LEN_MAX], want[LEN_MAX];

	if (!kve_values_get(db, hash_of(db, n), &ref, got))
		return false;
	bytes_of(n, len, want);
	must(!memcmp(got, want, len));
	return true;
}

/* The same where it stands. */
static const void *look_pinned(kv_db *db, uint32_t n, uint32_t len, uint32_t *pin)
{
	struct kvf_value_ref ref = ref_of(n, len);
	const void *got = kve_values_pin(db, hash_of(db, n), &ref, pin);
	uint8_t want[LEN_MAX];

	if (!got)
		return NULL;
	bytes_of(n, len, want);
	must(!memcmp(got, want, len));
	return got;
}

static uint32_t count_in(kv_db *db, uint32_t from, uint32_t to, uint32_t len)
{
	uint32_t n, found = 0;

	for (n = from; n < to; n++)
		found += look(db, n, len);
	return found;
}

static void cache_8m(kv_options *opt)
{
	opt->cache_bytes = 8u << 20;
}

/* The clock is looked at without its lock. */
static void alone_8m(kv_options *opt)
{
	cache_8m(opt);
	opt->flags |= KV_OPEN_NOTHREAD;
}

static void cache_1m(kv_options *opt)
{
	opt->cache_bytes = 1u << 20;
}

#define VALUES 3000u /* several times what 1 MiB holds */

/* ---- one thread ---------------------------------------------------------------------------------- */

START_TEST(only_the_same)
{
	static const uint32_t lens[] = { 1, 15, 16, 600, 4063, 4064, 4065, 8128, 8129, 20000, LEN_MAX };
	struct kvf_value_ref ref;
	uint8_t out[LEN_MAX + 16];
	struct volume v;
	uint32_t i;

	volume_make(&v, MEM_DEFAULT, cache_8m);
	for (i = 0; i < 11; i++) {
		must(!look(v.db, i, lens[i]));
		insert(v.db, i, lens[i], true);
		insert(v.db, i, lens[i], true);
		must(look(v.db, i, lens[i]));
		ref = ref_of(i, lens[i]);
		ref.lsn = cpu_to_le64(le64_to_cpu(ref.lsn) + 1);
		must(!kve_values_get(v.db, hash_of(v.db, i), &ref, out));
		/* GC has moved it. */
		ref = ref_of(i, lens[i]);
		ref.segment_gen = cpu_to_le32(le32_to_cpu(ref.segment_gen) + 1);
		ref.offset = cpu_to_le32(le32_to_cpu(ref.offset) + 16);
		must(kve_values_get(v.db, hash_of(v.db, i), &ref, out));
		ref = ref_of(i, lens[i] + 1);
		must(!kve_values_get(v.db, hash_of(v.db, i), &ref, out));
		must(look(v.db, i, lens[i]));
	}
	volume_end(&v);
}
END_TEST

/* Several states of a key, as snapshots see them; one of them dies. */
START_TEST(states_of_a_key)
{
	uint8_t bytes[4][600], out[600];
	struct kvf_value_ref ref[4];
	struct volume v;
	uint32_t i;
	u64 hash;

	volume_make(&v, MEM_DEFAULT, cache_8m);
	hash = hash_of(v.db, 1);
	for (i = 0; i < 4; i++) {
		ref[i] = ref_of(i, 600);
		bytes_of(i, 600, bytes[i]);
		kve_values_put(v.db, hash, &ref[i], bytes[i], true);
	}
	kve_values_forget(v.db, hash, &ref[2]);
	for (i = 0; i < 4; i++) {
		must(kve_values_get(v.db, hash, &ref[i], out) == (i != 2));
		must(i == 2 || !memcmp(out, bytes[i], 600));
	}
	must(!kve_values_get(v.db, hash_of(v.db, 2), &ref[1], out));
	volume_end(&v);
}
END_TEST

/* A key has its place in the index whether it comes as a whole or in a page, behind any prefix. */
START_TEST(hash_of_a_slot)
{
	uint8_t key[64], lower[64], upper[64], *page;
	struct kve_cell cell = { .nr = 1, .part[0] = { "v", 1 } };
	uint32_t prefix, len, frame;
	struct kv_tree *t;
	struct volume v;

	volume_make(&v, MEM_DEFAULT, cache_8m);
	t = kve_tree_of(v.db, NULL);
	frame = v.db->geo.frame;
	page = malloc(frame);
	bytes_of(7, sizeof(key), key);
	for (prefix = 0; prefix < 40; prefix++)
		for (len = prefix + 1; len < sizeof(key); len++) {
			memcpy(lower, key, sizeof(key));
			memcpy(upper, key, sizeof(key));
			lower[prefix] = 0;
			upper[prefix] = 0xff;
			key[prefix] = 0x80;
			kve_node_init(page, frame, v.db->uuid, t->id, 0, lower, prefix + 1, upper,
				      prefix + 1);
			must(le16_to_cpu(((struct kvf_page *)page)->prefix_len) == prefix);
			must(!kve_node_insert(page, frame, 0, key, len, &cell, NULL));
			must(kve_value_hash_at(t, page, 0) == kve_value_hash(t, key, len));
			must(kve_value_hash(t, key, len) != kve_value_hash(t, key, len - 1));
		}
	free(page);
	volume_end(&v);
}
END_TEST

/* Hot values stay while ten times what fits passes; another hot set then takes their place. */
START_TEST(a_pass_pushes_nothing_out)
{
	uint32_t len = _i ? 9000 : 1000, fits, hot, n, round;
	struct volume v;

	volume_make(&v, MEM_DEFAULT, cache_8m);
	fits = (uint32_t)(v.db->cache_bytes / (len + 50));
	hot = fits / 2;
	for (n = 0; n < hot; n++)
		insert(v.db, n, len, true);
	must(count_in(v.db, 0, hot, len) == hot);
	for (n = hot; n < hot + 10 * fits; n++)
		if (!look(v.db, n, len))
			insert(v.db, n, len, true);
	ck_assert_uint_ge(count_in(v.db, 0, hot, len), hot * 90 / 100);
	/* The pass of a cursor, which does not even do that. */
	for (n = hot; n < hot + 10 * fits; n++)
		if (!look(v.db, n, len))
			insert(v.db, n, len, false);
	ck_assert_uint_ge(count_in(v.db, 0, hot, len), hot * 90 / 100);
	for (round = 0; round < 20; round++)
		for (n = 500000; n < 500000 + hot; n++)
			if (!look(v.db, n, len))
				insert(v.db, n, len, true);
	ck_assert_uint_ge(count_in(v.db, 500000, 500000 + hot, len), hot * 90 / 100);
	must(values_bytes(v.db) <= v.db->cache_bytes);
	volume_end(&v);
}
END_TEST

/* What is looked at all the time gives way too when the memory is wanted, and at once. */
START_TEST(hot_ones_give_way)
{
	struct volume v;
	uint32_t n, fits, round;
	uint64_t had;

	volume_make(&v, MEM_DEFAULT, cache_8m);
	fits = (uint32_t)(v.db->cache_bytes / 1050);
	for (n = 0; n < fits * 3 / 4; n++)
		insert(v.db, n, 1000, true);
	for (round = 0; round < 4; round++)
		count_in(v.db, 0, fits * 3 / 4, 1000);
	had = values_bytes(v.db);
	kve_values_shrink(v.db, had / 4 * 3);
	must(values_bytes(v.db) <= had / 4 + 32768);
	n = count_in(v.db, 0, fits * 3 / 4, 1000);
	must(n > 0 && n <= fits / 4);
	kve_values_shrink(v.db, ~0ull);
	must(count_in(v.db, 0, fits * 3 / 4, 1000) == 0);
	insert(v.db, 1, 1000, true);
	must(look(v.db, 1, 1000));
	volume_end(&v);
}
END_TEST

/* ---- beside frames ------------------------------------------------------------------------------- */

#define SMALL_LEN 300u /* in the leaves */

/* All of so many keys with small values; together they are more than the cache. */
static void small_read(kv_db *db, uint32_t keys)
{
	uint8_t got[SMALL_LEN];
	uint32_t n;
	size_t len;

	for (n = 0; n < keys; n++)
		ok(kv_get_into(db, NULL, &n, sizeof(n), got, sizeof(got), &len));
}

static void small_put(kv_db *db, uint32_t keys)
{
	uint8_t value[SMALL_LEN];
	uint32_t n;

	for (n = 0; n < keys; n++) {
		bytes_of(n, SMALL_LEN, value);
		ok(kv_put(db, NULL, &n, sizeof(n), value, SMALL_LEN, KV_MEMORY));
	}
	ok(kv_checkpoint(db));
}

static void frames_pin(kv_db *db, uint32_t pins)
{
	struct kve_frame *f = db->cache.clock;
	uint64_t n;

	for (n = db->cache.clocked; n; n--, f = f->next)
		kvp_add(&f->pins, pins);
}

static uint64_t cache_used(const kv_db *db)
{
	return kve_frames_bytes(db) + values_bytes(db);
}

/* Values come in, and all the time there is no more than the whole. */
static void values_press(kv_db *db, uint32_t from, uint32_t nr)
{
	uint32_t n;

	for (n = from; n < from + nr; n++) {
		insert(db, n, 1000, true);
		must(cache_used(db) <= db->cache_bytes);
	}
}

/* Frames have what values do not use, and give it back, but not before it is theirs to give. */
START_TEST(frames_borrow)
{
	uint32_t keys, own, round;
	struct volume v;

	volume_make(&v, MEM_DEFAULT, alone_8m);
	keys = (uint32_t)v.db->cache_bytes / SMALL_LEN;
	own = (uint32_t)(v.db->values.limit / 1000);
	small_put(v.db, keys);
	for (round = 0; round < 2; round++) {
		small_read(v.db, keys);
		must(kve_frames_bytes(v.db) > v.db->cache_bytes * 7 / 8);
		frames_pin(v.db, 1);
		values_press(v.db, 0, own);
		must(kve_frames_bytes(v.db) > v.db->cache_bytes * 7 / 8);
		frames_pin(v.db, -1u);
		values_press(v.db, own, 2 * own);
		must(values_bytes(v.db) > v.db->values.limit * 7 / 8);
		must(kve_frames_bytes(v.db) > v.db->cache_bytes * 5 / 8);
		small_read(v.db, keys);
		must(values_bytes(v.db) > v.db->values.limit * 7 / 8);
		kve_values_shrink(v.db, ~0ull);
	}
	volume_end(&v);
}
END_TEST

/* What is pinned stays as it is, whatever comes after it, and its memory is given back later. */
START_TEST(pinned_ones_stay)
{
	uint32_t n, pin = 0, other = 0, len = 1000;
	uint8_t want[1000];
	const void *at;
	struct volume v;
	uint64_t empty;

	volume_make(&v, MEM_DEFAULT, cache_1m);
	kve_values_shrink(v.db, ~0ull);
	insert(v.db, 1, len, true);
	kve_values_shrink(v.db, ~0ull);
	empty = values_bytes(v.db);
	insert(v.db, 1, len, true);
	insert(v.db, 2, 9000, true);
	must(!look_pinned(v.db, 2, 9000, &pin)); /* in pieces */
	must(!look_pinned(v.db, 3, len, &pin));
	at = look_pinned(v.db, 1, len, &pin);
	must(at && look_pinned(v.db, 1, len, &pin) == at && look_pinned(v.db, 1, len, &other) == at);
	kve_values_unpin(v.db, &other);
	bytes_of(1, len, want);
	for (n = 10; n < 10 + VALUES; n++) {
		insert(v.db, n, len, true);
		must(!memcmp(at, want, len));
		if (n % 500 == 0)
			kve_values_shrink(v.db, ~0ull);
	}
	must(v.db->values.held && values_bytes(v.db) <= v.db->cache_bytes);
	kve_values_unpin(v.db, &pin);
	kve_values_shrink(v.db, ~0ull);
	must(!v.db->values.held);
	ck_assert_uint_eq(values_bytes(v.db), empty);
	volume_end(&v);
}
END_TEST

/* The same through a cursor: what it handed out stays until it moves. */
START_TEST(a_cursor_keeps_its_value)
{
	const void *at, *again;
	uint8_t value[1000];
	struct volume v;
	kv_cursor *c;
	uint32_t n;
	size_t len;

	volume_make(&v, MEM_DEFAULT, cache_1m);
	for (n = 0; n < 300; n++) {
		bytes_of(n, sizeof(value), value);
		ok(kv_put(v.db, NULL, &n, sizeof(n), value, sizeof(value), 0));
	}
	ok(kv_cursor_open(v.db, NULL, NULL, &c));
	for (n = 7; n < 300; n += 60) {
		bytes_of(n, sizeof(value), value);
		ok(kv_cursor_seek(c, &n, sizeof(n)));
		ok(kv_cursor_value(c, &at, &len));
		must(len == sizeof(value) && !memcmp(at, value, len));
		kve_values_shrink(v.db, ~0ull);
		count_in(v.db, 0, 10, 1000);
		for (uint32_t i = 10; i < 2000; i++)
			insert(v.db, i, 1000, true);
		must(!memcmp(at, value, len));
		ok(kv_cursor_value(c, &again, &len));
		must(len == sizeof(value) && !memcmp(at, value, len) && !memcmp(again, value, len));
	}
	kv_cursor_close(c);
	kve_values_shrink(v.db, ~0ull);
	must(!v.db->values.held);
	volume_end(&v);
}
END_TEST

/* No memory: then nothing is kept, and nothing breaks. */
START_TEST(works_without_memory)
{
	struct volume v;
	uint32_t n, nth;

	for (nth = 1; nth < 12; nth++) {
		volume_make(&v, MEM_DEFAULT, cache_1m);
		kvp_alloc_fail(nth, nth % 2);
		for (n = 0; n < 3000; n++) {
			insert(v.db, n, 100 + n % 9000, true);
			look(v.db, n / 2, 100 + n / 2 % 9000);
		}
		kvp_alloc_fail(0, false);
		insert(v.db, 1, 1000, true);
		must(look(v.db, 1, 1000));
		volume_end(&v);
	}
}
END_TEST

/* ---- many threads ---------------------------------------------------------------------------------- */

struct world {
	struct volume v;
	uint32_t steps;
	uint64_t hits, misses;
};

static uint32_t len_of(uint32_t n)
{
	return n % 4 ? 3000 + n % 1000 : 300 + n % 2000;
}

static void *reader(void *arg)
{
	struct world *w = arg;
	uint64_t hits = 0, misses = 0;
	uint32_t i, n, pin = 0, seed = (uint32_t)(uintptr_t)&i;

	for (i = 0; i < w->steps; i++) {
		seed = seed * 1664525 + 1013904223;
		/* Some of them more often, so that there are hot ones. */
		n = (seed >> 8) % (i % 2 ? VALUES : VALUES / 16);
		if (i % 4 ? look(w->v.db, n, len_of(n)) : !!look_pinned(w->v.db, n, len_of(n), &pin)) {
			hits++;
		} else {
			misses++;
			insert(w->v.db, n, len_of(n), i % 16 != 0);
		}
	}
	kve_values_unpin(w->v.db, &pin);
	__atomic_add_fetch(&w->hits, hits, __ATOMIC_RELAXED);
	__atomic_add_fetch(&w->misses, misses, __ATOMIC_RELAXED);
	return NULL;
}

static void *shrinker(void *arg)
{
	struct world *w = arg;
	uint32_t i, n;

	for (i = 0; i < w->steps / 100; i++) {
		for (n = i * 50; n < i * 50 + 50; n++)
			insert(w->v.db, VALUES + n, len_of(n), true);
		if (i % 10 == 0)
			kve_values_shrink(w->v.db, values_bytes(w->v.db) / 4 * 3);
	}
	return NULL;
}

START_TEST(readers_beside_eviction)
{
	struct world *w = calloc(1, sizeof(*w));
	pthread_t threads[6];
	unsigned int i;

	volume_make(&w->v, MEM_DEFAULT, cache_1m);
	w->steps = SLOW || getenv("KV_TEST_QUICK") ? 20000 : 200000;
	for (i = 0; i < 6; i++)
		must(!pthread_create(&threads[i], NULL, i ? reader : shrinker, w));
	for (i = 0; i < 6; i++)
		must(!pthread_join(threads[i], NULL));
	must(w->hits > w->steps / 4 && w->misses > w->steps / 4);
	must(values_bytes(w->v.db) <= w->v.db->cache_bytes);
	volume_end(&w->v);
	free(w);
}
END_TEST

/* ---- the whole volume ------------------------------------------------------------------------------ */

/* Bytes that this process shares with nobody. */
static uint64_t private_bytes(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	uint64_t sum = 0, kib;
	char line[200];

	must(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Private_Clean: %lu", &kib) == 1 ||
		    sscanf(line, "Private_Dirty: %lu", &kib) == 1)
			sum += kib << 10;
	fclose(f);
	return sum;
}

static void memory_check(kv_db *db, uint64_t before)
{
	uint64_t now = private_bytes() - before;

	if (now > db->cache_bytes + (16u << 20))
		ck_abort_msg("%llu KiB of private memory: frames and shadows %llu, values %llu and %llu idle",
			     now / 1024ull, kve_frames_bytes(db) / 1024, values_bytes(db) / 1024,
			     db->values.idle / 1024);
}

static void volume_load(struct volume *v, uint64_t cache, uint64_t before)
{
	uint8_t value[LEN_MAX], got[LEN_MAX], want[LEN_MAX];
	uint32_t key, step, len, seed = 1, keys = (uint32_t)(3 * cache / 4000);
	size_t n;
	int err;

	for (step = 0; step < 8 * keys; step++) {
		seed = seed * 1664525 + 1013904223;
		key = (seed >> 8) % keys;
		len = key % 50 ? 600 + key % 3000 : key % LEN_MAX;
		err = kv_get_into(v->db, NULL, &key, sizeof(key), got, sizeof(got), &n);
		must(!err || err == KV_E_NOTFOUND);
		bytes_of(key, len, want);
		must(err || (n == len && !memcmp(got, want, n)));
		memcpy(value, want, len);
		if (err || step % 8 == 0)
			ok(kv_put(v->db, NULL, &key, sizeof(key), value, len, KV_MEMORY));
		/* Small ones, so that the frames take back what values have taken. */
		key = ~step;
		if (step > 4 * keys)
			ok(kv_put(v->db, NULL, &key, sizeof(key), value, 300, KV_MEMORY));
		if (step % 1000 == 0)
			memory_check(v->db, before);
	}
}

START_TEST(memory_is_bounded)
{
	static const uint64_t limits[] = { 8u << 20, 64u << 20 };
	kv_options opt = KV_OPTIONS_INIT;
	char path[] = "/tmp/kvs-values.XXXXXX";
	uint64_t before;
	struct volume v = { .world = FILE_DEFAULT };

	if (SLOW)
		return;
	close(mkstemp(path));
	opt.cache_bytes = limits[_i];
	opt.flags = KV_OPEN_CREATE;
	before = private_bytes();
	ok(kv_open(path, &opt, &v.db));
	volume_load(&v, limits[_i], before);
	must(values_bytes(v.db) > limits[_i] / 9);
	ok(kv_close(v.db));
	unlink(path);
}
END_TEST

static void cache_64m(kv_options *opt)
{
	opt->cache_bytes = 64u << 20;
}

#define LIVE 10000u /* of 1000 bytes */

/*
 * All that is alive fits six times, and stays however often it is overwritten, and moved by GC: the dead
 * are not in its way, nor does their memory pile up.
 */
START_TEST(overwritten_ones_make_room)
{
	uint32_t n, rounds = SLOW ? 8 : 20;
	uint8_t value[1000], got[1000];
	kv_stat_info before, after;
	uint64_t rnd = 5;
	struct volume v;
	size_t len;

	volume_make(&v, FILE_DEFAULT, cache_64m);
	for (n = 0; n < LIVE * rounds; n++) {
		uint32_t key = n < LIVE ? n : volume_chance(&rnd, LIVE);

		bytes_of(n, sizeof(value), value);
		ok(kv_put(v.db, NULL, &key, sizeof(key), value, sizeof(value), 0));
		key = volume_chance(&rnd, n < LIVE ? n + 1 : LIVE);
		ok(kv_get_into(v.db, NULL, &key, sizeof(key), got, sizeof(got), &len));
	}
	ok(kv_stat(v.db, &before));
	for (n = 0; n < LIVE; n++)
		ok(kv_get_into(v.db, NULL, &n, sizeof(n), got, sizeof(got), &len));
	ok(kv_stat(v.db, &after));
	/* GC reads, too, but seldom more at once. */
	must(after.device_reads - before.device_reads < LIVE / 100);
	must(values_bytes(v.db) < v.db->cache_bytes / 2);
	volume_end(&v);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("values");
	TCase *t = tcase_create("values"), *beside = tcase_create("frames");

	tcase_set_timeout(t, 400); /* a sanitizer on a busy machine */
	tcase_add_test(t, only_the_same);
	tcase_add_test(t, states_of_a_key);
	tcase_add_test(t, hash_of_a_slot);
	tcase_add_loop_test(t, a_pass_pushes_nothing_out, 0, 2);
	tcase_add_test(t, hot_ones_give_way);
	tcase_add_test(t, pinned_ones_stay);
	tcase_add_test(t, a_cursor_keeps_its_value);
	tcase_add_test(t, works_without_memory);
	tcase_add_test(t, overwritten_ones_make_room);
	tcase_add_test(t, readers_beside_eviction);
	tcase_add_loop_test(t, memory_is_bounded, 0, 2);
	suite_add_tcase(s, t);
	tcase_set_timeout(beside, 400);
	tcase_add_test(beside, frames_borrow);
	suite_add_tcase(s, beside);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
