/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* judge.c - opening an image for the verbs that look at it as kvs-fsck does. */
#include <errno.h>
#include <string.h>

#include "judge.h"

static bool is_cancelled(void *arg)
{
	(void)arg;
	return kvs_interrupted();
}

int judge_open(struct kvs *k, struct judge *j)
{
	const char *what;
	int err;

	memset(j, 0, sizeof(*j));
	err = kvsck_file_open(&j->file, k->image, &what);
	if (err == -KVE_io_system && errno == ENOENT)
		return kvs_say(k, EXIT_NOTVOLUME, "no such file; 'kvs create %s' makes a volume", k->image);
	if (err == -KVE_io_system)
		return kvs_say(k, EXIT_SYSTEM, "%s: %s", what, strerror(errno));
	if (err)
		return kvs_say(k, kvs_exit_code(kvf_err_class(err)), "%s", what);
	kvs_catch_signals();
	j->io = (struct kvsck_io){ .read = kvsck_file_read, .arg = &j->file, .size = j->file.size };
	j->opt.cancelled = is_cancelled;
	return EXIT_OK;
}

void judge_close(struct judge *j)
{
	kvsck_file_close(&j->file);
}

int judge_fail(struct kvs *k, int err)
{
	int rc = kvs_exit_code(kvf_err_class(err));

	if (rc == EXIT_CORRUPT)
		return kvs_say(k, rc, "%s; run 'kvs-fsck -n %s'", kvf_err_text(err), k->image);
	if (err == -KVE_empty || err == -KVE_not_volume)
		return kvs_say(k, rc, "%s; 'kvs create %s' makes a volume", kvf_err_text(err), k->image);
	return kvs_say(k, rc, "%s", kvf_err_text(err));
}
