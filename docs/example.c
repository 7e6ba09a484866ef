/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * example.c - libkvengine in one page: open, put, get, a batch, a cursor, a counter, close.
 *
 *	cc example.c $(pkg-config --cflags --libs kvengine) -o example && ./example demo.kv
 *
 * The tests compile and run exactly this file against the build tree.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <kvengine.h>

static int fail(const char *what, int err)
{
	fprintf(stderr, "example: %s: %s: %s\n", what, kv_strerror(err), kv_last_error());
	return 1;
}

/* All entries from "fruit/" up to, not including, "fruit0": those with the prefix "fruit/". */
static int list(kv_db *db)
{
	const void *key, *value;
	size_t key_len, value_len;
	kv_cursor *c;
	int err;

	err = kv_cursor_open(db, NULL, NULL, &c);
	if (err)
		return err;
	err = kv_cursor_bounds(c, "fruit/", 6, "fruit0", 6);
	if (!err)
		err = kv_cursor_first(c);
	while (!err) {
		err = kv_cursor_key(c, &key, &key_len);
		if (!err)
			err = kv_cursor_value(c, &value, &value_len);
		if (err)
			break;
		printf("%.*s = %.*s\n", (int)key_len, (const char *)key, (int)value_len,
		       (const char *)value);
		err = kv_cursor_next(c);
	}
	kv_cursor_close(c);
	return err == KV_E_NOTFOUND ? 0 : err; /* not found: the end */
}

/* Two changes that become visible, and survive a crash, together or not at all. */
static int both(kv_db *db)
{
	kv_batch *b;
	int err;

	err = kv_batch_new(db, &b);
	if (err)
		return err;
	err = kv_batch_put(b, NULL, "fruit/pear", 10, "green", 5);
	if (!err)
		err = kv_batch_del(b, NULL, "fruit/apple", 11);
	if (!err)
		err = kv_batch_commit(b, KV_SYNCED);
	kv_batch_free(b);
	return err;
}

int main(int argc, char **argv)
{
	kv_options opt = KV_OPTIONS_INIT;
	const char *path = argc > 1 ? argv[1] : "example.kv";
	int64_t visits = 0;
	kv_db *db;
	char buf[64];
	size_t len;
	int err;

	opt.flags = KV_OPEN_CREATE;
	err = kv_open(path, &opt, &db);
	if (err)
		return fail("open", err);

	err = kv_put(db, NULL, "fruit/apple", 11, "red", 3, 0);
	if (!err)
		err = kv_put(db, NULL, "fruit/cherry", 12, "dark red", 8, 0);
	if (!err)
		err = kv_get_into(db, NULL, "fruit/apple", 11, buf, sizeof(buf), &len);
	if (!err) {
		printf("an apple is %.*s\n", (int)len, buf);
		err = both(db);
	}
	if (!err)
		err = list(db);

	/* A counter: made at the first run, one more at each later one. */
	if (!err)
		err = kv_put(db, NULL, "visits", 6, "0", 1, KV_PUT_NEW);
	if (!err || err == KV_E_EXISTS)
		err = kv_inc(db, NULL, "visits", 6, 1, &visits, 0);
	if (!err)
		printf("visit %" PRId64 "\n", visits);

	if (err) {
		fail(path, err);
		kv_close(db);
		return 1;
	}
	err = kv_close(db);
	return err ? fail("close", err) : 0;
}
