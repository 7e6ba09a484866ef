/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * simdev.h - a device in memory that is made for being crashed: its bytes stay when the volume is
 * closed, it can be refilled without allocation, and it keeps a trace of everything that would reach a
 * medium. For one thread.
 *
 * The trace uses the operations of kvp_user.h. Marks go in between: their number says what the
 * workload had issued or was promised at that point.
 */
#ifndef TESTS_SIMDEV_H
#define TESTS_SIMDEV_H

#include "engine/user/kvp_user.h"

struct sim_event {
	enum kvp_trace_op op;
	u64 off, len; /* MARK: off = number */
	size_t at;    /* WRITE, FUA, WINDOW: where the bytes are in sim.heap */
};

struct sim {
	struct kvp_dev dev; /* first: the engine gets a pointer to it */
	u8 *bytes;
	u64 cap;     /* bytes that it may grow to */
	u64 high;    /* nothing but zeros from here on */
	bool window; /* offers one */
	u64 window_off;
	u32 window_len;
	bool tracing;
	struct sim_event *events;
	size_t nr, events_cap;
	u8 *heap;
	size_t heap_len, heap_cap;
	u64 opens; /* of volumes that closed it again */
};

/* A device of size bytes of zeros that may grow to cap. Out of memory ends the process. */
struct sim *sim_new(u64 size, u64 cap, bool window);
void sim_free(struct sim *s);
/* The contents become this image; the trace is emptied. */
void sim_fill(struct sim *s, const u8 *image, u64 size);
void sim_trace(struct sim *s, bool on); /* on: begins with an empty trace */
void sim_mark(struct sim *s, u64 number);

#endif
