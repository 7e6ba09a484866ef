/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cmd_snap.c - kvs snap: named snapshots of a volume: list, create, delete, roll back. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "kvs.h"

struct listing {
	bool json;
	int nr;
};

/* UTC, to the second. */
static void time_text(uint64_t ns, char *text, size_t len)
{
	time_t t = (time_t)(ns / 1000000000u);
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(text, len, "%Y-%m-%dT%H:%M:%SZ", &tm))
		text[0] = '\0';
}

static int list_one(void *arg, const kv_snapshot_info *info)
{
	struct listing *l = arg;
	char when[40];

	time_text(info->created, when, sizeof(when));
	if (l->json) {
		out_text(l->nr ? ",\n  {\"snapshot\": " : "[\n  {\"snapshot\": ");
		out_json_string(info->name, strlen(info->name));
		out_fmt(", \"created\": \"%s\", \"generation\": %" PRIu64 ", \"bytes\": %" PRIu64 "}", when,
			info->generation, info->bytes);
	} else {
		out_fmt("%s\t%s\t%" PRIu64 "\t%" PRIu64, info->name, when, info->generation, info->bytes);
		out_line();
	}
	l->nr++;
	return out_failed();
}

static int list(struct kvs *k)
{
	struct listing l = { .json = k->json };
	int err = kv_snapshot_list(k->db, list_one, &l);

	if (k->json) {
		out_text(l.nr ? "\n]" : "[]");
		out_line();
	}
	return err < 0 ? kvs_fail(k, err) : EXIT_OK;
}

static int create(struct kvs *k, const char *name)
{
	int err = kv_snapshot_create(k->db, name);

	if (err == KV_E_EXISTS)
		return kvs_say(k, EXIT_NO, "there is a snapshot '%s'; 'kvs snap %s delete %s' deletes it",
			       name, k->image, name);
	return err ? kvs_fail(k, err) : EXIT_OK;
}

static int none(struct kvs *k, const char *name)
{
	return kvs_say(k, EXIT_NO, "no snapshot '%s'; 'kvs snap %s' lists them", name, k->image);
}

static int delete(struct kvs *k, const char *name)
{
	int err = kv_snapshot_delete(k->db, name);

	if (err == KV_E_NOTFOUND)
		return none(k, name);
	return err ? kvs_fail(k, err) : EXIT_OK;
}

#define NAMES_SHOWN 8u

/* Snapshots that were made after another one. */
struct later {
	uint64_t generation;
	unsigned int nr;
	char names[NAMES_SHOWN][sizeof(((kv_snapshot_info *)0)->name)];
};

static int later_one(void *arg, const kv_snapshot_info *info)
{
	struct later *l = arg;

	if (info->generation <= l->generation)
		return 0;
	if (l->nr < NAMES_SHOWN)
		memcpy(l->names[l->nr], info->name, sizeof(l->names[0]));
	l->nr++;
	return 0;
}

/* "'a', 'b' and 3 more" */
static void later_text(const struct later *l, char *text, size_t len)
{
	unsigned int i;
	size_t n = 0;

	text[0] = '\0';
	for (i = 0; i < l->nr && i < NAMES_SHOWN; i++)
		n += (size_t)snprintf(text + n, len - n, "%s'%s'", i ? ", " : "", l->names[i]);
	if (l->nr > NAMES_SHOWN)
		snprintf(text + n, len - n, " and %u more", l->nr - NAMES_SHOWN);
}

static int rollback(struct kvs *k, const char *name)
{
	char text[NAMES_SHOWN * (sizeof(((kv_snapshot_info *)0)->name) + 4) + 32];
	bool force = kvs_given(k, OPT_BIT(FORCE));
	struct later l = { .nr = 0 };
	kv_snapshot_info info;
	int err = kv_snapshot_stat(k->db, name, &info);

	if (err == KV_E_NOTFOUND)
		return none(k, name);
	l.generation = info.generation;
	if (!err)
		err = kv_snapshot_list(k->db, later_one, &l);
	if (err)
		return kvs_fail(k, err);
	later_text(&l, text, sizeof(text));
	if (l.nr && !force)
		return kvs_say(k, EXIT_NO, "%s later than '%s'; --force deletes what is: %s",
			       l.nr == 1 ? "a snapshot is" : "snapshots are", name, text);
	err = kv_snapshot_rollback(k->db, name, force ? KV_ROLLBACK_NEWER : 0);
	if (err)
		return kvs_fail(k, err);
	if (l.nr) {
		out_fmt("deleted %s", text);
		out_line();
	}
	return EXIT_OK;
}

int cmd_snap(struct kvs *k)
{
	static const struct {
		const char *name;
		int (*run)(struct kvs *k, const char *name);
	} verbs[] = { { "create", create }, { "delete", delete }, { "rollback", rollback } };
	int (*run)(struct kvs *k, const char *name) = NULL;
	unsigned int i;
	int rc;

	for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]) && k->args_nr == 2; i++)
		if (!strcmp(k->args[0], verbs[i].name))
			run = verbs[i].run;
	if (k->args_nr && !run)
		return kvs_complain(EXIT_USAGE, "usage: kvs snap IMAGE [create|delete|rollback NAME]");
	rc = kvs_open(k, run ? KVS_WRITE : 0);
	if (rc)
		return rc;
	return kvs_finish(k, run ? run(k, k->args[1]) : list(k));
}
