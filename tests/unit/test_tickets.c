/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_tickets.c - durable commits that are not waited for: what a ticket says, who is told in which order,
 * progress without anybody who waits, a flush that fails, closing, many threads. Meant for
 * -fsanitize=thread as well. What survives a power cut at every point is the matter of tests/crash
 * (put-synced). CONTRACT C1 C9.
 */
#include "tests/unit/volume.h"

#include <pthread.h>

#define PUTS 300u

struct told {
	kv_ticket last;
	uint32_t nr, good, bad;
	bool disordered;
};

static void tell(void *arg, kv_ticket t, int err)
{
	struct told *told = arg;

	if (t < told->last)
		told->disordered = true;
	told->last = t;
	if (!err)
		told->good++;
	else if (err == KV_E_INDETERMINATE)
		told->bad++;
	__atomic_add_fetch(&told->nr, 1, __ATOMIC_RELEASE);
}

static uint32_t told_nr(const struct told *told)
{
	return __atomic_load_n(&told->nr, __ATOMIC_ACQUIRE);
}

static void no_thread(kv_options *opt)
{
	opt->flags |= KV_OPEN_NOTHREAD;
}

static kv_ticket put_async(struct volume *v, uint32_t n)
{
	kv_ticket t = 0;

	ok(kv_put_async(v->db, NULL, &n, sizeof(n), &n, sizeof(n), 0, &t));
	must(t > 0);
	return t;
}

static void there(struct volume *v, uint32_t n)
{
	expect_bytes(v, NULL, &n, sizeof(n), &n, sizeof(n));
}

/* ---- what a ticket says -------------------------------------------------------------------------- */

/* Even: with the volume's own thread; odd: without. */
START_TEST(names_a_change)
{
	kv_ticket t[PUTS], all;
	struct told told = { 0 };
	struct volume v;
	kv_stat_info st;
	int durable;
	uint32_t i;

	volume_make(&v, _i / 2, _i % 2 ? no_thread : NULL);
	for (i = 0; i < PUTS; i++) {
		t[i] = put_async(&v, i);
		must(!i || t[i] > t[i - 1]);
		there(&v, i);
	}
	for (i = PUTS; i--;)
		ok(kv_on_durable(v.db, t[i], tell, &told));
	ok(kv_wait(v.db, t[PUTS / 2]));
	for (i = 0; i <= PUTS / 2; i++) {
		ok(kv_durable(v.db, t[i], &durable));
		must(durable);
	}
	ok(kv_stat(v.db, &st));
	must(st.durable_lsn >= t[PUTS / 2]);
	ok(kv_sync_async(v.db, &all));
	must(all >= t[PUTS - 1]);
	ok(kv_wait(v.db, all));
	ok(kv_wait(v.db, 0));
	must_be(kv_wait(v.db, all + 1), KV_E_INVALID);
	must_be(kv_durable(v.db, all + 1, &durable), KV_E_INVALID);
	must_be(kv_on_durable(v.db, all + 1, tell, &told), KV_E_INVALID);
	ok(kv_stat(v.db, &st));
	must(st.durable_lsn >= all);
	volume_close(&v);
	must(told.nr == PUTS && told.good == PUTS);
	volume_open(&v);
	for (i = 0; i < PUTS; i++)
		there(&v, i);
	volume_end(&v);
}
END_TEST

START_TEST(every_kind_of_change)
{
	struct volume v;
	kv_ticket t[6];
	uint8_t *large;
	kv_stat_info st;
	kv_batch *b;
	uint32_t n = 1;

	volume_make(&v, _i, NULL);
	large = calloc(1, 3u * v.st.chunk_bytes);
	must_be(kv_put_async(v.db, NULL, "k", 1, "v", 1, KV_SYNCED, t), KV_E_INVALID);
	must_be(kv_put_async(v.db, NULL, "k", 1, "v", 1, KV_PUT_REPLACE, t), KV_E_NOTFOUND);
	must_be(kv_del_async(v.db, NULL, "k", 1, 0, t), KV_E_NOTFOUND);
	ok(kv_put_async(v.db, NULL, "k", 1, "v", 1, KV_PUT_NEW | KV_MEMORY, &t[0]));
	ok(kv_put_async(v.db, NULL, "large", 5, large, 3u * v.st.chunk_bytes, KV_KILL_SAFE, &t[1]));
	ok(kv_del_async(v.db, NULL, "k", 1, 0, &t[2]));
	ok(kv_batch_new(v.db, &b));
	ok(kv_batch_commit_async(b, 0, &t[3]));
	must(t[3] == 0);
	ok(kv_batch_put(b, NULL, &n, sizeof(n), &n, sizeof(n)));
	ok(kv_batch_put(b, NULL, "other", 5, large, v.st.inline_max + 1));
	ok(kv_batch_commit_async(b, 0, &t[3]));
	kv_batch_free(b);
	ok(kv_put_async(v.db, NULL, "last", 4, "v", 1, 0, NULL));
	ok(kv_sync_async(v.db, &t[4]));
	must(t[0] < t[1] && t[1] < t[2] && t[2] < t[3] && t[3] < t[4]);
	ok(kv_wait(v.db, t[4]));
	ok(kv_stat(v.db, &st));
	must(st.durable_lsn >= t[4]);
	volume_crash(&v);
	there(&v, n);
	expect_none(&v, NULL, "k");
	expect_bytes(&v, NULL, "large", 5, large, 3u * v.st.chunk_bytes);
	expect(&v, NULL, "last", "v");
	free(large);
	volume_end(&v);
}
END_TEST

/* Nobody waits, and they become durable. The limit is a watchdog. */
START_TEST(progress_without_waiters)
{
	struct told told = { 0 };
	struct volume v;
	kv_ticket t = 0;
	int durable = 0;
	uint32_t i;

	volume_make(&v, _i, NULL);
	for (i = 0; i < PUTS; i++) {
		t = put_async(&v, i);
		ok(kv_on_durable(v.db, t, tell, &told));
	}
	while (!durable) {
		ok(kv_durable(v.db, t, &durable));
		usleep(100);
	}
	while (told_nr(&told) < PUTS)
		usleep(100);
	must(told.good == PUTS && !told.disordered);
	/* The thread sleeps by now, or soon: it is woken again. */
	usleep(1000 * (_i + 1));
	ok(kv_on_durable(v.db, t, tell, &told));
	while (told_nr(&told) <= PUTS)
		usleep(100);
	ok(kv_on_durable(v.db, put_async(&v, 1), tell, &told));
	while (told_nr(&told) <= PUTS + 1)
		usleep(100);
	volume_end(&v);
}
END_TEST

/* Whoever is not told before is told by kv_close(). */
START_TEST(closing_tells_all)
{
	struct told told = { 0 };
	struct volume v;
	uint32_t i;

	volume_make(&v, _i / 2, _i % 2 ? no_thread : NULL);
	for (i = 0; i < PUTS; i++)
		ok(kv_on_durable(v.db, put_async(&v, i), tell, &told));
	volume_close(&v);
	must(told.nr == PUTS && told.good == PUTS && !told.disordered);
	volume_open(&v);
	for (i = 0; i < PUTS; i++)
		there(&v, i);
	put_async(&v, 1);
	volume_crash(&v); /* nothing may be left, and nobody is told */
	volume_end(&v);
}
END_TEST

/* ---- a flush that fails ----------------------------------------------------------------------------- */

static void silent(void *arg, int level, const char *message)
{
	(void)arg;
	(void)level;
	(void)message;
}

START_TEST(failure_reaches_every_ticket)
{
	struct kvp_fault fault = { .kinds = KVP_FAULT_FLUSH | KVP_FAULT_WRITE, .persistent = true,
				   .error = -KVE_io_write };
	kv_options opt = KV_OPTIONS_INIT;
	struct kvp_dev *mem, *dev;
	struct told told = { 0 };
	kv_ticket t[PUTS], safe;
	kv_db *db;
	uint32_t i;
	int durable, err = 0;

	opt.log_level = KV_LOG_ERROR;
	opt.log = silent;
	opt.flags = _i % 2 ? KV_OPEN_NOTHREAD : 0;
	must(!kvp_mem_open(&mem, 0, MEM_BYTES_MAX));
	ok(kve_create_dev(mem, &opt));
	must(!kvp_fault_open(&dev, mem, &fault));
	ok(kve_open_dev(dev, &opt, &db));
	ok(kv_put_async(db, NULL, "safe", 4, "x", 1, KV_MEMORY, &safe));
	ok(kv_wait(db, safe));
	__atomic_store_n(&fault.nth, __atomic_load_n(&fault.calls, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
	for (i = 0; i < PUTS; i++) {
		err = kv_put_async(db, NULL, &i, sizeof(i), &i, sizeof(i), KV_MEMORY, &t[i]);
		if (err)
			break;
		/* Too late to be registered, perhaps, never too late to be told. */
		ok(kv_on_durable(db, t[i], tell, &told));
	}
	/* The thread may have met the fault meanwhile: then changes are refused. */
	must(i && (!err || err == KV_E_READONLY || err == KV_E_IO));
	must_be(kv_wait(db, t[i - 1]), KV_E_INDETERMINATE);
	must_be(kv_wait(db, t[0]), KV_E_INDETERMINATE);
	must_be(kv_durable(db, t[0], &durable), KV_E_INDETERMINATE);
	must(!durable);
	ok(kv_durable(db, safe, &durable));
	must(durable);
	must_be(kv_put(db, NULL, "k", 1, "v", 1, 0), KV_E_READONLY);
	must(kv_close(db) != 0);
	must(told.nr == i && told.bad == i && !told.good);
}
END_TEST

/* ---- many threads ---------------------------------------------------------------------------------- */

#define SUBMITTERS 3u
#define IN_FLIGHT 64u
#define EACH 2000u

struct submitter {
	struct volume *v;
	uint32_t id;
	struct told told;
	pthread_t thread;
};

static void *submit(void *arg)
{
	struct submitter *s = arg;
	kv_ticket t[IN_FLIGHT] = { 0 };
	uint32_t i, n;
	kv_stat_info st;

	for (i = 0; i < EACH; i++) {
		ok(kv_wait(s->v->db, t[i % IN_FLIGHT]));
		n = s->id * EACH + i;
		t[i % IN_FLIGHT] = put_async(s->v, n);
		if (i % 3 == 0)
			ok(kv_on_durable(s->v->db, t[i % IN_FLIGHT], tell, &s->told));
	}
	ok(kv_sync_async(s->v->db, &t[0]));
	ok(kv_wait(s->v->db, t[0]));
	ok(kv_stat(s->v->db, &st));
	must(st.durable_lsn >= t[0]);
	return NULL;
}

static void *put_synced(void *arg)
{
	struct submitter *s = arg;
	uint32_t i, n;

	for (i = 0; i < EACH / 10; i++) {
		n = s->id * EACH + i;
		ok(kv_put(s->v->db, NULL, &n, sizeof(n), &n, sizeof(n), KV_SYNCED));
	}
	return NULL;
}

START_TEST(tickets_beside_syncs)
{
	struct submitter s[SUBMITTERS + 2];
	struct volume v;
	uint32_t i, n;

	volume_make(&v, _i, NULL);
	memset(s, 0, sizeof(s));
	for (i = 0; i < SUBMITTERS + 2; i++) {
		s[i].v = &v;
		s[i].id = i;
		must(!pthread_create(&s[i].thread, NULL, i < SUBMITTERS ? submit : put_synced, &s[i]));
	}
	for (i = 0; i < SUBMITTERS + 2; i++)
		must(!pthread_join(s[i].thread, NULL));
	volume_close(&v);
	for (i = 0; i < SUBMITTERS; i++)
		must(s[i].told.nr == (EACH + 2) / 3 && s[i].told.good == s[i].told.nr);
	volume_open(&v);
	for (n = 0; n < SUBMITTERS * EACH; n++)
		there(&v, n);
	volume_end(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tickets");
	TCase *t = tcase_create("tickets");

	tcase_set_timeout(t, 120); /* a watchdog */
	tcase_add_loop_test(t, names_a_change, 0, 2 * WORLDS);
	tcase_add_loop_test(t, every_kind_of_change, 0, WORLDS);
	tcase_add_loop_test(t, progress_without_waiters, 0, WORLDS);
	tcase_add_loop_test(t, closing_tells_all, 0, 2 * WORLDS);
	tcase_add_loop_test(t, failure_reaches_every_ticket, 0, 4);
	tcase_add_loop_test(t, tickets_beside_syncs, 0, WORLDS);
	suite_add_tcase(s, t);
	return suite_run(s);
}
