/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stream_state.c - what states a volume has: its snapshots by where they come from, and what differs.
 *
 * A state that was received keeps the identity that it had where it was made, so a copy can send on what it
 * received, and increments go on from any copy of their base.
 */
#include <stdlib.h>
#include <string.h>

#include "stream.h"

static int known_add(void *arg, const kv_snapshot_info *info)
{
	struct known_list *l = arg;
	struct known *k = reallocarray(l->known, l->nr + 1, sizeof(*k));

	if (!k) {
		l->failed = true;
		return 1;
	}
	l->known = k;
	k += l->nr++;
	k->info = *info;
	k->partial = info->origin.part;
	k->id.generation = info->origin.generation ? info->origin.generation : info->generation;
	memcpy(k->id.uuid, info->origin.generation ? info->origin.uuid : l->uuid, sizeof(k->id.uuid));
	return 0;
}

int known_load(struct kvs *k, struct known_list *l)
{
	kv_stat_info st;
	int err = kv_stat(k->db, &st);

	memset(l, 0, sizeof(*l));
	if (!err) {
		memcpy(l->uuid, st.uuid, sizeof(l->uuid));
		err = kv_snapshot_list(k->db, known_add, l);
	}
	if (l->failed)
		return kvs_no_memory();
	return err < 0 ? kvs_fail(k, err) : EXIT_OK;
}

void known_free(struct known_list *l)
{
	free(l->known);
	memset(l, 0, sizeof(*l));
}

const struct known *known_by_name(const struct known_list *l, const char *name)
{
	size_t i;

	for (i = 0; i < l->nr; i++)
		if (!strcmp(l->known[i].info.name, name))
			return &l->known[i];
	return NULL;
}

const struct known *known_by_id(const struct known_list *l, const struct state_id *id)
{
	size_t i;

	for (i = 0; i < l->nr; i++)
		if (!l->known[i].partial && state_same(&l->known[i].id, id))
			return &l->known[i];
	return NULL;
}

/* ---- two states ------------------------------------------------------------------------------------ */

static int pair_call(kv_read *from, kv_read *to, const char *name,
		     int (*fn)(void *arg, const struct tree_pair *t), void *arg)
{
	struct tree_pair t = { .name = name };
	kv_tree *tree;

	t.from = from && !kv_read_tree(from, name, &tree);
	t.to = !kv_read_tree(to, name, &tree);
	return fn(arg, &t);
}

int trees_each(struct kvs *k, kv_read *from, kv_read *to, int (*fn)(void *arg, const struct tree_pair *t),
	       void *arg)
{
	struct names names = { 0 };
	int rc, err = from ? kv_read_trees(from, names_add, &names) : 0;
	size_t i;

	if (err >= 0)
		err = kv_read_trees(to, names_add, &names);
	rc = names.failed ? kvs_no_memory() : err < 0 ? kvs_fail(k, err) : EXIT_OK;
	if (!rc)
		rc = pair_call(from, to, "main", fn, arg);
	for (i = 0; i < names.nr && !rc; i++)
		rc = pair_call(from, to, names.name[i], fn, arg);
	names_free(&names);
	return rc;
}

struct differ {
	struct kvs *k;
	kv_read *from, *to;
	bool yes;
};

/* Not what was written again as it was. KV_E_*. */
static int entry_differs(struct differ *d, kv_diff *df)
{
	kv_cursor *from = kv_diff_from(df), *to = kv_diff_to(df);
	struct value a, b;
	bool same = false;
	int err = 0;

	if (from && to) {
		err = value_open(&a, d->k, from);
		if (!err)
			err = value_open(&b, d->k, to);
		if (!err)
			err = value_same(&a, &b, &same);
	}
	d->yes = !err && !same;
	return err;
}

static int tree_differs(void *arg, const struct tree_pair *t)
{
	struct differ *d = arg;
	kv_diff *df;
	int err;

	/* everybody has 'main' */
	if (t->from != t->to && strcmp(t->name, "main"))
		d->yes = true;
	if (d->yes)
		return EXIT_OK;
	err = kv_diff_open(d->from, d->to, t->name, &df);
	if (!err) {
		while (!d->yes && !(err = kv_diff_next(df)) && !(err = entry_differs(d, df)))
			;
		kv_diff_close(df);
	}
	return err && err != KV_E_NOTFOUND ? kvs_fail(d->k, err) : EXIT_OK;
}

int states_differ(struct kvs *k, kv_read *from, kv_read *to, bool *yes)
{
	struct differ d = { .k = k, .from = from, .to = to };
	int rc = trees_each(k, from, to, tree_differs, &d);

	*yes = d.yes;
	return rc;
}
