/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_groups.c - durable commits of several threads: they share syncs, none is forgotten, none waits for
 * ever. Threads come and go in waves of 1 to 8, most with a single put: one that comes while another writes
 * has to be woken although nobody else comes after it. Meant for -fsanitize=thread as well. CONTRACT C1.
 */
#include "tests/unit/volume.h"

#include <pthread.h>

#define THREADS 8u
#define WAVES 240u

/* Threads of a wave. */
static uint32_t wave_size(uint32_t wave)
{
	return 1 + wave % THREADS;
}

/* And what each of them puts. */
static uint32_t wave_puts(uint32_t wave)
{
	return wave % 5 ? 1 : 25;
}

struct putter {
	kv_db *db;
	uint32_t wave, id;
	pthread_t thread;
};

static void *put_all(void *arg)
{
	struct putter *p = arg;
	uint32_t key[3] = { p->wave, p->id, 0 };

	for (; key[2] < wave_puts(p->wave); key[2]++)
		ok(kv_put(p->db, NULL, key, sizeof(key), key, sizeof(key), KV_SYNCED));
	return NULL;
}

static void wave_run(struct volume *v, uint32_t wave)
{
	struct putter p[THREADS];
	uint32_t i;

	for (i = 0; i < wave_size(wave); i++) {
		p[i] = (struct putter){ .db = v->db, .wave = wave, .id = i };
		must(!pthread_create(&p[i].thread, NULL, put_all, &p[i]));
	}
	for (i = 0; i < wave_size(wave); i++)
		must(!pthread_join(p[i].thread, NULL));
}

START_TEST(all_are_durable)
{
	uint32_t key[3], got[3];
	struct volume v;
	uint64_t puts = 0;
	kv_stat_info st;
	size_t len;

	volume_make(&v, _i, NULL);
	for (key[0] = 0; key[0] < WAVES; key[0]++) {
		wave_run(&v, key[0]);
		puts += wave_size(key[0]) * wave_puts(key[0]);
	}
	ok(kv_stat(v.db, &st));
	if (_i == FILE_DEFAULT)
		ck_assert_msg(st.syncs < puts, "%llu syncs of %llu puts", (unsigned long long)st.syncs,
			      (unsigned long long)puts);
	volume_crash(&v);
	for (key[0] = 0; key[0] < WAVES; key[0]++)
		for (key[1] = 0; key[1] < wave_size(key[0]); key[1]++)
			for (key[2] = 0; key[2] < wave_puts(key[0]); key[2]++) {
				ok(kv_get_into(v.db, NULL, key, sizeof(key), got, sizeof(got), &len));
				must(len == sizeof(got) && !memcmp(got, key, sizeof(key)));
			}
	volume_end(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("groups");
	TCase *t = tcase_create("groups");

	tcase_set_timeout(t, 40); /* a watchdog: threads that wait for one another wait for ever */
	tcase_add_loop_test(t, all_are_durable, RACE_FIRST, RACE_END);
	suite_add_tcase(s, t);
	return suite_run(s);
}
