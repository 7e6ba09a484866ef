/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For kvfs/kvfs.h: errno values are the same in both worlds. */
#include <linux/errno.h>
