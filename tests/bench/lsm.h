/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * lsm.h - what the drivers of LevelDB and RocksDB share: RocksDB's C API descends from LevelDB's, with
 * another prefix. Included by these two alone, after struct db with members db, write and read, and
 * after a definition of LSM(name), which puts the prefix before the name.
 */
#ifndef LSM_H
#define LSM_H

#define LSM_STRING(name) LSM_STRING_(LSM(name))
#define LSM_STRING_(name) LSM_STRING__(name)
#define LSM_STRING__(name) #name

typedef LSM(iterator_t) iterator;

static void check(char *err, const char *call)
{
	if (err)
		bench_die("%s: %s", call, err);
}

static void *ctx_open(void *db)
{
	return db;
}

static void ctx_close(void *ctx)
{
	(void)ctx;
}

static void put(void *ctx, const struct bench_pair *p)
{
	struct db *db = ctx;
	char *err = NULL;

	LSM(put)(db->db, db->write, p->key, p->key_len, p->val, p->val_len, &err);
	check(err, LSM_STRING(put));
}

static void put_batch(void *ctx, const struct bench_pair *p, unsigned int nr)
{
	LSM(writebatch_t) *batch = LSM(writebatch_create)();
	struct db *db = ctx;
	char *err = NULL;
	unsigned int i;

	for (i = 0; i < nr; i++)
		LSM(writebatch_put)(batch, p[i].key, p[i].key_len, p[i].val, p[i].val_len);
	LSM(write)(db->db, db->write, batch, &err);
	check(err, LSM_STRING(write));
	LSM(writebatch_destroy)(batch);
}

/* To the last key <= from: each has its own way. */
static void seek_back(iterator *it, const void *from, uint32_t from_len);

static void position(iterator *it, const void *from, uint32_t from_len, bool reverse)
{
	if (!from && reverse)
		LSM(iter_seek_to_last)(it);
	else if (!from)
		LSM(iter_seek_to_first)(it);
	else if (reverse)
		seek_back(it, from, from_len);
	else
		LSM(iter_seek)(it, from, from_len);
}

static uint64_t scan(void *ctx, const void *from, uint32_t from_len, uint64_t max,
		     struct bench_scan *s)
{
	struct db *db = ctx;
	iterator *it = LSM(create_iterator)(db->db, db->read);
	size_t key_len, val_len;
	const char *key, *val;
	char *err = NULL;
	uint64_t nr = 0;

	position(it, from, from_len, s->reverse);
	while (LSM(iter_valid)(it)) {
		key = LSM(iter_key)(it, &key_len);
		val = LSM(iter_value)(it, &val_len);
		bench_visit(s, key, key_len, val, val_len);
		if (++nr == max)
			break;
		if (s->reverse)
			LSM(iter_prev)(it);
		else
			LSM(iter_next)(it);
	}
	LSM(iter_get_error)(it, &err);
	check(err, LSM_STRING(iter_next));
	LSM(iter_destroy)(it);
	return nr;
}

#endif
