/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * d_wiredtiger.c - kvbench's driver of WiredTiger: one B-tree with the log on.
 *
 * Not synced: each commit waits until its log record is written to the file, safe from kill -9
 * (transaction_sync with method none). Synced: until it is synced. A thread has a session and one
 * cursor. Transactions in conflict are told to roll back, and tried again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <wiredtiger.h>

#include "bench.h"

#define TABLE "table:bench"

struct ctx {
	WT_SESSION *session;
	WT_CURSOR *cursor;
};

static void check(int err, const char *call)
{
	if (err)
		bench_die("wiredtiger: %s: %s", call, wiredtiger_strerror(err));
}

static const char *version(void)
{
	static char text[32];
	int major, minor, patch;

	wiredtiger_version(&major, &minor, &patch);
	snprintf(text, sizeof(text), "%d.%d.%d", major, minor, patch);
	return text;
}

static int be_silent(WT_EVENT_HANDLER *handler, WT_SESSION *session, int err, const char *message)
{
	(void)handler;
	(void)session;
	(void)err;
	(void)message;
	return 0;
}

/*
 * The first open of a process measures the processor's clock, which takes more than half a second in
 * 3.2.1. An open that fails does it too.
 */
static void prepare(void)
{
	WT_EVENT_HANDLER handler = { .handle_error = be_silent };
	WT_CONNECTION *conn;

	if (!wiredtiger_open("/proc/none", &handler, NULL, &conn))
		bench_die("wiredtiger: /proc/none is there");
}

static void *d_open(const char *dir, const struct bench_opts *opts)
{
	WT_CONNECTION *conn;
	WT_SESSION *session;
	char config[512];

	snprintf(config, sizeof(config),
		 "create,cache_size=%zuMB,session_max=64,log=(enabled=true,file_max=32MB),"
		 "transaction_sync=(enabled=true,method=%s),checkpoint=(log_size=128MB),"
		 "eviction=(threads_min=1,threads_max=2)",
		 opts->cache_bytes / 1048576, opts->synced ? "fsync" : "none");
	check(wiredtiger_open(dir, NULL, config, &conn), "wiredtiger_open");
	check(conn->open_session(conn, NULL, NULL, &session), "open_session");
	check(session->create(session, TABLE, "key_format=u,value_format=u,leaf_page_max=16KB"), "create");
	check(session->close(session, NULL), "close");
	return conn;
}

static void d_close(void *db)
{
	WT_CONNECTION *conn = db;

	check(conn->close(conn, NULL), "close");
}

static void *ctx_open(void *db)
{
	struct ctx *c = calloc(1, sizeof(*c));
	WT_CONNECTION *conn = db;

	if (!c)
		bench_die("wiredtiger: out of memory");
	check(conn->open_session(conn, NULL, "isolation=snapshot", &c->session), "open_session");
	check(c->session->open_cursor(c->session, TABLE, NULL, NULL, &c->cursor), "open_cursor");
	return c;
}

static void ctx_close(void *ctx)
{
	struct ctx *c = ctx;

	check(c->session->close(c->session, NULL), "close");
	free(c);
}

static void set_key(WT_CURSOR *cursor, const void *key, uint32_t len)
{
	WT_ITEM item = { .data = key, .size = len };

	cursor->set_key(cursor, &item);
}

static int insert(WT_CURSOR *cursor, const void *key, uint32_t key_len, const void *val,
		  uint32_t val_len)
{
	WT_ITEM item = { .data = val, .size = val_len };

	set_key(cursor, key, key_len);
	cursor->set_value(cursor, &item);
	return cursor->insert(cursor);
}

static void put(void *ctx, const struct bench_pair *p)
{
	struct ctx *c = ctx;
	int err;

	do
		err = insert(c->cursor, p->key, p->key_len, p->val, p->val_len);
	while (err == WT_ROLLBACK);
	check(err, "insert");
}

/* Ends the transaction either way. */
static int end(struct ctx *c, int err)
{
	if (!err)
		return c->session->commit_transaction(c->session, NULL);
	check(c->session->rollback_transaction(c->session, NULL), "rollback_transaction");
	return err;
}

static int try_batch(struct ctx *c, const struct bench_pair *p, unsigned int nr)
{
	unsigned int i;
	int err = 0;

	check(c->session->begin_transaction(c->session, NULL), "begin_transaction");
	for (i = 0; i < nr && !err; i++)
		err = insert(c->cursor, p[i].key, p[i].key_len, p[i].val, p[i].val_len);
	return end(c, err);
}

static void put_batch(void *ctx, const struct bench_pair *p, unsigned int nr)
{
	int err;

	do
		err = try_batch(ctx, p, nr);
	while (err == WT_ROLLBACK);
	check(err, "insert");
}

static int64_t get(void *ctx, const void *key, uint32_t key_len, void *buf, uint32_t cap)
{
	struct ctx *c = ctx;
	WT_ITEM val;
	int err;

	set_key(c->cursor, key, key_len);
	err = c->cursor->search(c->cursor);
	if (err == WT_NOTFOUND)
		return -1;
	check(err, "search");
	check(c->cursor->get_value(c->cursor, &val), "get_value");
	memcpy(buf, val.data, val.size < cap ? val.size : cap);
	check(c->cursor->reset(c->cursor), "reset");
	return (int64_t)val.size;
}

static int position(WT_CURSOR *cursor, const void *from, uint32_t from_len, bool reverse)
{
	int err, exact;

	if (!from)
		return reverse ? cursor->prev(cursor) : cursor->next(cursor);
	set_key(cursor, from, from_len);
	err = cursor->search_near(cursor, &exact);
	if (!err && !reverse && exact < 0)
		err = cursor->next(cursor);
	if (!err && reverse && exact > 0)
		err = cursor->prev(cursor);
	return err;
}

static uint64_t scan(void *ctx, const void *from, uint32_t from_len, uint64_t max,
		     struct bench_scan *s)
{
	struct ctx *c = ctx;
	WT_CURSOR *cursor = c->cursor;
	WT_ITEM key, val;
	uint64_t nr = 0;
	int err;

	err = position(cursor, from, from_len, s->reverse);
	while (!err) {
		check(cursor->get_key(cursor, &key), "get_key");
		check(cursor->get_value(cursor, &val), "get_value");
		bench_visit(s, key.data, key.size, val.data, val.size);
		if (++nr == max)
			break;
		err = s->reverse ? cursor->prev(cursor) : cursor->next(cursor);
	}
	if (err != WT_NOTFOUND)
		check(err, "next");
	check(cursor->reset(cursor), "reset");
	return nr;
}

static int try_inc(struct ctx *c, const void *key, uint32_t key_len)
{
	uint64_t count;
	WT_ITEM val;
	int err;

	check(c->session->begin_transaction(c->session, NULL), "begin_transaction");
	set_key(c->cursor, key, key_len);
	err = c->cursor->search(c->cursor);
	if (!err) {
		check(c->cursor->get_value(c->cursor, &val), "get_value");
		memcpy(&count, val.data, sizeof(count));
		count++;
		val = (WT_ITEM){ .data = &count, .size = sizeof(count) };
		c->cursor->set_value(c->cursor, &val);
		err = c->cursor->update(c->cursor);
	}
	return end(c, err);
}

static void counter_inc(void *ctx, const void *key, uint32_t key_len)
{
	int err;

	do
		err = try_inc(ctx, key, key_len);
	while (err == WT_ROLLBACK);
	check(err, "increment");
}

static void d_sync(void *db)
{
	WT_CONNECTION *conn = db;
	WT_SESSION *session;

	check(conn->open_session(conn, NULL, NULL, &session), "open_session");
	check(session->log_flush(session, "sync=on"), "log_flush");
	check(session->close(session, NULL), "close");
}

const struct bench_ops bench_wiredtiger = {
	.name = "wiredtiger",
	.config = "B-tree, log on, transaction_sync method none, synced: fsync; checkpoint each 128 MiB, "
		  "leaves of 16 KiB, log files of 32 MiB, one or two eviction threads",
	.version = version,
	.prepare = prepare,
	.open = d_open,
	.close = d_close,
	.ctx_open = ctx_open,
	.ctx_close = ctx_close,
	.put = put,
	.put_batch = put_batch,
	.get = get,
	.scan = scan,
	.counter_inc = counter_inc,
	.sync = d_sync,
};
