/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * session.c - opening and closing the volume, messages, exit codes, signals.
 *
 * Messages have the shape "kvs: IMAGE: what; next command". The engine's text already names the
 * image and often the next step; what is missing is added here, by class.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* gettid */
#endif
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvs.h"

int kvs_exit_code(int err)
{
	switch (err) {
	case KV_OK:
		return EXIT_OK;
	case KV_E_NOTFOUND:
	case KV_E_EXISTS:
		return EXIT_NO;
	case KV_E_INVALID:
	case KV_E_TOOBIG:
	case KV_E_NUMBER:
		return EXIT_USAGE;
	case KV_E_CORRUPT:
		return EXIT_CORRUPT;
	case KV_E_UNSUPPORTED:
	case KV_E_NOTVOLUME:
		return EXIT_NOTVOLUME;
	case KV_E_BUSY:
		return EXIT_BUSY;
	case KV_E_CANCELLED:
		return EXIT_INTERRUPT;
	default: /* NOSPACE NOMEM IO READONLY INDETERMINATE TOOOLD */
		return EXIT_SYSTEM;
	}
}

/* ---- messages ------------------------------------------------------------------------------ */

static void say_va(const char *image, const char *fmt, va_list args)
{
	fputs("kvs: ", stderr);
	if (image)
		fprintf(stderr, "%s: ", image);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
}

int kvs_say(struct kvs *k, int code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say_va(k->image, fmt, args);
	va_end(args);
	return code;
}

int kvs_complain(int code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say_va(NULL, fmt, args);
	va_end(args);
	return code;
}

int kvs_no_memory(void)
{
	return kvs_complain(EXIT_SYSTEM, "out of memory; free some, or give a smaller --cache");
}

/* The next step, where the engine named none. %s is the image. */
static const char *next_step(int err)
{
	switch (err) {
	case KV_E_NOSPACE:
		return "free space, or delete keys with 'kvs del %s'";
	case KV_E_NOMEM:
		return "try a smaller --cache on %s";
	case KV_E_CORRUPT:
		return "run 'kvs-fsck -n %s'";
	case KV_E_UNSUPPORTED:
		return "use a newer kvs for %s";
	case KV_E_NOTVOLUME:
		return "'kvs create %s' makes a volume";
	case KV_E_EXISTS:
		return "'kvs create --force %s' overwrites it";
	case KV_E_BUSY:
		return "close the other program that uses %s and try again";
	case KV_E_READONLY:
	case KV_E_INDETERMINATE:
		return "run 'kvs check %s'";
	default:
		return NULL;
	}
}

int kvs_fail_at(struct kvs *k, int err, const char *place)
{
	const char *text = k->ops->last_error(), *next = next_step(err);
	size_t n = strlen(k->image);
	char step[512] = "";
	kv_health_info health;

	/* the engine begins with the path it was given */
	if (!strncmp(text, k->image, n) && text[n] == ':') {
		text += n + 1;
		text += *text == ' ';
	}
	if (!*text)
		text = kv_strerror(err);
	if (next && !strchr(text, ';')) {
		snprintf(step, sizeof(step), "; ");
		/* next is one of the literals above */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(step + 2, sizeof(step) - 2, next, k->image);
#pragma GCC diagnostic pop
	}
	if (place)
		kvs_say(k, 0, "%s: %s%s", place, text, step);
	else
		kvs_say(k, 0, "%s%s", text, step);
	/* read-only since an error: the code is that of the error */
	if (err == KV_E_READONLY && k->db && !k->ops->health(k->db, &health) && health.error)
		err = health.error;
	return kvs_exit_code(err);
}

int kvs_fail(struct kvs *k, int err)
{
	return kvs_fail_at(k, err, NULL);
}

int kvs_no_key(struct kvs *k, const struct bytes *key)
{
	char shown[128];

	return kvs_say(k, EXIT_NO, "no key '%s'%s%s%s",
		       enc_show(key->p, key->n, shown, sizeof(shown)),
		       k->tree_name ? " in tree '" : "", k->tree_name ? k->tree_name : "",
		       k->tree_name ? "'" : "");
}

/* ---- arguments ----------------------------------------------------------------------------- */

int kvs_key_arg(struct kvs *k, int i, struct bytes *key)
{
	const char *why = enc_decode(k->key_enc, k->args[i], key);

	if (why)
		return kvs_complain(EXIT_USAGE, "key '%s': %s; see --enc in 'man kvs'", k->args[i],
				    why);
	if (!key->n)
		return kvs_complain(EXIT_USAGE, "the key is empty; a key has 1 byte or more");
	return EXIT_OK;
}

size_t kvs_piece_bytes(const struct kvs *k)
{
	const uint64_t most = 1u << 20;
	uint64_t n = (k->opt.cache_bytes ? k->opt.cache_bytes : 64u << 20) / 16;

	n = n < 4096 ? 4096 : n;
	return n < most ? n : most;
}

/* ---- signals ------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

void kvs_catch_signals(void)
{
	/* no SA_RESTART: a read from a terminal or pipe must return */
	struct sigaction act = { .sa_handler = on_signal };

	sigemptyset(&act.sa_mask);
	/* a second one while we sync must end the process: kill-safe is what we promise anyway */
	act.sa_flags = (int)SA_RESETHAND;
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	signal(SIGPIPE, SIG_IGN);
}

bool kvs_interrupted(void)
{
	return interrupted;
}

/* ---- the volume ---------------------------------------------------------------------------- */

/* Nothing there, or an empty regular file: may become a volume without being asked for. */
static bool is_new(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return errno == ENOENT;
	return S_ISREG(st.st_mode) && !st.st_size;
}

/*
 * The engine's log. What goes wrong inside of a call comes back as its error and is told once, by
 * kvs_fail(); here pass warnings (a page healed, say) and errors of the background thread.
 */
static void on_log(void *arg, int level, const char *message)
{
	(void)arg;
	if (level == KV_LOG_ERROR && gettid() == getpid())
		return;
	kvs_complain(0, "%s%s", level == KV_LOG_ERROR ? "" : "warning: ", message);
}

int kvs_tree(struct kvs *k, const char *name, unsigned int flags, kv_tree **out)
{
	return k->read ? kv_read_tree(k->read, name, out) : k->ops->tree_open(k->db, name, flags, out);
}

int kvs_tree_list(struct kvs *k, int (*fn)(void *arg, const char *name, uint64_t count), void *arg)
{
	return k->read ? kv_read_trees(k->read, fn, arg) : k->ops->tree_list(k->db, fn, arg);
}

int kvs_snapshot(struct kvs *k, const char *name, kv_read **out)
{
	int err = kv_snapshot_read(k->db, name, out);

	if (err)
		*out = NULL;
	if (err == KV_E_NOTFOUND)
		return kvs_say(k, EXIT_NO, "no snapshot '%s'; 'kvs snap %s' lists them", name, k->image);
	return err ? kvs_fail(k, err) : EXIT_OK;
}

/* --at and --tree. Exit code. */
static int state_open(struct kvs *k, unsigned int flags)
{
	int err, rc = k->at ? kvs_snapshot(k, k->at, &k->read) : EXIT_OK;

	if (rc)
		return rc;
	if (!k->tree_name && !k->read)
		return EXIT_OK;
	err = kvs_tree(k, k->tree_name ? k->tree_name : "main",
		       flags & KVS_TREE_CREATE ? KV_TREE_CREATE : 0, &k->tree);
	if (err == KV_E_NOTFOUND)
		return kvs_say(k, EXIT_NO, "no tree '%s'; 'kvs trees %s' lists them", k->tree_name, k->image);
	return err ? kvs_fail(k, err) : EXIT_OK;
}

int kvs_open(struct kvs *k, unsigned int flags)
{
	const char *dir = volume_mount_dir(k->image);
	bool create = !dir && (flags & KVS_CREATE) && is_new(k->image);
	int err, rc;

	if (dir)
		k->ops = &volume_mount;
	if (!dir && !create && access(k->image, F_OK) && errno == ENOENT)
		return kvs_say(k, EXIT_NOTVOLUME, "no such file; 'kvs create %s' makes a volume",
			       k->image);
	k->writing = flags & KVS_WRITE;
	k->opt.flags |= k->writing ? (create ? KV_OPEN_CREATE : 0) : KV_OPEN_READONLY;
	k->opt.log = on_log;
	k->opt.log_level = KV_LOG_WARN;
	err = k->ops->open(dir ? dir : k->image, &k->opt, &k->db);
	if (err) {
		k->db = NULL;
		return kvs_fail(k, err);
	}
	if (create)
		kvs_say(k, 0, "created a new volume");
	rc = state_open(k, flags);
	return rc ? kvs_finish(k, rc) : EXIT_OK;
}

int kvs_finish(struct kvs *k, int rc)
{
	int err;

	rc = out_finish(rc);
	if (!k->db)
		return rc;
	if (k->writing && !kvs_given(k, OPT_BIT(NO_SYNC))) {
		err = k->ops->sync(k->db);
		if (err) {
			int code = kvs_fail(k, err);

			rc = rc ? rc : code;
		}
	}
	kv_read_end(k->read);
	k->read = NULL;
	err = k->ops->close(k->db);
	k->db = NULL;
	k->tree = NULL;
	if (err) {
		int code = kvs_fail(k, err);

		rc = rc ? rc : code;
	}
	return rc;
}
