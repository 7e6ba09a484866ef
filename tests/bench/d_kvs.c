/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* d_kvs.c - kvbench's driver of libkvengine. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "kvengine.h"

struct ctx {
	kv_db *db;
	kv_batch *batch;
	kv_ticket flight[BENCH_FLIGHT];
	unsigned int next;
};

static void check(int err, const char *call)
{
	if (err)
		bench_die("kvs: %s: %s: %s", call, kv_strerror(err), kv_last_error());
}

static const char *version(void)
{
	return kv_version();
}

static void *d_open(const char *dir, const struct bench_opts *opts)
{
	kv_options o = KV_OPTIONS_INIT;
	char path[600];
	kv_db *db;

	snprintf(path, sizeof(path), "%s/bench.kv", dir);
	o.flags = KV_OPEN_CREATE;
	o.cache_bytes = opts->cache_bytes;
	o.frame_bytes = opts->page_bytes;
	o.durability = opts->synced ? KV_SYNCED : KV_KILL_SAFE;
	check(kv_open(path, &o, &db), "kv_open");
	return db;
}

static void d_close(void *db)
{
	check(kv_close(db), "kv_close");
}

static void *ctx_open(void *db)
{
	struct ctx *c = calloc(1, sizeof(*c));

	if (!c)
		bench_die("kvs: out of memory");
	c->db = db;
	check(kv_batch_new(db, &c->batch), "kv_batch_new");
	return c;
}

static void ctx_close(void *ctx)
{
	struct ctx *c = ctx;
	unsigned int i;

	for (i = 0; i < BENCH_FLIGHT; i++)
		check(kv_wait(c->db, c->flight[i]), "kv_wait");
	kv_batch_free(c->batch);
	free(c);
}

static void put(void *ctx, const struct bench_pair *p)
{
	struct ctx *c = ctx;

	check(kv_put(c->db, NULL, p->key, p->key_len, p->val, p->val_len, 0), "kv_put");
}

static void put_batch(void *ctx, const struct bench_pair *p, unsigned int nr)
{
	struct ctx *c = ctx;
	unsigned int i;

	for (i = 0; i < nr; i++)
		check(kv_batch_put(c->batch, NULL, p[i].key, p[i].key_len, p[i].val, p[i].val_len),
		      "kv_batch_put");
	check(kv_batch_commit(c->batch, 0), "kv_batch_commit");
}

static void put_flight(void *ctx, const struct bench_pair *p)
{
	struct ctx *c = ctx;
	kv_ticket *t = &c->flight[c->next++ % BENCH_FLIGHT];

	check(kv_wait(c->db, *t), "kv_wait");
	check(kv_put_async(c->db, NULL, p->key, p->key_len, p->val, p->val_len, 0, t), "kv_put_async");
}

static int64_t get(void *ctx, const void *key, uint32_t key_len, void *buf, uint32_t cap)
{
	struct ctx *c = ctx;
	size_t len;
	int err = kv_get_into(c->db, NULL, key, key_len, buf, cap, &len);

	if (err == KV_E_NOTFOUND)
		return -1;
	check(err, "kv_get_into");
	return (int64_t)len;
}

static void mget(void *ctx, const char *keys, unsigned int nr, char *bufs, uint32_t cap, int64_t *lens)
{
	kv_item items[BENCH_MGET_MAX];
	struct ctx *c = ctx;
	unsigned int i;

	for (i = 0; i < nr; i++)
		items[i] = (kv_item){ .key = keys + (size_t)i * BENCH_KEY_LEN, .key_len = BENCH_KEY_LEN,
				      .buf = bufs + (size_t)i * cap, .cap = cap };
	check(kv_get_many(c->db, NULL, nr, items), "kv_get_many");
	for (i = 0; i < nr; i++) {
		if (items[i].err != KV_E_NOTFOUND)
			check(items[i].err, "kv_get_many: an item");
		lens[i] = items[i].err ? -1 : (int64_t)items[i].value_len;
	}
}

static int position(kv_cursor *c, const void *from, uint32_t from_len, bool reverse)
{
	if (!from)
		return reverse ? kv_cursor_last(c) : kv_cursor_first(c);
	if (reverse)
		return kv_cursor_seek_le(c, from, from_len);
	return kv_cursor_seek(c, from, from_len);
}

static uint64_t scan(void *ctx, const void *from, uint32_t from_len, uint64_t max,
		     struct bench_scan *s)
{
	struct ctx *x = ctx;
	const void *key, *val;
	size_t key_len, val_len;
	uint64_t nr = 0;
	kv_cursor *c;
	int err;

	check(kv_cursor_open(x->db, NULL, NULL, &c), "kv_cursor_open");
	for (err = position(c, from, from_len, s->reverse); !err && nr < max;
	     err = s->reverse ? kv_cursor_prev(c) : kv_cursor_next(c)) {
		check(kv_cursor_key(c, &key, &key_len), "kv_cursor_key");
		check(kv_cursor_value(c, &val, &val_len), "kv_cursor_value");
		bench_visit(s, key, key_len, val, val_len);
		if (++nr == max)
			break;
	}
	if (err != KV_E_NOTFOUND)
		check(err, "kv_cursor_next");
	kv_cursor_close(c);
	return nr;
}

static void counter_zero(void *ctx, const void *key, uint32_t key_len)
{
	struct ctx *c = ctx;

	check(kv_put(c->db, NULL, key, key_len, "0", 1, 0), "kv_put");
}

static void counter_inc(void *ctx, const void *key, uint32_t key_len)
{
	struct ctx *c = ctx;

	check(kv_inc(c->db, NULL, key, key_len, 1, NULL, 0), "kv_inc");
}

static uint64_t counter_get(void *ctx, const void *key, uint32_t key_len)
{
	char text[32];
	int64_t len = get(ctx, key, key_len, text, sizeof(text) - 1);

	if (len < 0)
		bench_die("kvs: the counter has gone");
	text[len] = 0;
	return strtoull(text, NULL, 10);
}

static void d_sync(void *db)
{
	check(kv_sync(db), "kv_sync");
}

static uint64_t syncs(void *db)
{
	kv_stat_info info;

	check(kv_stat(db, &info), "kv_stat");
	return info.syncs;
}

const struct bench_ops bench_kvs = {
	.name = "kvs",
	.config = "durability kill-safe or synced; defaults otherwise",
	.reads_direct = true,
	.version = version,
	.open = d_open,
	.close = d_close,
	.ctx_open = ctx_open,
	.ctx_close = ctx_close,
	.put = put,
	.put_batch = put_batch,
	.put_flight = put_flight,
	.get = get,
	.mget = mget,
	.scan = scan,
	.counter_zero = counter_zero,
	.counter_inc = counter_inc,
	.counter_get = counter_get,
	.sync = d_sync,
	.syncs = syncs,
};
