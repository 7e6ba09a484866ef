/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For engine/include/kvengine.h, which is written for programs: the kernel has no <stddef.h>. */
#include <linux/stddef.h>
