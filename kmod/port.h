/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * port.h - what the kernel side of the port offers beyond kvp.h, to the VFS side. Not for the core.
 */
#ifndef KVP_PORT_H
#define KVP_PORT_H

#include "../engine/kvp.h"

struct block_device;

/*
 * The device of a mount. The caller holds it open exclusively for longer than *out lives, which
 * kvp_dev_close() ends. What other openers left in the page cache is written and dropped first.
 */
int kvp_bdev_open(struct kvp_dev **out, struct block_device *bdev, bool read_only);

/* -KVE_* -> negative errno; 0 stays 0. */
int kvp_errno(int err);

/*
 * For tests: a fixed clock and seeded chance, so that images repeat. Module parameters; 0, 0: neither. Before
 * the first mount.
 */
void kvp_fix(u64 time_ns, u64 seed);
/* Is one of them fixed? Then nothing may depend on when a thread runs, either. */
bool kvp_fixed(void);

#endif
