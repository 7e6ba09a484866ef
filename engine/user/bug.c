// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bug.c - planted bugs: switchable faults in our own code that the tests must catch. Only the test
 * build (-DKV_PLANTED_BUGS) has them; elsewhere KVP_BUG() is 0 when it is compiled.
 */
#include "port.h"

#ifdef KV_PLANTED_BUGS

#include <stdlib.h>

static const char *bug_name;
static pthread_once_t bug_once = PTHREAD_ONCE_INIT;

static void bug_init(void)
{
	const char *name = getenv("KV_BUG");

	if (name && *name)
		kvp_store(&bug_name, name);
}

/* name must live as long as it is set. */
void kvp_bug_set(const char *name)
{
	pthread_once(&bug_once, bug_init);
	kvp_store(&bug_name, name);
}

bool kvp_bug(const char *name)
{
	const char *set;

	pthread_once(&bug_once, bug_init);
	set = kvp_load(&bug_name);
	return kvp_unlikely(set != NULL) && strcmp(set, name) == 0;
}

#endif
