/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fixed.c - images that repeat, for tests: a fixed clock, seeded chance, and no background thread, so that
 * the same changes give the same bytes. An environment variable, because it is about the process and
 * about no verb; it says so each time, and what is no such pair of numbers is refused.
 *
 *	KVS_TEST_FIXED=SECONDS,SEED
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/user/kvp_user.h"
#include "kvs.h"

#define NAME "KVS_TEST_FIXED"

int kvs_fix(struct kvs *k)
{
	const char *text = getenv(NAME);
	unsigned long long seconds, seed;
	char *end;
	bool good;

	if (!text)
		return EXIT_OK;
	errno = 0;
	seconds = strtoull(text, &end, 10);
	good = *text >= '0' && *text <= '9' && *end == ',' && end[1] >= '0' && end[1] <= '9';
	seed = good ? strtoull(end + 1, &end, 10) : 0;
	if (!good || *end || errno || !seconds || seconds > UINT64_MAX / 1000000000u || !seed)
		return kvs_complain(EXIT_USAGE, NAME "='%s' is not SECONDS,SEED; it is for tests: unset it",
				    text);
	kvs_complain(0, "warning: " NAME " is set: the clock stands, and UUIDs are not unique");
	kvp_fix_time(seconds * 1000000000u);
	kvp_fix_random(seed);
	k->opt.flags |= KV_OPEN_NOTHREAD;
	return EXIT_OK;
}
