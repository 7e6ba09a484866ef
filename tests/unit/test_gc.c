/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_gc.c - garbage collection of the log: what it frees, what it keeps, what it does to those who read and
 * write meanwhile. Crashes in every state of it: tests/crash, tests/model.
 */
#include <pthread.h>
#include <sys/stat.h>

#include "format/kvf.h"
#include "engine/gc.h"

#define KEYS 600u
#define VALUE_MAX 2000u
#include "tests/unit/salted.h"

static size_t key_make(char *key, uint32_t i)
{
	return (size_t)sprintf(key, "key-%05u", i * 7919u % 100000u);
}

static size_t value_make(struct volume *v, const struct content *c, uint8_t *buf, uint32_t salt)
{
	size_t base = v->st.inline_max + 1, len = base + salt % 7 * 97 % (v->st.chunk_bytes - base);

	(void)c;
	len = len > VALUE_MAX ? VALUE_MAX : len;
	fill_value(buf, len, salt);
	return len;
}

/* All keys, then most of them again, at random: every segment is half dead. */
static void churn(struct volume *v, struct content *c, uint32_t changes)
{
	uint32_t i;

	for (i = 0; i < KEYS; i++)
		set(v, c, i);
	for (i = 0; i < changes; i++)
		set(v, c, roll(c, KEYS));
	for (i = 0; i < KEYS / 10; i++)
		unset(v, c, roll(c, KEYS));
}

static void no_thread(kv_options *opt)
{
	opt->flags |= KV_OPEN_NOTHREAD;
	opt->log_level = KV_LOG_ERROR;
}

static kv_gc_info collect_all(struct volume *v, uint64_t budget)
{
	kv_gc_info info;
	uint32_t calls = 0;

	do {
		ok(kv_gc(v->db, budget, &info));
		must(++calls < 100000);
	} while (info.more);
	return info;
}

START_TEST(half_dead_segments_come_back)
{
	struct content c = { .rnd = 1 };
	kv_stat_info before, after;
	struct volume v;
	kv_gc_info info;

	volume_make(&v, _i, no_thread);
	churn(&v, &c, KEYS);
	ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &before));
	info = collect_all(&v, 0);
	must(info.moved_bytes || before.segments_log < 4);
	ok(kv_stat(v.db, &after));
	must(after.segments_log <= before.segments_log);
	/* Of what is left at most a tenth is dead, and the head, its successor, a cold one not full. */
	must(after.segments_log * (uint64_t)after.segment_bytes * 9 / 10 <=
	     after.live_bytes * 12 / 10 + 5ull * after.segment_bytes);
	verify(&v, &c);
	volume_check(&v);
	volume_reopen(&v);
	verify(&v, &c);
	volume_crash(&v);
	verify(&v, &c);
	judged_end(&v);
}
END_TEST

/* Everything interleaved: changes, steps of GC, checkpoints, deaths, reopening. */
START_TEST(any_order_of_steps)
{
	struct content c = { .rnd = 7 };
	struct volume v;
	uint32_t i, k;

	volume_make(&v, _i, no_thread);
	churn(&v, &c, KEYS / 2);
	for (i = 0; i < 400; i++) {
		switch (roll(&c, 16)) {
		case 0:
			ok(kv_checkpoint(v.db));
			break;
		case 1:
			volume_crash(&v);
			break;
		case 2:
			volume_reopen(&v);
			break;
		case 3: case 4:
			unset(&v, &c, roll(&c, KEYS));
			break;
		case 5: case 6: case 7: case 8:
			ok(kv_gc(v.db, 1 + roll(&c, 8192), NULL));
			break;
		default:
			for (k = 0; k < 8; k++)
				set(&v, &c, roll(&c, KEYS));
		}
		if (i % 50 == 0)
			verify(&v, &c);
	}
	verify(&v, &c);
	volume_check(&v);
	volume_close(&v);
	judged(&v);
	volume_open(&v);
	verify(&v, &c);
	volume_end(&v);
}
END_TEST

/* A frozen state goes on showing what it showed, whatever is moved and freed. */
START_TEST(readers_keep_their_state)
{
	struct content c = { .rnd = 3 }, then;
	struct volume v;
	kv_read *r;
	uint32_t i;

	volume_make(&v, _i, no_thread);
	churn(&v, &c, KEYS);
	ok(kv_checkpoint(v.db));
	ok(kv_read_begin(v.db, &r));
	then = c;
	for (i = 0; i < 3; i++) {
		churn(&v, &c, KEYS / 2);
		collect_all(&v, 0);
	}
	verify_in(&v, r, &then);
	kv_read_end(r);
	verify(&v, &c);
	volume_end(&v);
}
END_TEST

/* GC has nothing to win of what a range delete is about to kill, as long as that gets on. */
START_TEST(what_dies_is_spared)
{
	struct content c = { .rnd = 5 };
	struct volume v;
	bool more = true;
	u64 lsn;

	volume_make(&v, _i, no_thread);
	churn(&v, &c, KEYS);
	ok(kv_checkpoint(v.db));
	must(!kve_spare(v.db, true));
	ok(kv_delete_range(v.db, NULL, NULL, 0, NULL, 0, 0));
	lsn = kve_spare(v.db, true);
	must(lsn);
	kvp_mutex_lock(&v.db->gc_lock);
	ok(-kve_gc_log_step(v.db, lsn, &more));
	kve_gc_stop(v.db);
	kvp_mutex_unlock(&v.db->gc_lock);
	must(!more);
	/* It fails: GC may have all, and has its turn before it spares anything again. */
	must(!kve_spare(v.db, false));
	must(!kve_spare(v.db, true));
	kve_spare_turn(v.db, false);
	must(kve_spare(v.db, true));
	while (kve_doomed_help(v.db))
		;
	must(!kve_spare(v.db, true));
	must(count(&v, NULL) == 0);
	volume_check(&v);
	judged_end(&v);
}
END_TEST

static void limited(kv_options *opt)
{
	no_thread(opt);
	opt->segment_bytes = opt->segment_bytes ? 8192 : 65536;
	opt->max_bytes = opt->segment_bytes == 8192 ? 2u << 20 : 16u << 20;
	opt->checkpoint_bytes = 1u << 20;
}

/* Half of it is alive, without headers and rests of segments; eight times the volume is written then. */
START_TEST(full_volume_goes_on)
{
	struct content c = { .rnd = 11 };
	uint8_t value[8192] = { 0 };
	uint32_t i, nr, len;
	kv_stat_info st;
	struct volume v;
	char key[32];

	volume_make(&v, _i, limited);
	len = v.opt.segment_bytes == 8192 ? 1200 : 4000;
	nr = (uint32_t)(v.opt.max_bytes / 2 / len);
	for (i = 0; i < nr * in_world(_i, 17); i++) {
		uint32_t k = i < nr ? i : roll(&c, nr);

		memcpy(value, &k, sizeof(k));
		ok(kv_put(v.db, NULL, key, key_make(key, k), value, len, 0));
	}
	ok(kv_stat(v.db, &st));
	must(st.volume_bytes <= v.opt.max_bytes);
	for (i = 0; i < nr; i++) {
		memcpy(value, &i, sizeof(i));
		expect_bytes(&v, NULL, key, key_make(key, i), value, len);
	}
	/* And now as much as it takes. */
	for (i = nr; !kv_put(v.db, NULL, key, key_make(key, i), value, len, 0); i++)
		must(i < nr * 3);
	must_be(kv_put(v.db, NULL, key, key_make(key, i), value, len, 0), KV_E_NOSPACE);
	for (i = 0; i < nr; i++)
		ok(kv_del(v.db, NULL, key, key_make(key, i), 0));
	for (i = 0; i < nr / 2; i++)
		ok(kv_put(v.db, NULL, key, key_make(key, i), value, len, 0));
	volume_check(&v);
	judged_end(&v);
}
END_TEST

/* ---- records on the medium ------------------------------------------------------------------------ */

/* Calls fn for each record of each LOG segment that says which it is. */
static void each_record(struct volume *v, void (*fn)(void *arg, const struct kvf_record *r, uint8_t *payload),
			void *arg)
{
	uint8_t *bytes = volume_bytes(v);
	uint32_t segment = v->st.segment_bytes, block = v->st.block_bytes, at, need;
	struct kvf_geometry g;
	uint64_t s;

	must(!kvf_geometry_from_super(&g, (const struct kvf_super *)bytes) ||
	     !kvf_geometry_from_super(&g, (const struct kvf_super *)(bytes + block)));
	for (s = 3; (s + 1) * segment <= v->dev->size; s++) {
		const struct kvf_segment_header *h = (const void *)(bytes + s * segment);
		struct kvf_identity id = { .segment = (uint32_t)s, .segment_gen = le32_to_cpu(h->gen) };

		memcpy(id.uuid, v->st.uuid, 16);
		if (kvf_segment_header_verify(h, &id, KVF_KIND_LOG))
			continue;
		id.incarnation = le32_to_cpu(h->incarnation);
		for (at = block; at + sizeof(struct kvf_record) <= segment;) {
			struct kvf_record *r = (void *)(bytes + s * segment + at);

			if (kvf_record_verify(r, segment - at, &id, at, &g, &need)) {
				at += KVF_RECORD_ALIGN;
				continue;
			}
			fn(arg, r, (uint8_t *)kvf_record_key(r) + le16_to_cpu(r->key_len));
			at += (uint32_t)kvf_record_bytes(kvf_record_ext_len(r), le16_to_cpu(r->key_len),
							 le32_to_cpu(r->payload_len));
		}
	}
}

struct lsns {
	uint64_t first; /* of the original */
	uint32_t copies, others; /* of these with another LSN */
};

static void lsn_note(void *arg, const struct kvf_record *r, uint8_t *payload)
{
	struct lsns *l = arg;

	(void)payload;
	if (le16_to_cpu(r->key_len) != 6 || memcmp(kvf_record_key(r), "marked", 6))
		return;
	if (r->flags & KVF_RECORD_COPY) {
		l->copies++;
		l->others += le64_to_cpu(r->lsn) != l->first;
	} else {
		l->first = le64_to_cpu(r->lsn);
	}
}

START_TEST(copies_keep_their_lsn)
{
	struct content c = { .rnd = 5 };
	struct lsns l = { 0 };
	uint8_t value[VALUE_MAX];
	struct volume v;
	size_t len;

	volume_make(&v, _i, no_thread);
	churn(&v, &c, 10);
	len = value_make(&v, &c, value, 1);
	ok(kv_put(v.db, NULL, "marked", 6, value, len, 0));
	churn(&v, &c, 10 * KEYS);
	ok(kv_checkpoint(v.db));
	each_record(&v, lsn_note, &l);
	must(l.first && !l.copies);
	collect_all(&v, 0);
	each_record(&v, lsn_note, &l);
	must(l.copies);
	must(!l.others);
	expect_bytes(&v, NULL, "marked", 6, value, len);
	volume_end(&v);
}
END_TEST

static void damage(void *arg, const struct kvf_record *r, uint8_t *payload)
{
	(void)arg;
	if (le16_to_cpu(r->key_len) == 6 && !memcmp(kvf_record_key(r), "marked", 6))
		payload[3] ^= 0x10;
}

START_TEST(damage_stays_where_it_is)
{
	struct content c = { .rnd = 9 };
	uint8_t value[VALUE_MAX];
	struct volume v;
	uint64_t problems = 0;
	size_t len;
	void *got;

	volume_make(&v, _i, no_thread);
	v.opt.log_level = -1;
	churn(&v, &c, 10);
	len = value_make(&v, &c, value, 1);
	ok(kv_put(v.db, NULL, "marked", 6, value, len, 0));
	churn(&v, &c, 10);
	volume_reopen(&v); /* what had been cached is gone */
	each_record(&v, damage, NULL);
	collect_all(&v, 0);
	verify(&v, &c);
	must_be(kv_get(v.db, NULL, "marked", 6, &got, &len), KV_E_CORRUPT);
	collect_all(&v, 0);
	volume_reopen(&v);
	collect_all(&v, 0);
	verify(&v, &c);
	must_be(kv_get(v.db, NULL, "marked", 6, &got, &len), KV_E_CORRUPT);
	ok(kv_check(v.db, KV_CHECK_VALUES, NULL, NULL, &problems));
	must(problems == 1);
	/* A new value heals it. */
	ok(kv_put(v.db, NULL, "marked", 6, value, 300, 0));
	expect_bytes(&v, NULL, "marked", 6, value, 300);
	collect_all(&v, 0);
	volume_end(&v);
}
END_TEST

/* ---- beside writers -------------------------------------------------------------------------------- */

struct job {
	pthread_t thread;
	struct volume *v;
	uint32_t id, rounds;
	uint32_t *running; /* writers */
	int err;
};

static void *writer(void *arg)
{
	struct job *j = arg;
	uint8_t value[1200];
	char key[32];
	uint32_t i;

	for (i = 0; !j->err; i++) {
		uint32_t k = i * 2654435761u % 200;

		/* GC may come late on a machine that is busy: until it has moved something. */
		if (i >= 20 * j->rounds || (i >= j->rounds && kvp_load(&j->v->db->gc_moved)))
			break;
		sprintf(key, "job%u-%03u", j->id, k);
		memset(value, (int)(i & 0xff), sizeof(value));
		memcpy(value, &i, sizeof(i));
		j->err = kv_put(j->v->db, NULL, key, strlen(key), value, 600 + i % 500, 0);
		if (!j->err && i % 7 == 0)
			j->err = kv_del(j->v->db, NULL, key, strlen(key), 0);
		/* No segment dies whole: there is always something to move. */
		sprintf(key, "stays%u-%05u", j->id, i);
		if (!j->err && i % 16 == 0)
			j->err = kv_put(j->v->db, NULL, key, strlen(key), value, sizeof(value), 0);
	}
	kvp_sub(j->running, 1u);
	return NULL;
}

static void *reader(void *arg)
{
	struct job *j = arg;
	uint8_t *value;
	char key[32];
	uint32_t i, salt;
	size_t len, k;

	for (i = 0; i < j->rounds && !j->err; i++) {
		sprintf(key, "job%u-%03u", j->id, i % 200);
		j->err = kv_get(j->v->db, NULL, key, strlen(key), (void **)&value, &len);
		if (j->err == KV_E_NOTFOUND) {
			j->err = 0;
			continue;
		}
		if (j->err)
			break;
		memcpy(&salt, value, sizeof(salt));
		for (k = sizeof(salt); k < len && value[k] == (salt & 0xff); k++)
			;
		j->err = k == len && len == 600 + salt % 500 ? 0 : KV_E_CORRUPT;
		kv_free(value);
	}
	return NULL;
}

static void small_checkpoints(kv_options *opt)
{
	opt->checkpoint_bytes = 1u << 20;
	opt->cache_bytes = 2u << 20;
}

START_TEST(beside_readers_and_writers)
{
	uint32_t rounds = _i == FILE_TINY ? 1500 : 4000;
	struct job jobs[4] = { { .id = 1, .rounds = 2 * rounds }, { .id = 2, .rounds = 2 * rounds },
			       { .id = 1, .rounds = 3 * rounds }, { .id = 2, .rounds = 3 * rounds } };
	uint32_t i, running = 2;
	struct volume v;
	kv_gc_info info;

	volume_make(&v, _i, small_checkpoints);
	for (i = 0; i < 4; i++) {
		jobs[i].running = &running;
		jobs[i].v = &v;
		must(!pthread_create(&jobs[i].thread, NULL, i < 2 ? writer : reader, &jobs[i]));
	}
	while (kvp_load(&running))
		ok(kv_gc(v.db, 256u << 10, &info));
	for (i = 0; i < 4; i++) {
		must(!pthread_join(jobs[i].thread, NULL));
		must_be(jobs[i].err, 0);
	}
	/* By us, or by the background thread. */
	must(kvp_load(&v.db->gc_moved));
	collect_all(&v, 0);
	volume_check(&v);
	volume_reopen(&v);
	volume_check(&v);
	judged_end(&v);
}
END_TEST

static void *swapper(void *arg)
{
	struct kv_db *db = arg;
	bool more = true;
	int err = 0;

	kvp_mutex_lock(&db->gc_lock);
	while (!err && db->gc)
		err = kve_gc_log_step(db, 0, &more);
	kvp_mutex_unlock(&db->gc_lock);
	return err ? arg : NULL;
}

/* A round up to its first swap. */
static void round_to_swap(struct kv_db *db)
{
	bool more = true;

	kvp_mutex_lock(&db->gc_lock);
	do
		ok(-kve_gc_log_step(db, 0, &more));
	while (more && db->gc->phase != KVE_GC_SWAP);
	must(more);
	kvp_mutex_unlock(&db->gc_lock);
}

/* Refs are exchanged while the gate is shared, by whoever has the leaf's lock. */
START_TEST(swaps_wait_for_the_leaf)
{
	struct timespec nap = { .tv_nsec = 50000000 };
	struct content c = { .rnd = 21 };
	const struct kvf_record *r;
	struct kve_frame *leaf;
	struct volume v;
	pthread_t thread;
	uint8_t *before;
	void *failed;

	volume_make(&v, _i, no_thread);
	churn(&v, &c, KEYS);
	ok(kv_checkpoint(v.db));
	/* What a generation needs once is seen to by its first change. */
	set(&v, &c, 0);
	round_to_swap(v.db);
	r = (const struct kvf_record *)(v.db->gc->memory.buf + kve_gc_nth(v.db->gc, 0)->at);
	ok(-kve_tree_leaf(kve_tree_by_id(v.db, KVF_TREE_USER), kvf_record_key(r), le16_to_cpu(r->key_len),
			  &leaf));
	before = malloc(v.db->geo.frame);
	must(before);
	memcpy(before, leaf->page, v.db->geo.frame);
	kve_leaf_lock(leaf);
	must(!pthread_create(&thread, NULL, swapper, v.db));
	nanosleep(&nap, NULL);
	must(!memcmp(before, leaf->page, v.db->geo.frame));
	kve_leaf_unlock(leaf);
	must(!pthread_join(thread, &failed) && !failed);
	must(memcmp(before, leaf->page, v.db->geo.frame));
	kve_frame_unpin(leaf);
	free(before);
	ok(kv_checkpoint(v.db));
	verify(&v, &c);
	volume_crash(&v);
	verify(&v, &c);
	judged_end(&v);
}
END_TEST

/* Of what is kept, and of the image. */
static uint64_t limit_of(uint64_t live)
{
	return live + live * 3 / 10 + (64u << 20);
}

static uint64_t allocated(const struct volume *v)
{
	struct stat st;

	must(!stat(v->path, &st));
	return (uint64_t)st.st_blocks * 512;
}

static void pin_all(kv_options *opt)
{
	opt->read_pin_bytes = 4ull << 30;
}

#define MANY 160000u /* of 1000 bytes */

/* The promise of space after deletes, when nothing more is written, which would make room for itself. */
START_TEST(quiet_volume_gives_back)
{
	uint8_t value[1000];
	kv_read *r = NULL;
	struct volume v;
	char key[32];
	uint32_t i;

	volume_make(&v, FILE_DEFAULT, pin_all);
	for (i = 0; i < MANY; i++) {
		pattern(value, sizeof(value), i);
		ok(kv_put(v.db, NULL, key, (size_t)sprintf(key, "%08u", i), value, sizeof(value), 0));
	}
	ok(kv_checkpoint(v.db));
	must(allocated(&v) > limit_of(MANY / 10 * 1008ull));
	/* Who reads, and for how long: nobody; while it is deleted; until the volume has long been quiet. */
	if (_i)
		ok(kv_read_begin(v.db, &r));
	for (i = 0; i < MANY; i++)
		if (i % 10)
			ok(kv_del(v.db, NULL, key, (size_t)sprintf(key, "%08u", i), 0));
	if (_i == 2)
		sleep(4);
	kv_read_end(r);
	/* A watchdog. */
	for (i = 0; allocated(&v) > limit_of(MANY / 10 * 1008ull) && i < 1000; i++)
		usleep(100000);
	must(i < 1000);
	must(count(&v, NULL) == MANY / 10);
	judged_end(&v);
}
END_TEST

/* Nobody waits for what a reader keeps: writers would go on at a crawl until it ends, or is too old. */
START_TEST(a_reader_stops_nobody)
{
	uint8_t value[1000];
	uint64_t rnd = 3;
	struct volume v;
	uint32_t i, n = MANY / 8;
	kv_read *r;
	size_t len;

	volume_make(&v, FILE_DEFAULT, NULL);
	for (i = 0; i < n; i++) {
		pattern(value, sizeof(value), i);
		ok(kv_put(v.db, NULL, &i, sizeof(i), value, sizeof(value), 0));
	}
	ok(kv_read_begin(v.db, &r));
	/* More than a reader may keep: the watchdog of this test knows how long that should take. */
	for (i = 0; i < (320u << 20) / sizeof(value); i++) {
		uint32_t key = volume_chance(&rnd, n);

		pattern(value, sizeof(value), i);
		ok(kv_put(v.db, NULL, &key, sizeof(key), value, sizeof(value), 0));
	}
	i = 0;
	must_be(kv_read_get_into(r, NULL, &i, sizeof(i), value, sizeof(value), &len), KV_E_TOOOLD);
	kv_read_end(r);
	/* Its space comes back; a watchdog. */
	for (i = 0; allocated(&v) > limit_of(n * 1004ull) && i < 1000; i++)
		usleep(100000);
	must(i < 1000);
	judged_end(&v);
}
END_TEST

#define SMALL 200000u /* of 100 bytes, in leaves */

static void put_small(struct volume *v, uint32_t round)
{
	uint8_t value[100];
	char key[32];
	uint32_t i;

	for (i = 0; i < SMALL; i++) {
		pattern(value, sizeof(value), i + round);
		ok(kv_put(v->db, NULL, key, (size_t)sprintf(key, "%08u", i), value, sizeof(value), 0));
	}
}

/* A checkpoint frees what the one before it wrote when two states do without that: not with the last one. */
START_TEST(closed_volume_gives_back)
{
	struct volume v;
	uint64_t tree;

	volume_make(&v, FILE_DEFAULT, no_thread);
	put_small(&v, 0);
	ok(kv_checkpoint(v.db));
	ok(kv_checkpoint(v.db));
	put_small(&v, 1);
	ok(kv_stat(v.db, &v.st));
	tree = v.st.tree_bytes;
	must(tree > SMALL * 100u);
	volume_close(&v);
	must(allocated(&v) < tree + tree / 2);
	volume_open(&v);
	judged_end(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gc");
	TCase *t = tcase_create("gc");

	tcase_set_timeout(t, 120); /* a watchdog */
	tcase_add_loop_test(t, beside_readers_and_writers, RACE_FIRST, RACE_END);
	tcase_add_loop_test(t, quiet_volume_gives_back, SUITE_THREADS_ONLY, SUITE_THREADS_ONLY ? 2 : 3);
	if (!SUITE_THREADS_ONLY) {
		tcase_add_test(t, closed_volume_gives_back);
		tcase_add_loop_test(t, swaps_wait_for_the_leaf, MEM_DEFAULT, FILE_DEFAULT);
		tcase_add_test(t, a_reader_stops_nobody);
		tcase_add_loop_test(t, half_dead_segments_come_back, 0, worlds());
		tcase_add_loop_test(t, any_order_of_steps, 0, worlds());
		tcase_add_loop_test(t, readers_keep_their_state, 0, worlds());
		tcase_add_loop_test(t, full_volume_goes_on, 0, worlds());
		tcase_add_loop_test(t, what_dies_is_spared, 0, worlds());
		tcase_add_loop_test(t, copies_keep_their_lsn, MEM_DEFAULT, FILE_DEFAULT);
		tcase_add_loop_test(t, damage_stays_where_it_is, MEM_DEFAULT, FILE_DEFAULT);
	}
	suite_add_tcase(s, t);
	return suite_run(s);
}
