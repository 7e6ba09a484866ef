/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * faulty.h - a volume in memory of which cold copies are opened again and again, while the n-th read of
 * the device, or the n-th allocation, fails.
 *
 *	faulty_begin(); fill f.v; volume_close(&f.v);
 *	for (n = 1; hit; n++) {
 *		faulty_open(); faulty_arm(n); use f.db; hit = faulty_disarm(); kv_close(f.db);
 *	}
 *	volume_end(&f.v);
 */
#ifndef TESTS_UNIT_FAULTY_H
#define TESTS_UNIT_FAULTY_H

#include "tests/unit/volume.h"

enum faulty_what { FAULTY_READ, FAULTY_MEMORY };

struct faulty {
	struct volume v;
	struct kvp_fault fault;
	enum faulty_what what;
	uint32_t nth;
	kv_db *db;
};

/* No thread: what is read and allocated is the same each time. */
static inline void faulty_opt(kv_options *opt)
{
	volume_tight(opt);
	opt->flags |= KV_OPEN_NOTHREAD;
}

static inline void faulty_begin(struct faulty *f, int world, enum faulty_what what)
{
	memset(f, 0, sizeof(*f));
	f->what = what;
	volume_make(&f->v, world, faulty_opt);
	f->v.opt.log = volume_silent;
}

/* A cold copy of the closed volume behind a device that fails. */
static inline void faulty_open(struct faulty *f)
{
	struct kvp_dev *inner, *dev;

	memset(&f->fault, 0, sizeof(f->fault));
	must(!kvp_mem_open_copy(&inner, volume_bytes(&f->v), f->v.dev->size, MEM_BYTES_MAX));
	must(!kvp_fault_open(&dev, inner, &f->fault));
	ok(kve_open_dev(dev, &f->v.opt, &f->db));
}

/* From now on the n-th fails; all behind it too if it is persistent. */
static inline void faulty_arm(struct faulty *f, uint32_t n, bool persistent)
{
	f->nth = n;
	if (f->what == FAULTY_READ)
		f->fault = (struct kvp_fault){ .kinds = KVP_FAULT_READ, .error = -KVE_io_read, .nth = n,
					       .persistent = persistent };
	else
		kvp_alloc_fail(n, persistent);
}

/* Nothing fails any more. Had something? */
static inline bool faulty_disarm(struct faulty *f)
{
	bool hit = f->what == FAULTY_READ ? f->fault.failed > 0 : kvp_alloc_calls() >= f->nth;

	kvp_alloc_fail(0, false);
	f->fault.nth = 0;
	return hit;
}

/* What a call says of such a failure. */
static inline int faulty_error(const struct faulty *f)
{
	return f->what == FAULTY_READ ? KV_E_IO : KV_E_NOMEM;
}

#endif
