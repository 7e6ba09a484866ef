/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_del.c - kvs del: named keys, or a range.
 *
 * In an image a range is one change, whatever it holds. Through a mount, and where the file system is
 * short of space, it is deleted in batches, each with a cursor of its own: a cursor frozen over the whole
 * work would keep the space of everything deleted from being used again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "kvs.h"

#define BATCH_KEYS 100

static int del_keys(struct kvs *k)
{
	int i, rc = EXIT_OK;

	for (i = 0; i < k->args_nr; i++) {
		struct bytes key = { 0 };
		int err, code;

		code = kvs_key_arg(k, i, &key);
		if (!code) {
			err = k->ops->del(k->db, k->tree, key.p, key.n, 0);
			if (err)
				code = err == KV_E_NOTFOUND ? kvs_no_key(k, &key)
							    : kvs_fail(k, err);
		}
		bytes_free(&key);
		if (code)
			rc = code;
		if (code > EXIT_NO)
			break;
	}
	return rc;
}

static int count_range(struct kvs *k, const struct bytes *from, const struct bytes *to,
		       uint64_t *count)
{
	struct walk w;
	int rc = walk_open(&w, k, k->tree, from, to, false);

	*count = 0;
	if (rc)
		return rc;
	while (walk_next(&w, &rc) > 0)
		(*count)++;
	return walk_close(&w, rc);
}

/* Asks when there is a terminal to answer. EXIT_OK: go on. */
static int ask(struct kvs *k, const struct bytes *from, const struct bytes *to)
{
	uint64_t count;
	int rc, c, first;

	if (kvs_given(k, OPT_BIT(FORCE)) || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return EXIT_OK;
	rc = count_range(k, from, to, &count);
	if (rc || !count)
		return rc;
	fprintf(stderr, "Delete %" PRIu64 " entries of %s? [y/N] ", count, k->image);
	first = getchar();
	for (c = first; c != '\n' && c != EOF; c = getchar())
		;
	if (first == 'y' || first == 'Y')
		return EXIT_OK;
	return kvs_say(k, EXIT_NO, "nothing was deleted");
}

/* Collects up to BATCH_KEYS deletes and moves *from behind the last of them. */
static int collect(struct kvs *k, kv_batch *batch, struct bytes *from, const struct bytes *to)
{
	struct walk w;
	size_t limit = kvs_piece_bytes(k), bytes = 0;
	int err, rc = walk_open(&w, k, k->tree, from, to, false);

	if (rc)
		return rc;
	while (bytes < limit && k->ops->batch_count(batch) < BATCH_KEYS && walk_next(&w, &rc) > 0) {
		err = k->ops->batch_del(batch, k->tree, w.key, w.key_len);
		if (err) {
			rc = kvs_fail(k, err);
			break;
		}
		bytes += w.key_len + 64;
		from->n = 0;
		/* the key and a zero byte: the smallest key behind it */
		if (!bytes_add(from, w.key, w.key_len) || !bytes_add(from, "", 1)) {
			rc = kvs_no_memory();
			break;
		}
	}
	return walk_close(&w, rc);
}

static int del_batches(struct kvs *k, struct bytes *from, const struct bytes *to)
{
	kv_batch *batch = NULL;
	size_t nr = 0;
	int rc = 0, err = k->ops->batch_new(k->db, &batch);

	if (err)
		return kvs_fail(k, err);
	while (!rc) {
		rc = collect(k, batch, from, to);
		nr = k->ops->batch_count(batch);
		/* what was found before damage is deleted too */
		if ((rc && rc != EXIT_CORRUPT) || !nr)
			break;
		err = k->ops->batch_commit(batch, 0);
		if (err)
			rc = kvs_fail(k, err);
		else if (!rc && kvs_interrupted())
			rc = kvs_say(k, EXIT_INTERRUPT,
				     "interrupted; a part of the range is deleted");
	}
	k->ops->batch_free(batch);
	return rc;
}

/*
 * One by one where a range cannot be deleted as one, and where the image's file system is short of space:
 * what a range leaves to be done later would need some then.
 */
static bool by_batches(struct kvs *k)
{
	kv_stat_info st;
	struct statvfs fs;

	if (!k->ops->delete_range)
		return true;
	return !k->ops->stat(k->db, &st) && !statvfs(k->image, &fs) &&
	       (uint64_t)fs.f_bavail * fs.f_frsize < st.volume_bytes / 2;
}

static int del_range(struct kvs *k)
{
	struct bytes from = { 0 }, to = { 0 };
	int err, rc;

	rc = walk_range(k, &from, &to);
	if (!rc)
		rc = ask(k, &from, &to);
	if (!rc && by_batches(k)) {
		rc = del_batches(k, &from, &to);
	} else if (!rc) {
		err = k->ops->delete_range(k->db, k->tree, from.p, from.n, to.p, to.n, 0);
		if (err)
			rc = kvs_fail(k, err);
	}
	bytes_free(&from);
	bytes_free(&to);
	return rc;
}

int cmd_del(struct kvs *k)
{
	bool range = kvs_given(k, OPT_BIT(FROM) | OPT_BIT(TO) | OPT_BIT(PREFIX));
	int rc;

	if (range && k->args_nr)
		return kvs_complain(EXIT_USAGE, "either keys or a range; usage: kvs del %s",
				    k->cmd->usage);
	if (!range && !k->args_nr)
		return kvs_complain(EXIT_USAGE, "no key and no range (--prefix, --from, --to); see "
						"'kvs del --help'");
	rc = kvs_open(k, KVS_WRITE);
	if (rc)
		return rc;
	if (range)
		kvs_catch_signals();
	return kvs_finish(k, range ? del_range(k) : del_keys(k));
}
