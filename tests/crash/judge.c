/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * judge.c - judge one crash state; see judge.h.
 *
 * Which of the dearer checks an image gets follows from its digest, so a repeated run does the same.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fsck/kvsck.h"
#include "tests/crash/judge.h"
#include "tests/crash/order.h"

#define VIOLATIONS_MAX 5u
#define WATCHDOG_S 20u /* for one state and the crashes of its recovery */

/* ---- fsck and check ----------------------------------------------------------------------------- */

struct memory {
	const u8 *bytes;
	u64 size;
	char *why;
	size_t why_len;
};

static int memory_read(void *arg, u64 off, void *buf, u32 len)
{
	struct memory *m = arg;

	if (off > m->size || len > m->size - off)
		return -KVE_truncated;
	memcpy(buf, m->bytes + off, len);
	return 0;
}

static void fsck_found(void *arg, const struct kvsck_finding *f)
{
	struct memory *m = arg;

	if (f->severity == KVSCK_PROBLEM && !m->why[0])
		kvsck_finding_to_text(m->why, m->why_len, f);
}

int judge_fsck(const u8 *image, u64 size, char *why, size_t why_len)
{
	struct memory m = { image, size, why, why_len };
	struct kvsck_io io = { .read = memory_read, .arg = &m, .size = size };
	struct kvsck_options opt = { .found = fsck_found, .found_arg = &m };
	struct kvsck_report *rep = malloc(sizeof(*rep));
	int err;

	if (!rep)
		abort();
	why[0] = '\0';
	err = kvsck_run(&io, &opt, rep);
	if (!err)
		err = rep->problems > 1000 ? 1000 : (int)rep->problems;
	free(rep);
	return err;
}

static void check_found(void *arg, int finding, const char *text)
{
	struct memory *m = arg;

	if (!m->why[0])
		snprintf(m->why, m->why_len, "%d: %s", finding, text);
}

int judge_check(kv_db *db, char *why, size_t why_len)
{
	struct memory m = { .why = why, .why_len = why_len };
	uint64_t problems = 0;
	int err;

	why[0] = '\0';
	err = kv_check(db, KV_CHECK_VALUES, check_found, &m, &problems);
	if (err) {
		snprintf(why, why_len, "kv_check fails: %s", kv_last_error());
		return err;
	}
	return problems > 1000 ? 1000 : (int)problems;
}

void judge_dump(const u8 *image, u64 size)
{
	const char *dir = getenv("TMPDIR");
	char path[256];
	int fd;
	u64 done = 0;

	snprintf(path, sizeof(path), "%s/kvs-crash-XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(path);
	if (fd < 0)
		return;
	while (done < size) {
		ssize_t n = write(fd, image + done, size - done);

		if (n <= 0)
			break;
		done += n;
	}
	close(fd);
	printf("# image: %s (%llu bytes)\n", path, size);
}

/* ---- one state ----------------------------------------------------------------------------------- */

static bool fail(struct judge *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool fail(struct judge *j, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(j->why, sizeof(j->why), fmt, ap);
	va_end(ap);
	return false;
}

static bool open_volume(struct judge *j, u32 flags, kv_db **db, uint64_t *hash, const char *when)
{
	kv_options opt;
	char why[256];
	int err;

	workload_options(&opt, j->w->geo, flags);
	err = kve_open_dev(&j->sim->dev, &opt, db);
	if (err) {
		*db = NULL;
		return fail(j, "%s: open: %s", when, kv_last_error());
	}
	err = oracle_hash_volume(*db, hash, NULL);
	if (err) {
		fail(j, "%s: scan: %s", when, kv_last_error());
		kve_crash(*db);
		*db = NULL;
		return false;
	}
	if (!workload_snapshots(*db, j->hash, j->last, why, sizeof(why))) {
		fail(j, "%s: %s", when, why);
		kve_crash(*db);
		*db = NULL;
		return false;
	}
	return true;
}

/* The newest acceptable state with this digest, or -1. */
static s64 match(const u64 *hash, u64 lo, u64 hi, u64 digest)
{
	u64 k;

	for (k = hi + 1; k-- > lo;)
		if (hash[k] == digest)
			return k;
	return -1;
}

/* What else it could be, for the message. */
static const char *which(struct judge *j, const struct crash_state *st, u64 digest)
{
	static char text[128];
	s64 k = match(j->hash, 0, st->hi + 8, digest);

	if (k >= 0)
		snprintf(text, sizeof(text), "it is state %lld", k);
	else
		snprintf(text, sizeof(text), "it is no state that ever was");
	return text;
}

/* Read-only: serves the same, writes nothing. */
static bool judge_readonly(struct judge *j, const struct crash_state *st)
{
	uint64_t hash;
	kv_db *db;

	kvp_add(&j->counts->readonly, 1);
	sim_trace(j->sim, true);
	if (!open_volume(j, KV_OPEN_READONLY, &db, &hash, "read-only"))
		return false;
	kve_crash(db);
	if (j->sim->nr || memcmp(j->sim->bytes, st->image, st->size))
		return fail(j, "read-only: something was written");
	sim_trace(j->sim, false);
	if (match(j->hash, st->lo, st->hi, hash) < 0)
		return fail(j, "read-only: not one of the states %llu..%llu: %s", st->lo, st->hi,
			    which(j, st, hash));
	return true;
}

/* The change that is made after recovery: another key in a second recovery. */
static const char *after_key(const struct judge *j)
{
	return j->inner ? "zz-after" : "zz-after-again";
}

static u64 after_digest(const struct judge *j)
{
	return oracle_hash_pair("main", after_key(j), strlen(after_key(j)), "x", 1);
}

/* Does the volume close, and is what it leaves in order, with the state digest? */
static bool judge_close(struct judge *j, kv_db *db, u64 digest, bool again)
{
	uint64_t hash;
	char why[512];
	int err;

	if (again) {
		err = judge_check(db, why, sizeof(why));
		if (err) {
			kve_crash(db);
			return fail(j, "kv_check: %d problems: %s", err, why);
		}
	}
	err = kv_close(db);
	if (err)
		return fail(j, "close: %s", kv_last_error());
	kvp_add(&j->counts->fsck, 1);
	err = judge_fsck(j->sim->bytes, j->sim->dev.size, why, sizeof(why));
	if (err)
		return fail(j, "kvs-fsck after close: %d problems: %s", err, why);
	if (!again)
		return true;
	if (!open_volume(j, 0, &db, &hash, "after close"))
		return false;
	kve_crash(db);
	return hash == digest || fail(j, "another state after close");
}

/* Crash the recovery whose trace is in j->sim. k: state that it gave. */
static bool judge_second(struct judge *j, const struct crash_state *st, u64 k, u64 digest)
{
	struct judge *in = j->inner;
	struct replay r = {
		.base = j->copy,
		.base_size = st->size,
		.cap = j->sim->cap,
		.trace = j->sim,
		.lo = st->lo,
		.hi = st->hi,
		.acked = st->lo,
		.random = 6,
		.sparse = true,
		.seed = st->boundary * 31 + st->variant,
		.only_boundary = in->second_boundary,
		.only_variant = in->second_variant,
		.state = judge_state,
		.arg = in,
	};
	char why[512];

	(void)k;
	in->w = j->w;
	memcpy(in->hashes, j->hash, (st->hi + 1) * sizeof(u64));
	in->hashes[st->hi + 1] = digest - after_digest(j);
	in->hashes[st->hi + 2] = digest;
	in->hash = in->hashes;
	in->outer = st;
	kvp_add(&j->counts->orders, 1);
	if (order_check(j->sim, j->copy, st->size, why, sizeof(why)))
		return fail(j, "order of recovery's writes: %s", why);
	replay_run(&r);
	return true;
}

/* One more change, synced; then death or close. Owns db. */
static bool judge_more(struct judge *j, const struct crash_state *st, kv_db *db, u64 k, u64 digest,
		       u64 dice)
{
	bool second = j->inner && j->second_every &&
		      ((dice >> 8) % j->second_every == 0 || j->inner->second_boundary != REPLAY_ALL);
	uint64_t hash;
	int err;

	sim_mark(j->sim, MARK(MARK_SYNCED, st->hi + 1));
	sim_mark(j->sim, MARK(MARK_ISSUED, st->hi + 2));
	err = kv_put(db, NULL, after_key(j), strlen(after_key(j)), "x", 1, KV_SYNCED);
	if (err) {
		kve_crash(db);
		return fail(j, "put after recovery: %s", kv_last_error());
	}
	sim_mark(j->sim, MARK(MARK_SYNCED, st->hi + 2));
	digest += after_digest(j);
	if (second) {
		j->sim->tracing = false;
		if (!judge_second(j, st, k, digest)) {
			kve_crash(db);
			return false;
		}
	}
	sim_trace(j->sim, false);
	if (dice & 1 || j->all) {
		kve_crash(db);
		if (!open_volume(j, 0, &db, &hash, "after a second death"))
			return false;
		if (hash != digest) {
			kve_crash(db);
			return fail(j, "another state after a second death");
		}
	}
	if (dice & 2 && !j->all) {
		kve_crash(db);
		return true;
	}
	return judge_close(j, db, digest, (dice & 0x1c) == 0 || j->all);
}

static bool judge_image(struct judge *j, const struct crash_state *st, u64 dice)
{
	uint64_t hash;
	char why[512];
	kv_db *db;
	s64 k;
	int err;

	j->last = j->outer ? j->outer->hi : st->hi;
	sim_fill(j->sim, st->image, st->size);
	if ((dice >> 20) % 8 == 0 || j->all) {
		kvp_add(&j->counts->fsck, 1);
		err = judge_fsck(st->image, st->size, why, sizeof(why));
		if (err)
			return fail(j, "kvs-fsck of the crash image: %d problems: %s", err, why);
	}
	if (((dice >> 24) % 8 == 0 || j->all) && !judge_readonly(j, st))
		return false;
	sim_trace(j->sim, true);
	if (!open_volume(j, 0, &db, &hash, "after the crash"))
		return false;
	k = match(j->hash, st->lo, st->hi, hash);
	if (k < 0) {
		kve_crash(db);
		return fail(j, "not one of the states %llu..%llu: %s", st->lo, st->hi,
			    which(j, st, hash));
	}
	return judge_more(j, st, db, k, hash, dice);
}

static void report(struct judge *j, const struct crash_state *st)
{
	const struct crash_state *first = j->outer ? j->outer : st;
	u64 n = kvp_add(&j->counts->violations, 1);

	if (n > VIOLATIONS_MAX)
		return;
	printf("# violation: %s\n# repeat: test_crash %s --boundary %zu --variant %llu", j->why,
	       j->w->text, first->boundary, first->variant);
	if (j->outer)
		printf(" --boundary2 %zu --variant2 %llu", st->boundary, st->variant);
	printf("\n");
	judge_dump(st->image, st->size);
	fflush(stdout);
}

bool judge_state(void *arg, const struct crash_state *st)
{
	struct judge *j = arg;
	u64 range = kvp_xxh64(&j->hash[st->lo], (st->hi - st->lo + 1) * sizeof(u64), j->w->geo + 1);
	u64 digest = kvp_xxh64(st->image, st->size, range);

	kvp_add(&j->counts->generated, 1);
	if (j->seen && !seen_add(j->seen, digest))
		return true;
	kvp_add(&j->counts->states, 1);
	if (!j->inner)
		kvp_add(&j->counts->second, 1);
	else
		memcpy(j->copy, st->image, st->size);
	if (!j->outer)
		alarm(WATCHDOG_S);
	if (!judge_image(j, st, digest))
		report(j, st);
	if (!j->outer)
		alarm(0);
	return kvp_load(&j->counts->violations) < VIOLATIONS_MAX &&
	       (!j->stop_s || kvp_monotonic_ns() / 1000000000 < j->stop_s);
}

struct judge *judge_new(const struct workload_geometry *g, struct seen *seen,
			struct judge_counts *counts, bool inner)
{
	struct judge *j = calloc(1, sizeof(*j));

	if (!j)
		abort();
	j->sim = sim_new(0, g->cap, g->window > 1);
	j->seen = seen;
	j->counts = counts;
	j->second_boundary = REPLAY_ALL;
	j->hashes = calloc(WORKLOAD_OPS_MAX * 4, sizeof(u64));
	j->copy = malloc(g->cap);
	if (!j->hashes || !j->copy)
		abort();
	if (!inner)
		j->inner = judge_new(g, seen, counts, true);
	return j;
}

void judge_free(struct judge *j)
{
	if (!j)
		return;
	judge_free(j->inner);
	sim_free(j->sim);
	free(j->hashes);
	free(j->copy);
	free(j);
}

void judge_workload(struct judge *j, const struct workload *w, const u64 *hash)
{
	j->w = w;
	j->hash = hash;
}
