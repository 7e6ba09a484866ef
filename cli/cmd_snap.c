/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cmd_snap.c - kvs snap: named snapshots of a volume: list, create, delete. */
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

static int delete(struct kvs *k, const char *name)
{
	int err = kv_snapshot_delete(k->db, name);

	if (err == KV_E_NOTFOUND)
		return kvs_say(k, EXIT_NO, "no snapshot '%s'; 'kvs snap %s' lists them", name, k->image);
	return err ? kvs_fail(k, err) : EXIT_OK;
}

int cmd_snap(struct kvs *k)
{
	bool make = k->args_nr && !strcmp(k->args[0], "create");
	int rc;

	if (k->args_nr && ((!make && strcmp(k->args[0], "delete")) || k->args_nr < 2))
		return kvs_complain(EXIT_USAGE, "usage: kvs snap IMAGE [create|delete NAME]");
	rc = kvs_open(k, k->args_nr ? KVS_WRITE : 0);
	if (rc)
		return rc;
	if (!k->args_nr)
		rc = list(k);
	else
		rc = make ? create(k, k->args[1]) : delete(k, k->args[1]);
	return kvs_finish(k, rc);
}
