/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_kill.c - M10, kill -9 on a real file: CONTRACT C2 C13, rows Y9 H17.
 *
 * A child process runs a mixed load on an image file from two threads, each in a tree of its own, with
 * the background thread of the engine at work; it reports what it issues and what was acknowledged
 * through a pipe. At a random instant it is killed. The parent opens the file, finds each tree in a
 * state between the last acknowledged change and the last issued one, checks the volume, and lets the
 * next child go on with the same file; sometimes after an orderly close, mostly not. At the instant of
 * the kill the page cache survives, so everything kill-safe must be there.
 *
 *	test_kill [--kills N] [--seed N] [--dir DIR]
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/crash/judge.h"
#include "tests/tap.h"

#define THREADS 2u
#define KEYS 60u

/* What goes through the pipe: written at once, so never torn. */
struct news {
	u32 thread;
	u32 kind; /* 1 issued, 2 acknowledged */
	u64 op;
};

struct thread {
	kv_db *db;
	kv_tree *tree;
	int pipe;
	u32 me;
	u64 next; /* first operation */
	u64 seed;
};

static const char *const trees[THREADS] = { "left", "right" };
static char path[256];
static u64 seed = 1;

/* Operation n of thread t, the same in child and parent. */
struct action {
	enum { PUT, BIG, DEL, BATCH, SYNCED, LARGE } kind;
	u32 key;
	size_t len;
};

static struct action action_of(u32 thread, u64 n)
{
	u64 state = (seed * 31 + thread) * 0x9e3779b97f4a7c15ull + n * 0xbf58476d1ce4e5b9ull;
	struct action a;
	u64 d;

	rnd_next(&state);
	d = (rnd_next(&state) >> 33) % 100;
	a.key = (rnd_next(&state) >> 33) % KEYS;
	a.kind = d < 50 ? PUT : d < 60 ? BIG : d < 75 ? DEL : d < 88 ? BATCH : d < 96 ? SYNCED : LARGE;
	a.len = (rnd_next(&state) >> 33) % (a.kind == BIG ? 9000 : a.kind == LARGE ? 400000 : 200);
	return a;
}

static size_t key_of(u32 key, char *buf)
{
	return sprintf(buf, "key-%u", key);
}

/* ---- the oracle's side -------------------------------------------------------------------------- */

static void apply(struct oracle *o, u32 thread, u64 n, u8 *buf)
{
	struct action a = action_of(thread, n);
	char key[32];
	u32 i;

	oracle_next(o);
	fill_value(buf, a.len, n * 2 + thread);
	switch (a.kind) {
	case DEL:
		oracle_del(o, trees[thread], key, key_of(a.key, key));
		break;
	case BATCH:
		for (i = 0; i < 4; i++)
			oracle_put(o, trees[thread], key, key_of((a.key + i * 7) % KEYS, key), buf, a.len);
		oracle_del(o, trees[thread], key, key_of((a.key + 3) % KEYS, key));
		break;
	default:
		oracle_put(o, trees[thread], key, key_of(a.key, key), buf, a.len);
	}
}

/* ---- the child's side --------------------------------------------------------------------------- */

static int do_batch(struct thread *t, const struct action *a, const u8 *buf)
{
	char key[32];
	kv_batch *b;
	u32 i;
	int err;

	err = kv_batch_new(t->db, &b);
	for (i = 0; !err && i < 4; i++)
		err = kv_batch_put(b, t->tree, key, key_of((a->key + i * 7) % KEYS, key), buf, a->len);
	if (!err)
		err = kv_batch_del(b, t->tree, key, key_of((a->key + 3) % KEYS, key));
	if (!err)
		err = kv_batch_commit(b, 0);
	return err;
}

static int do_stream(struct thread *t, const struct action *a, const u8 *buf)
{
	char key[32];
	size_t done, n;
	kv_writer *w;
	int err;

	err = kv_writer_open(t->db, t->tree, key, key_of(a->key, key), &w);
	for (done = 0; !err && done < a->len; done += n) {
		n = a->len - done < 50000 ? a->len - done : 50000;
		err = kv_writer_write(w, buf + done, n);
	}
	return err ? err : kv_writer_commit(w, 0);
}

static int perform(struct thread *t, u64 n, u8 *buf)
{
	struct action a = action_of(t->me, n);
	char key[32];
	size_t klen = key_of(a.key, key);
	int err;

	fill_value(buf, a.len, n * 2 + t->me);
	switch (a.kind) {
	case DEL:
		err = kv_del(t->db, t->tree, key, klen, 0);
		return err == KV_E_NOTFOUND ? 0 : err;
	case BATCH:
		return do_batch(t, &a, buf);
	case LARGE:
		return do_stream(t, &a, buf);
	case SYNCED:
		return kv_put(t->db, t->tree, key, klen, buf, a.len, KV_SYNCED);
	default:
		return kv_put(t->db, t->tree, key, klen, buf, a.len, 0);
	}
}

static void tell(struct thread *t, u32 kind, u64 op)
{
	struct news n = { t->me, kind, op };

	if (write(t->pipe, &n, sizeof(n)) != sizeof(n))
		_exit(9);
}

static void *load(void *arg)
{
	struct thread *t = arg;
	u8 *buf = malloc(1 << 20);
	u64 n;
	int err;

	if (!buf)
		_exit(8);
	for (n = t->next;; n++) {
		tell(t, 1, n);
		err = perform(t, n, buf);
		if (err) {
			fprintf(stderr, "# child: operation %llu: %s: %s\n", n, kv_strerror(err),
				kv_last_error());
			_exit(7);
		}
		tell(t, 2, n);
	}
	return NULL;
}

static void options(kv_options *opt)
{
	*opt = (kv_options)KV_OPTIONS_INIT;
	opt->cache_bytes = 8 << 20;
	opt->checkpoint_bytes = 2 << 20;
	opt->log_level = KV_LOG_ERROR;
}

static void child(int fd, const u64 *next)
{
	struct thread t[THREADS];
	pthread_t id[THREADS];
	kv_options opt;
	kv_db *db;
	u32 i;

	options(&opt);
	if (kv_open(path, &opt, &db)) {
		fprintf(stderr, "# child: open: %s\n", kv_last_error());
		_exit(6);
	}
	for (i = 0; i < THREADS; i++) {
		t[i] = (struct thread){ .db = db, .pipe = fd, .me = i, .next = next[i] };
		if (kv_tree_open(db, trees[i], 0, &t[i].tree))
			_exit(5);
	}
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&id[i], NULL, load, &t[i]))
			_exit(4);
	for (;;)
		pause();
}

/* ---- the parent's side --------------------------------------------------------------------------- */

struct state {
	struct oracle o[THREADS]; /* commit n: operation n (from 1) */
	u64 acked[THREADS], issued[THREADS];
	u64 total;
	u8 *buf;
	char why[1024];
};

static bool read_news(struct state *s, int fd)
{
	struct news n;
	ssize_t got;

	while ((got = read(fd, &n, sizeof(n))) == sizeof(n)) {
		if (n.thread >= THREADS || n.op != (n.kind == 1 ? s->issued : s->acked)[n.thread] + 1) {
			snprintf(s->why, sizeof(s->why), "the child's news are out of order");
			return false;
		}
		if (n.kind == 1) {
			s->issued[n.thread] = n.op;
			apply(&s->o[n.thread], n.thread, n.op, s->buf);
		} else {
			s->acked[n.thread] = n.op;
			s->total++;
		}
	}
	return true;
}

/* Digest of one tree of the volume. */
static bool tree_digest(kv_db *db, u32 i, uint64_t *hash, char *text, size_t len)
{
	const void *key, *value;
	size_t klen, vlen;
	kv_tree *tree;
	kv_cursor *c;
	int err;

	*hash = oracle_hash_name(trees[i]) + oracle_hash_name("main");
	err = kv_tree_open(db, trees[i], 0, &tree);
	if (!err)
		err = kv_cursor_open(db, NULL, tree, &c);
	if (err) {
		snprintf(text, len, "tree '%s': %s", trees[i], kv_last_error());
		return false;
	}
	for (err = kv_cursor_first(c); !err; err = kv_cursor_next(c)) {
		err = kv_cursor_key(c, &key, &klen);
		if (!err)
			err = kv_cursor_value(c, &value, &vlen);
		if (err)
			break;
		*hash += oracle_hash_pair(trees[i], key, klen, value, vlen);
	}
	kv_cursor_close(c);
	if (err == KV_E_NOTFOUND)
		return true;
	snprintf(text, len, "scan of '%s': %s", trees[i], kv_last_error());
	return false;
}

/* After the kill: each tree in an acceptable state; the oracle goes on from there. */
static bool verify(struct state *s, kv_db *db)
{
	uint64_t hash;
	u64 k;
	u32 i;
	int err;

	for (i = 0; i < THREADS; i++) {
		if (!tree_digest(db, i, &hash, s->why, sizeof(s->why)))
			return false;
		for (k = s->issued[i]; k >= s->acked[i]; k--)
			if (oracle_hash(&s->o[i], k) == hash || !k)
				break;
		if (k < s->acked[i] || oracle_hash(&s->o[i], k) != hash) {
			for (k = s->acked[i]; k > 0 && oracle_hash(&s->o[i], k) != hash; k--)
				;
			snprintf(s->why, sizeof(s->why),
				 "tree '%s': acknowledged %llu, issued %llu, found %lld", trees[i],
				 s->acked[i], s->issued[i], k ? (s64)k : -1);
			return false;
		}
		oracle_rewind(&s->o[i], k);
		s->acked[i] = s->issued[i] = k;
	}
	err = judge_check(db, s->why, sizeof(s->why));
	return !err;
}

/* One child, from fork to verdict. */
static bool one_kill(struct state *s, u64 *rnd)
{
	unsigned int delay_us = 3000 + (rnd_next(rnd) >> 33) % 60000;
	u64 next[THREADS];
	kv_options opt;
	int fds[2], status, err;
	kv_db *db;
	pid_t pid;
	u32 i;

	for (i = 0; i < THREADS; i++)
		next[i] = s->issued[i] + 1;
	if (pipe(fds))
		return false;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		close(fds[0]);
		child(fds[1], next);
	}
	close(fds[1]);
	if (pid < 0)
		return false;
	/* nobody reads before the kill: room for all that the child can say until then */
	(void)fcntl(fds[0], F_SETPIPE_SZ, 1 << 20);
	usleep(delay_us);
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status)) {
		snprintf(s->why, sizeof(s->why), "the child ended by itself: status 0x%x", status);
		return false;
	}
	if (!read_news(s, fds[0]))
		return false;
	close(fds[0]);
	options(&opt);
	err = kv_open(path, &opt, &db);
	if (err) {
		snprintf(s->why, sizeof(s->why), "open after the kill: %s", kv_last_error());
		return false;
	}
	if (!verify(s, db))
		return false;
	if (rnd_next(rnd) >> 62) {
		kve_crash(db);
		return true;
	}
	err = kv_close(db);
	if (err)
		snprintf(s->why, sizeof(s->why), "close: %s", kv_last_error());
	return !err;
}

static bool make_volume(struct state *s)
{
	kv_options opt;
	kv_tree *tree;
	kv_db *db;
	u32 i;

	options(&opt);
	opt.flags = KV_OPEN_CREATE;
	if (kv_open(path, &opt, &db))
		return false;
	for (i = 0; i < THREADS; i++) {
		oracle_init(&s->o[i]);
		oracle_tree_create(&s->o[i], trees[i]);
		if (kv_tree_open(db, trees[i], KV_TREE_CREATE, &tree))
			return false;
	}
	return !kv_close(db);
}

int main(int argc, char **argv)
{
	static const struct option names[] = { { "kills", 1, NULL, 'k' }, { "seed", 1, NULL, 's' },
					       { "dir", 1, NULL, 'd' },	  { NULL, 0, NULL, 0 } };
	const char *dir = getenv("TMPDIR");
	u64 kills = tap_quick() ? 30 : 200, n, rnd;
	struct state *s = calloc(1, sizeof(*s));
	bool good;
	int opt;

	while ((opt = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (opt == 'k')
			kills = strtoull(optarg, NULL, 10);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 10);
		else if (opt == 'd')
			dir = optarg;
		else
			return 2;
	}
	if (!s)
		return 1;
	s->buf = malloc(1 << 20);
	snprintf(path, sizeof(path), "%s/kvs-kill-XXXXXX", dir ? dir : "/tmp");
	opt = mkstemp(path);
	if (opt < 0 || !s->buf)
		return 1;
	close(opt);
	rnd = seed * 0x9e3779b97f4a7c15ull + 7;
	good = tap_ok(make_volume(s), "a fresh volume on a file");
	for (n = 0; good && n < kills; n++)
		good = one_kill(s, &rnd);
	if (!good)
		tap_diag("kill %llu: %s\n# the image is kept: %s", n, s->why, path);
	else
		unlink(path);
	tap_ok(good && s->total > kills,
	       "CONTRACT C2, row H17: %llu kills, %llu changes acknowledged, nothing lost", n,
	       s->total);
	for (n = 0; n < THREADS; n++)
		oracle_free(&s->o[n]);
	free(s->buf);
	free(s);
	return tap_done();
}
