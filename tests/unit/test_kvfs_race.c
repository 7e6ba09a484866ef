/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_kvfs_race.c - the races of the original's document, and renames among them; every allocation fails.
 * Meant for -fsanitize=thread as well.
 */
#include "tests/unit/mount.h"

#include <pthread.h>

/* ---- races ----------------------------------------------------------------------------------- */

#define KEYS 10

struct race {
	struct mount m;
	struct kvfs_node *nodes[KEYS + 1];
	pthread_barrier_t together;
	uint32_t made, deleted;
	bool stop;
};

struct racer {
	struct race *r;
	unsigned int id;
	pthread_t thread;
};

static void race_run(struct race *r, unsigned int nr, void *(*fn)(void *))
{
	struct racer racers[8];
	unsigned int i;

	must(!pthread_barrier_init(&r->together, NULL, nr));
	for (i = 0; i < nr; i++) {
		racers[i].r = r;
		racers[i].id = i;
		must(!pthread_create(&racers[i].thread, NULL, fn, &racers[i]));
	}
	for (i = 0; i < nr; i++)
		must(!pthread_join(racers[i].thread, NULL));
	pthread_barrier_destroy(&r->together);
}

static void *add_and_look(void *arg)
{
	struct racer *me = arg;
	struct race *r = me->r;
	struct kvfs_file *f;
	char key[16], buf[32];
	long n, last[KEYS] = { 0 };
	u64 pos;
	int i, k;

	pthread_barrier_wait(&r->together);
	for (i = 0; i < 1000; i++) {
		for (k = 0; k < KEYS; k++) {
			sprintf(key, "c%d", k);
			if (me->id < 2) {
				must_be(control(&r->m, KVFS_INC, key, me->id ? r->nodes[k] : NULL), 0);
				continue;
			}
			/* Whoever reads sees whole numbers that never go back. */
			f = file_of(&r->m, r->nodes[k], 0);
			pos = 0;
			n = kvfs_file_read(f, &pos, buf, sizeof(buf) - 1);
			must(n > 0);
			buf[n] = 0;
			must(atol(buf) >= last[k] && atol(buf) <= 2000);
			last[k] = atol(buf);
			kvfs_file_close(f);
		}
	}
	return NULL;
}

/* row K6 row K12: two writers x 1000 increments of ten keys; access/access. row S16 */
START_TEST(two_writers_and_two_readers)
{
	struct race r;
	char key[16];
	int k;

	memset(&r, 0, sizeof(r));
	mount_make(&r.m, _i);
	for (k = 0; k < KEYS; k++) {
		sprintf(key, "c%d", k);
		ok(put(&r.m.v, NULL, key, "0"));
		r.nodes[k] = node_of(&r.m, key);
	}
	race_run(&r, 4, add_and_look);
	for (k = 0; k < KEYS; k++) {
		sprintf(key, "c%d", k);
		expect(&r.m.v, NULL, key, "2000");
		must(!(r.nodes[k]->version & 1));
		node_end(r.nodes[k]);
	}
	mount_end(&r.m);
}
END_TEST

static void *create_and_delete(void *arg)
{
	struct racer *me = arg;
	struct race *r = me->r;
	struct kvfs_found found;
	int i, err;

	for (i = 0; i < 500; i++) {
		pthread_barrier_wait(&r->together);
		if (me->id % 2)
			err = control(&r->m, KVFS_MK, "race", NULL);
		else
			err = kvfs_create(&r->m.fs, NULL, "race", 4, &found);
		must(!err || err == -EEXIST);
		if (!err && !(me->id % 2))
			kvp_free(found.key);
		__atomic_add_fetch(&r->made, !err, __ATOMIC_SEQ_CST);
		pthread_barrier_wait(&r->together);
		err = control(&r->m, KVFS_DEL, "race", NULL);
		must(!err || err == -ENOENT);
		__atomic_add_fetch(&r->deleted, !err, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* row K12: create/create, delete/delete: exactly one of them did it */
START_TEST(creators_and_deleters)
{
	struct race r;

	memset(&r, 0, sizeof(r));
	mount_make(&r.m, _i);
	race_run(&r, 4, create_and_delete);
	must(r.made == 500 && r.deleted == 500);
	mount_end(&r.m);
}
END_TEST

static void *write_rename_delete(void *arg)
{
	struct racer *me = arg;
	struct race *r = me->r;
	struct kvfs_file *f;
	uint8_t *buf = malloc(100000);
	long res;
	u64 pos, size;
	int i, err;

	f = file_of(&r->m, r->nodes[0], me->id == 1 ? KVFS_O_APPEND : 0);
	pthread_barrier_wait(&r->together);
	for (i = 0; i < 200; i++) {
		switch (me->id) {
		case 0: /* each value is one byte over and over */
			memset(buf, 'a' + i % 20, 100000);
			res = file_write(f, 0, buf, i % 3 ? 100 : 100000);
			must(res > 0 || res == -ESTALE);
			break;
		case 1:
			res = write_text(f, "");
			must(res == 0 || res == -ESTALE);
			break;
		case 2:
			pos = 0;
			res = kvfs_file_read(f, &pos, buf, 100000);
			must(res >= 0 || res == -ESTALE);
			must(res <= 0 || !memcmp(buf, buf + 1, (size_t)res - 1));
			must(res <= 0 || res == 4 || res == 100 || res == 100000);
			must(!kvfs_node_size(&r->m.fs, r->nodes[0], &size) || r->nodes[0]->gone);
			break;
		default:
			err = kvfs_rename(&r->m.fs, r->nodes[0], NULL, i % 2 ? "n0" : "n1", 2,
					  r->nodes[1 + i % 2], false);
			must(!err || err == -ESTALE || err == -EFBIG);
			if (i == 190)
				must_be(kvfs_unlink(&r->m.fs, r->nodes[0]), 0);
		}
	}
	kvfs_file_close(f);
	free(buf);
	return NULL;
}

/* row K12: access/access, delete/access, and rename in the midst of it */
START_TEST(a_key_that_is_renamed_and_deleted_in_use)
{
	struct race r;
	int k;

	memset(&r, 0, sizeof(r));
	mount_make(&r.m, _i);
	ok(put(&r.m.v, NULL, "n0", "zzzz"));
	for (k = 0; k < 3; k++)
		r.nodes[k] = node_of(&r.m, k ? "victim" : "n0");
	race_run(&r, 4, write_rename_delete);
	must(r.nodes[0]->gone && count(&r.m.v, NULL) == 0);
	for (k = 0; k < 3; k++)
		node_end(r.nodes[k]);
	mount_end(&r.m);
}
END_TEST

static void *swap_names(void *arg)
{
	struct racer *me = arg;
	struct race *r = me->r;
	char name[16];
	int i, err;

	pthread_barrier_wait(&r->together);
	for (i = 0; i < 2000; i++) {
		sprintf(name, "s%d", i % 3);
		err = kvfs_rename(&r->m.fs, r->nodes[me->id % 2], NULL, name, 2,
				  r->nodes[(me->id + 1) % 2], me->id == 3);
		must(!err || err == -ESTALE || err == -EEXIST);
	}
	return NULL;
}

/* Each renames over the other: there is no order of the two locks that deadlocks. */
START_TEST(renames_over_one_another)
{
	struct race r;

	memset(&r, 0, sizeof(r));
	mount_make(&r.m, MEM_DEFAULT);
	ok(put(&r.m.v, NULL, "x", "1"));
	ok(put(&r.m.v, NULL, "y", "2"));
	r.nodes[0] = node_of(&r.m, "x");
	r.nodes[1] = node_of(&r.m, "y");
	race_run(&r, 4, swap_names);
	must(r.nodes[0]->gone || r.nodes[1]->gone);
	node_end(r.nodes[0]);
	node_end(r.nodes[1]);
	mount_end(&r.m);
}
END_TEST

/* ---- memory ---------------------------------------------------------------------------------- */

/* A volume that could not write for want of memory is read-only from then on. */
static bool degraded(struct mount *m)
{
	kv_health_info h;

	ok(kv_health(m->v.db, &h));
	return !h.writable;
}

#define one_of(call, allowed)                                                                      \
	do {                                                                                       \
		int res_ = (int)(call);                                                            \
		if (res_ < 0 && res_ != -ENOMEM && res_ != (allowed) && !degraded(m))              \
			must_be(res_, allowed);                                                    \
	} while (0)

/* A bit of everything; goes on after errors. */
static void script(struct mount *m, const uint8_t *big)
{
	struct kvfs_file *f = NULL, *a = NULL;
	struct kvfs_found found;
	struct kvfs_dir *d = NULL;
	struct kvfs_node n;
	struct seen *s = calloc(1, sizeof(*s));
	uint8_t buf[100];
	kv_tree *t;
	u64 pos = 2;

	one_of(kvfs_mkdir(&m->fs, "dir", 3, &t), -EEXIST);
	if (kvfs_create(&m->fs, NULL, "k", 1, &found))
		goto out;
	kvp_free(found.key);
	if (kvfs_lookup(&m->fs, NULL, "k", 1, &found) == 0)
		kvp_free(found.key);
	if (kvfs_node_init(&n, NULL, "k", 1))
		goto out;
	one_of(kvfs_file_open(&m->fs, &n, 0, &f), 0);
	one_of(kvfs_file_open(&m->fs, &n, KVFS_O_APPEND, &a), 0);
	if (f && a) {
		one_of(write_text(f, "17"), -ESTALE);
		one_of(control(m, KVFS_INC, "k", &n), -EINVAL); /* when that failed */
		one_of(write_text(a, "more"), -ESTALE);
		one_of(file_write(f, 0, big, 100000), -ESTALE);
		one_of(file_write(a, 0, big, 70000), -ESTALE);
		pos = 0;
		one_of(kvfs_file_read(f, &pos, buf, sizeof(buf)), -ESTALE);
		one_of(kvfs_node_truncate(&m->fs, &n, 80000), -ESTALE);
		one_of(kvfs_node_truncate(&m->fs, &n, 100), -ESTALE);
		m->fs.stream = true;
		one_of(file_write(f, 50, big, 500), -ESTALE);
		one_of(file_write(f, 0, big, 500), -ESTALE);
		one_of(kvfs_file_flush(f), -ESTALE);
		m->fs.stream = false;
	}
	kvfs_file_close(f);
	kvfs_file_close(a);
	must(n.staged == 0 && !(n.version & 1));
	one_of(kvfs_rename(&m->fs, &n, NULL, "k2", 2, NULL, false), -EFBIG);
	if (!kvfs_dir_open(&m->fs, NULL, &d)) {
		pos = 2;
		s->room = 100;
		s->next = 2;
		one_of(kvfs_dir_read(d, &pos, take, s), 0);
		kvfs_dir_close(d);
	}
	one_of(kvfs_unlink(&m->fs, &n), -ESTALE);
	kvfs_node_exit(&n);
out:
	free(s);
}

static void no_log(void *arg, int level, const char *message)
{
	(void)arg;
	(void)level;
	(void)message;
}

static void quiet(kv_options *opt)
{
	opt->log = no_log;
}

/* Returns how many allocations the script makes; the nth fails. */
static uint64_t with_failure(const uint8_t *big, uint64_t nth, bool persistent)
{
	struct mount m;
	uint64_t calls;

	memset(&m, 0, sizeof(m));
	volume_make(&m.v, MEM_TINY, quiet);
	m.fs.db = m.v.db;
	m.fs.key_max = m.v.st.key_max;
	kvp_alloc_fail(nth, persistent);
	script(&m, big);
	calls = kvp_alloc_calls();
	kvp_alloc_fail(0, false);
	if (degraded(&m))
		volume_crash(&m.v);
	mount_end(&m);
	return calls;
}

/* Every allocation fails once, and from then on: errors, no leak, no lock kept, a volume that is sound. */
START_TEST(memory_runs_out)
{
	uint8_t *big = malloc(100000);
	uint64_t nth, calls;

	pattern(big, 100000, 9);
	calls = with_failure(big, 0, false);
	must(calls > 100);
	for (nth = 1; nth <= calls; nth += 1 + nth / 40) {
		with_failure(big, nth, false);
		with_failure(big, nth, true);
	}
	free(big);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("kvfs_race");
	TCase *t = tcase_create("kvfs_race");

	tcase_set_timeout(t, 400); /* a sanitizer on a busy machine */
	tcase_add_loop_test(t, two_writers_and_two_readers, 0, MEM_WORLDS);
	tcase_add_loop_test(t, creators_and_deleters, 0, MEM_WORLDS);
	tcase_add_loop_test(t, a_key_that_is_renamed_and_deleted_in_use, 0, MEM_WORLDS);
	tcase_add_test(t, renames_over_one_another);
	tcase_add_test(t, memory_runs_out);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
