/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_origin.c - where the state of a snapshot comes from: kept with it, through everything. */
#include "tests/crash/judge.h"
#include "tests/unit/volume.h"

#define SNAPS 12u

/* Every third was made here. */
static void origin_make(kv_origin *o, uint32_t i)
{
	memset(o, 0, sizeof(*o));
	if (i % 3 == 2)
		return;
	pattern(o->uuid, sizeof(o->uuid), i);
	o->generation = i * 0x100000001ull + 1;
	o->part = i % 3 ? ~0ull - i : 0;
}

static void verify(struct volume *v, uint32_t nr)
{
	kv_snapshot_info info;
	kv_origin want;
	char name[32];
	uint32_t i;

	for (i = 0; i < nr; i++) {
		sprintf(name, "%u", i);
		ok(kv_snapshot_stat(v->db, name, &info));
		origin_make(&want, i);
		must(!memcmp(&info.origin, &want, sizeof(want)));
	}
}

START_TEST(kept)
{
	struct volume v;
	char name[32], why[512];
	kv_origin o;
	uint32_t i;

	volume_make(&v, _i, NULL);
	memset(&o, 1, sizeof(o));
	o.generation = 0;
	must_be(kv_snapshot_create_of(v.db, "x", &o), KV_E_INVALID);
	for (i = 0; i < SNAPS; i++) {
		sprintf(name, "%u", i);
		ok(put(&v, NULL, name, "value"));
		origin_make(&o, i);
		ok(kv_snapshot_create_of(v.db, name, o.generation ? &o : NULL));
		must_be(kv_snapshot_create_of(v.db, name, NULL), KV_E_EXISTS);
		verify(&v, i + 1);
		if (i % 4 == 1)
			volume_crash(&v);
		if (i % 4 == 2)
			ok(kv_checkpoint(v.db));
		if (i % 4 == 3)
			volume_reopen(&v);
		verify(&v, i + 1);
	}
	volume_close(&v);
	if (v.dev && judge_fsck(volume_bytes(&v), v.dev->size, why, sizeof(why)))
		ck_abort_msg("kvs-fsck: %s", why);
	v.opt.flags |= KV_OPEN_READONLY;
	volume_open(&v);
	verify(&v, SNAPS);
	volume_end(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("origins");
	TCase *t = tcase_create("origins");

	tcase_set_timeout(t, 120); /* a watchdog */
	tcase_add_loop_test(t, kept, 0, WORLDS);
	suite_add_tcase(s, t);
	return suite_run(s);
}
