/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* names.c - names of trees, of one state or of several: each once, in order, without 'main'. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvs.h"

int names_add(void *arg, const char *name, uint64_t count)
{
	struct names *t = arg;
	size_t at = t->nr;
	void *p;

	(void)count;
	if (!strcmp(name, "main"))
		return 0;
	/* each state lists them in order */
	while (at && strcmp(t->name[at - 1], name) > 0)
		at--;
	if (at && !strcmp(t->name[at - 1], name))
		return 0;
	p = reallocarray(t->name, t->nr + 1, sizeof(*t->name));
	if (!p) {
		t->failed = true;
		return 1;
	}
	t->name = p;
	memmove(t->name + at + 1, t->name + at, (t->nr - at) * sizeof(*t->name));
	snprintf(t->name[at], sizeof(*t->name), "%s", name);
	t->nr++;
	return 0;
}

void names_free(struct names *t)
{
	free(t->name);
	memset(t, 0, sizeof(*t));
}
