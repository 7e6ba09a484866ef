/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_readers.c - read transactions that share a generation: what each of them sees, that they come and go
 * while writers are at work, and that the images kept for them go with the last. Row S16, planted bugs
 * reader-joins-late, reader-leaves-images.
 */
#include "tests/unit/volume.h"

#include "engine/kve.h"

static void write_one(kv_db *db, uint32_t n, uint32_t value)
{
	ok(kv_put(db, NULL, &n, sizeof(n), &value, sizeof(value), KV_MEMORY));
}

static uint32_t seen(kv_read *r, uint32_t n)
{
	uint32_t value = 0;
	size_t len;

	ok(kv_read_get_into(r, NULL, &n, sizeof(n), &value, sizeof(value), &len));
	must(len == sizeof(value));
	return value;
}

/* Whoever begins after a commit sees it, whoever else goes on; who began before does not. */
START_TEST(each_sees_its_state)
{
	kv_read *r[8];
	struct volume v;
	uint32_t i, k;

	volume_make(&v, _i, NULL);
	for (i = 0; i < 8; i++) {
		if (i % 2 == 0)
			write_one(v.db, 1, i);
		ok(kv_read_begin(v.db, &r[i]));
		for (k = 0; k <= i; k++)
			must(seen(r[k], 1) == k - k % 2);
	}
	/* Those of one state do not end one after the other. */
	for (i = 0; i < 8; i++) {
		kv_read_end(r[(i * 3) % 8]);
		r[(i * 3) % 8] = NULL;
		write_one(v.db, 1, 100 + i);
		for (k = 0; k < 8; k++)
			if (r[k])
				must(seen(r[k], 1) == k - k % 2);
	}
	volume_end(&v);
}
END_TEST

/* Where nothing has been committed nobody waits for a writer that is inside: this thread would, for ever. */
START_TEST(come_and_go_beside_a_writer)
{
	kv_read *first, *second;
	kv_cursor *c;
	struct volume v;

	volume_make(&v, _i, NULL);
	write_one(v.db, 1, 7);
	ok(kv_read_begin(v.db, &first));
	kvp_gate_enter(&v.db->writer);
	ok(kv_read_begin(v.db, &second));
	must(seen(second, 1) == 7);
	ok(kv_cursor_open(v.db, NULL, NULL, &c));
	ok(kv_cursor_first(c));
	kv_cursor_close(c);
	kv_read_end(first);
	kv_read_end(second);
	kvp_gate_leave(&v.db->writer);
	must(kvp_load(&v.db->pinned) == 0);
	volume_end(&v);
}
END_TEST

START_TEST(images_go_with_the_last)
{
	kv_read *r[3];
	struct volume v;
	uint32_t i;

	volume_make(&v, _i, NULL);
	write_one(v.db, 1, 1);
	for (i = 0; i < 3; i++)
		ok(kv_read_begin(v.db, &r[i]));
	write_one(v.db, 1, 2);
	must(kvp_load(&v.db->cache.shadows) > 0);
	kv_read_end(r[0]);
	kv_read_end(r[2]);
	must(kvp_load(&v.db->cache.shadows) > 0 && seen(r[1], 1) == 1);
	kv_read_end(r[1]);
	must(kvp_load(&v.db->cache.shadows) == 0 && kvp_load(&v.db->pinned) == 0);
	volume_end(&v);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("readers");
	TCase *t = tcase_create("readers");

	tcase_add_loop_test(t, each_sees_its_state, 0, WORLDS);
	tcase_add_loop_test(t, come_and_go_beside_a_writer, 0, WORLDS);
	tcase_add_loop_test(t, images_go_with_the_last, 0, WORLDS);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
