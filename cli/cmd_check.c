/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cmd_check.c - kvs check: the engine's own walk over everything, read-only. */
#include <inttypes.h>
#include <string.h>

#include "kvs.h"

struct report {
	bool json;
	uint64_t nr;
};

static void problem(void *arg, int finding, const char *text)
{
	struct report *r = arg;

	if (r->json) {
		out_fmt("%s\n    {\"finding\": %d, \"text\": ", r->nr ? "," : "", finding);
		out_json_string(text, strlen(text));
		out_text("}");
	} else {
		out_fmt("%d: ", finding);
		out_text(text);
		out_line();
	}
	r->nr++;
}

int cmd_check(struct kvs *k)
{
	struct report r = { .json = k->json };
	uint64_t problems = 0;
	int err, rc = kvs_open(k, 0);

	if (rc)
		return rc;
	if (r.json)
		out_text("{\n  \"problems\": [");
	err = kv_check(k->db, KV_CHECK_VALUES, problem, &r, &problems);
	if (r.json) {
		out_fmt("%s],\n  \"clean\": %s\n}", r.nr ? "\n  " : "",
			problems || err ? "false" : "true");
		out_line();
	} else if (!err) {
		if (!problems)
			out_text("clean");
		else
			out_fmt("%" PRIu64 " problem%s", problems, problems == 1 ? "" : "s");
		out_line();
	}
	if (err)
		rc = kvs_fail(k, err);
	else if (problems)
		rc = kvs_say(k, EXIT_CORRUPT, "%" PRIu64 " problem%s; run 'kvs-fsck -n %s'",
			     problems, problems == 1 ? "" : "s", k->image);
	return kvs_finish(k, rc);
}
