/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_mount.c - kvs mount: a volume as a file system in user space. The life of one mount: options, into
 * the background, the volume, the session, the loop, and everything back in reverse.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mount.h"

/* The largest request that libfuse's buffer has room for, in pages. */
#define REQUEST_PAGES 256u
#define IDLE_THREADS 10u

/* libfuse tells on standard error why it could not mount; it has the volume's name from us. */
static void on_fuse_log(enum fuse_log_level level, const char *fmt, va_list args)
{
	char text[512];
	size_t n;

	if (level > FUSE_LOG_WARNING)
		return;
	vsnprintf(text, sizeof(text), fmt, args);
	n = strlen(text);
	while (n && text[n - 1] == '\n')
		text[--n] = 0;
	if (n)
		kvs_complain(0, "%s", text);
}

/* A directory to mount on, and names that stay good when the working directory changes. */
static int resolve(struct mount *m, char **dir)
{
	const char *given = m->kvs->args[0];
	struct stat st;

	*dir = realpath(given, NULL);
	if (!*dir)
		return kvs_complain(EXIT_USAGE, "%s: %s; to mount on it, make it with 'mkdir', or unmount "
				    "what a dead server left with 'fusermount3 -u'", given, strerror(errno));
	m->dir = *dir;
	if (stat(*dir, &st) || !S_ISDIR(st.st_mode))
		return kvs_complain(EXIT_USAGE, "%s: not a directory to mount on", given);
	m->image = realpath(m->kvs->image, NULL);
	/* kvs_open() says what is wrong with it */
	if (!m->image)
		m->image = strdup(m->kvs->image);
	return m->image ? EXIT_OK : kvs_no_memory();
}

static int view_init(struct mount *m)
{
	kv_stat_info s;
	int err = kv_stat(m->kvs->db, &s);
	u64 page = (u64)sysconf(_SC_PAGESIZE);

	if (err)
		return kvs_fail(m->kvs, err);
	m->fs = (struct kvfs){
		.db = m->kvs->db, .key_max = s.key_max, .stream = m->opt.stream,
		.strip_nl = m->opt.strip_nl, .durability = m->opt.durability,
	};
	m->staging = m->fs;
	m->staging.stream = true;
	/* one byte more than pages: fits REQUEST_PAGES however the program's buffer lies, and is odd */
	m->piece_bytes = (u32)((REQUEST_PAGES - 1) * page + 1);
	return mount_nodes_init(m) ? kvs_no_memory() : EXIT_OK;
}

/* fsname is the image, with what separates options escaped. */
static int session_args(struct mount *m, struct fuse_args *args)
{
	char *opts = NULL;
	int bad;

	bad = fuse_opt_add_arg(args, "kvs") || fuse_opt_add_opt(&opts, "default_permissions") ||
	      fuse_opt_add_opt(&opts, "subtype=kvfs") ||
	      fuse_opt_add_opt(&opts, "nosuid,nodev,noexec,noatime") ||
	      (m->opt.readonly && fuse_opt_add_opt(&opts, "ro")) ||
	      (m->opt.allow_other && fuse_opt_add_opt(&opts, "allow_other"));
	if (!bad) {
		char *name = malloc(strlen(m->image) + sizeof("fsname="));

		bad = !name;
		if (name) {
			strcpy(stpcpy(name, "fsname="), m->image);
			bad = fuse_opt_add_opt_escaped(&opts, name);
			free(name);
		}
	}
	bad = bad || fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, opts);
	free(opts);
	return bad ? kvs_no_memory() : EXIT_OK;
}

/* Until it is unmounted or a signal comes. */
static int serve(struct mount *m)
{
	struct fuse_loop_config loop = { .max_idle_threads = IDLE_THREADS };
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int rc, err;

	fuse_set_log_func(on_fuse_log);
	rc = session_args(m, &args);
	if (rc)
		goto out_args;
	m->session = fuse_session_new(&args, &mount_ops, sizeof(mount_ops), m);
	if (!m->session) {
		rc = kvs_say(m->kvs, EXIT_SYSTEM, "libfuse gives no session");
		goto out_args;
	}
	if (fuse_set_signal_handlers(m->session)) {
		rc = kvs_say(m->kvs, EXIT_SYSTEM, "no signal handlers");
		goto out_session;
	}
	if (fuse_session_mount(m->session, m->dir)) {
		rc = kvs_say(m->kvs, EXIT_SYSTEM, "could not be mounted on %s; are /dev/fuse and the package "
			     "fuse3 there, and may you write to the directory?", m->dir);
		goto out_signals;
	}
	err = fuse_session_loop_mt(m->session, &loop);
	if (err < 0)
		rc = kvs_say(m->kvs, EXIT_SYSTEM, "%s: %s", m->dir, strerror(-err));
	fuse_session_unmount(m->session);
out_signals:
	fuse_remove_signal_handlers(m->session);
out_session:
	fuse_session_destroy(m->session);
out_args:
	fuse_opt_free_args(&args);
	return rc;
}

/* In the process that stays. */
static int run(struct mount *m)
{
	struct kvs *k = m->kvs;
	int rc, err;

	k->opt.cache_bytes = m->opt.cache_bytes;
	k->opt.durability = m->opt.durability;
	rc = kvs_open(k, m->opt.readonly ? 0 : KVS_WRITE);
	if (rc)
		return rc;
	rc = view_init(m);
	if (!rc) {
		rc = serve(m);
		err = mount_files_close(m);
		if (err && !rc)
			rc = kvs_say(k, EXIT_SYSTEM, "a file that was open could not be stored: %s",
				     strerror(-err));
		mount_dirs_close(m);
		mount_nodes_exit(m);
	}
	return kvs_finish(k, rc);
}

int cmd_mount(struct kvs *k)
{
	struct mount m = { .kvs = k };
	char *dir = NULL;
	int rc;

	rc = mount_options_parse(k, k->mount_options, &m.opt);
	if (!rc)
		rc = resolve(&m, &dir);
	if (!rc && (kvs_given(k, OPT_BIT(FOREGROUND)) || mount_daemon_fork(&rc)))
		rc = run(&m);
	free(dir);
	free(m.image);
	return rc;
}
