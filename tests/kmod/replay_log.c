// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * replay_log.c - power cuts in the guest: CONTRACT C1 C3 C4, rows Y9 H9. The load of load.h ran on a KVFS
 * mount in a virtual machine whose disk QEMU's filter blklogwrites recorded. Here the record is cut at
 * thousands of points, and the engine of user space and kvs-fsck judge what each cut leaves.
 *
 * The model. A FLUSH in the log makes all writes before it durable: one that had returned when the guest
 * asked for the flush stands before it. (One that was under way may stand before it too, and counts as
 * durable although no disk owes that.) The writes between two flushes, an epoch, are in flight when the
 * power goes: each was kept, lost or torn, in sectors of 512 bytes which are old, new or garbage. A
 * write with FUA is durable, alone, once it returned; a discard in flight is like a write of zeros. At
 * each boundary of an epoch that the generator picks, the prefix is judged, then subsets of it.
 *
 * A state is good if kvs-fsck finds nothing; the engine opens it; each thread's keys are a prefix of its
 * changes and the order between threads holds (load_model.h); and nothing durable is lost. For a part of
 * them: also if it takes a synced change, closes, is clean, and holds the same when opened again.
 *
 * What was durable when? The log alone says it. A thread whose sync returned writes tT-durable: what had
 * returned, in any thread, before that sync began. Where a prefix of the log holds it, it has been issued,
 * so at any later cut that much must be there, whatever becomes of the writes in flight: the record of
 * tT-durable itself may be lost, what it speaks of may not. This bound does not trust the flushes, which
 * is why a flush that is missing in the guest, or forgotten here on purpose (--forget-flush), is seen.
 * The second bound: what the whole of an epoch shows is durable when its flush is over, as no later
 * write may harm it (C3).
 *
 *	replay_log --make IMAGE --size BYTES     the disk before the load
 *	replay_log --image IMAGE --log LOG --load-seed N --operations N [--points N] [--seed N]
 *		[--workers N] [--forget-flush N] [--at ENTRY --variant N]
 *
 * --forget-flush N: every Nth flush of the log counts for nothing. --at, --variant: only that point, as
 * a failure has printed it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "tests/crash/judge.h"
#include "tests/kmod/load_model.h"
#include "tests/kmod/write_log.h"
#include "tests/tap.h"

#define SECTOR 512u
#define BLOCK_OF_EPOCHS 16u  /* that one worker takes */
#define VIOLATIONS_MAX 20u   /* enough to stop */
#define DUMPS_MAX 3u
#define ROUNDS_MAX 40u
#define SUBSETS 3u	     /* at a boundary that was picked, in one round */
#define WORKERS_MAX 16u
#define NOWHERE ((size_t)-1)

struct epoch {
	size_t first, end; /* entries; all before first is durable */
};

/* In memory that the workers share. */
struct counts {
	u64 points, prefixes, duplicates, readonly, rewritten, torn, lost;
	u64 violations;
};

struct ending { /* the whole of an epoch */
	bool good;
	struct load_found found;
};

struct worker {
	unsigned int nr;
	u8 *durable; /* the disk as of the last flush */
	u8 *issued;  /* and with all writes of the epoch so far */
	u8 *image;   /* the state to be judged */
	struct sim *sim;
};

static struct {
	const char *image, *log, *make;
	u64 size, seed, load_seed, operations, points, forget, variant;
	size_t at;
	unsigned int workers;
} set = { .seed = 1, .load_seed = 1, .operations = 2000, .points = 6000, .workers = 2, .at = NOWHERE };

static struct write_log wlog;
static struct epoch *epochs;
static size_t epochs_nr;
static u8 *base;
static struct counts *counts;
static struct ending *endings;
static struct seen *seen;

static void *shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

/* ---- one state -------------------------------------------------------------------------------------- */

__attribute__((format(printf, 4, 5))) static bool violation(struct worker *w, size_t at, u64 variant,
							    const char *fmt, ...)
{
	u64 n = kvp_add(&counts->violations, 1);
	char text[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	tap_diag("violation: %s\n#   again: --seed %llu --at %zu --variant %llu", text, set.seed, at,
		 variant);
	if (n <= DUMPS_MAX && !set.forget)
		judge_dump(w->image, set.size);
	fflush(stdout);
	return false;
}

static int open_sim(struct worker *w, u32 flags, kv_db **db)
{
	kv_options opt = KV_OPTIONS_INIT;

	opt.flags = flags | KV_OPEN_NOTHREAD;
	opt.cache_bytes = 8 << 20;
	opt.log_level = -1;
	return kve_open_dev(&w->sim->dev, &opt, db);
}

/* A further change, durable; an orderly end; and all is as before. */
static bool go_on(struct worker *w, size_t at, u64 variant, kv_db *db, const struct load_found *found)
{
	struct load_found again;
	char why[512];
	int err = kv_put(db, NULL, "after", 5, "cut", 3, KV_SYNCED);

	if (!err)
		err = kv_del(db, NULL, "after", 5, 0);
	if (err) {
		kve_crash(db);
		return violation(w, at, variant, "a further change: %s", kv_last_error());
	}
	if (kv_close(db))
		return violation(w, at, variant, "close: %s", kv_last_error());
	if (judge_fsck(w->sim->bytes, w->sim->dev.size, why, sizeof(why)))
		return violation(w, at, variant, "kvs-fsck after close: %s", why);
	if (open_sim(w, 0, &db))
		return violation(w, at, variant, "open after close: %s", kv_last_error());
	if (!load_model_find(db, &again, why, sizeof(why))) {
		kve_crash(db);
		return violation(w, at, variant, "after close: %s", why);
	}
	kve_crash(db);
	return !memcmp(&again, found, sizeof(again)) ||
	       violation(w, at, variant, "another state after close");
}

static bool nothing_lost(struct worker *w, size_t at, u64 variant, const u64 *least,
			 const struct load_found *found)
{
	unsigned int i;

	for (i = 0; i < LOAD_THREADS; i++)
		if (found->hi[i] < least[i])
			return violation(w, at, variant,
					 "lost: thread %u: commit %llu (operation %llu) was durable, "
					 "found %llu (%llu)",
					 i, least[i], load_model_operations(i, least[i]), found->hi[i],
					 load_model_operations(i, found->hi[i]));
	return true;
}

/* w->image. least: commits of each thread that must be there. False: a violation, printed. */
static bool judge_image(struct worker *w, size_t at, u64 variant, const u64 *least, struct load_found *found)
{
	u64 dice = load_seed(set.seed, 7, at * 1000 + variant) >> 20;
	bool readonly = dice % 4 == 0, on = dice % 4 == 1;
	char why[512];
	kv_db *db;
	int err = judge_fsck(w->image, set.size, why, sizeof(why));

	if (err)
		return violation(w, at, variant, "kvs-fsck: %d: %s", err, why);
	sim_fill(w->sim, w->image, set.size);
	if (open_sim(w, readonly ? KV_OPEN_READONLY : 0, &db))
		return violation(w, at, variant, "open: %s", kv_last_error());
	if (!load_model_find(db, found, why, sizeof(why))) {
		kve_crash(db);
		return violation(w, at, variant, "%s", why);
	}
	kvp_add(&counts->readonly, readonly);
	if (!nothing_lost(w, at, variant, least, found)) {
		kve_crash(db);
		return false;
	}
	if (on) {
		kvp_add(&counts->rewritten, 1);
		return go_on(w, at, variant, db, found);
	}
	kve_crash(db);
	if (readonly && memcmp(w->sim->bytes, w->image, set.size))
		return violation(w, at, variant, "opened read-only, it was written to");
	return true;
}

/* ---- states ----------------------------------------------------------------------------------------- */

enum fate { KEPT, LOST, TORN };

static enum fate fate_of(u64 variant, size_t i, size_t at, size_t chosen, u64 *rnd)
{
	u64 d = (load_next(rnd) >> 33) % 100;

	/* Durable when it returned, which the last one may not have done. */
	if (wlog.entries[i].kind == LOG_FUA && i + 1 < at)
		return KEPT;
	switch (variant % 5) {
	case 1: /* one is missing, or torn */
		return i != chosen ? KEPT : d < 60 ? LOST : TORN;
	case 2: /* the end of the epoch is torn */
		return i + 3 < at ? KEPT : i + 1 == at ? TORN : d < 50 ? KEPT : TORN;
	case 3: /* most is lost */
		return d < 25 ? KEPT : d < 85 ? LOST : TORN;
	default:
		return d < 50 ? KEPT : d < 75 ? LOST : TORN;
	}
}

/* Variant 0: all that was issued. The others: a subset that the seed gives. */
static void make_image(struct worker *w, const struct epoch *e, size_t at, u64 variant)
{
	u64 rnd = load_seed(set.seed, 3, at * 1000003 + variant);
	size_t i, chosen = e->first + (load_next(&rnd) >> 20) % (at - e->first ? at - e->first : 1);

	if (!variant) {
		memcpy(w->image, w->issued, set.size);
		return;
	}
	memcpy(w->image, w->durable, set.size);
	for (i = e->first; i < at; i++) {
		switch (fate_of(variant, i, at, chosen, &rnd)) {
		case KEPT:
			write_log_apply(w->image, &wlog.entries[i]);
			break;
		case TORN:
			write_log_tear(w->image, &wlog.entries[i], &rnd);
			kvp_add(&counts->torn, 1);
			break;
		case LOST:
			kvp_add(&counts->lost, 1);
			break;
		}
	}
}

/* found NULL: a state that was judged before is not judged again. */
static bool judge_point(struct worker *w, const struct epoch *e, size_t at, u64 variant, const u64 *least,
			struct load_found *found)
{
	struct load_found own;
	bool fresh;

	make_image(w, e, at, variant);
	fresh = seen_add(seen, XXH64(w->image, set.size, 0));
	if (fresh) {
		kvp_add(&counts->points, 1);
		kvp_add(&counts->prefixes, !variant);
	} else {
		kvp_add(&counts->duplicates, 1);
		if (!found)
			return true;
	}
	return judge_image(w, at, variant, least, found ? found : &own);
}

/* ---- epochs ----------------------------------------------------------------------------------------- */

static bool enough(void)
{
	return kvp_load(&counts->violations) >= VIOLATIONS_MAX;
}

static bool mine(const struct worker *w, size_t epoch)
{
	return epoch / BLOCK_OF_EPOCHS % set.workers == w->nr;
}

/* The epoch is over: its flush has returned. */
static void make_durable(struct worker *w, const struct epoch *e)
{
	size_t i;

	for (i = e->first; i < e->end; i++) {
		write_log_apply(w->durable, &wlog.entries[i]);
		write_log_apply(w->issued, &wlog.entries[i]);
	}
}

/* The whole of each epoch: what it shows must be there from then on. */
static void judge_endings(struct worker *w)
{
	static const u64 nothing[LOAD_THREADS];
	size_t n;

	for (n = 0; n < epochs_nr && !enough(); n++) {
		make_durable(w, &epochs[n]);
		if (mine(w, n))
			endings[n].good = judge_point(w, &epochs[n], epochs[n].end, 0, nothing,
						      &endings[n].found);
	}
}

static void raise_least(u64 *least, const u64 *to)
{
	unsigned int i;

	for (i = 0; i < LOAD_THREADS; i++)
		if (to[i] > least[i])
			least[i] = to[i];
}

struct subsets {
	u64 seed;    /* of what is picked in this round */
	u64 percent; /* of the boundaries */
	u64 first;   /* variant */
};

static void judge_epoch(struct worker *w, size_t n, const struct subsets *s)
{
	const struct epoch *e = &epochs[n];
	u64 least[LOAD_THREADS] = { 0 }, rnd = load_seed(s->seed, 5, n), v;
	struct load_found found;
	size_t at;

	if (n)
		raise_least(least, endings[n - 1].found.lo);
	for (at = e->first + 1; at <= e->end && !enough(); at++) {
		write_log_apply(w->issued, &wlog.entries[at - 1]);
		if ((load_next(&rnd) >> 33) % 100 >= s->percent)
			continue;
		if (!judge_point(w, e, at, 0, least, &found))
			continue;
		raise_least(least, found.synced);
		for (v = 0; v < SUBSETS; v++)
			judge_point(w, e, at, s->first + v, least, NULL);
	}
}

static void judge_subsets(struct worker *w, const struct subsets *s)
{
	size_t n;

	for (n = 0; n < epochs_nr && !enough(); n++) {
		if (mine(w, n))
			judge_epoch(w, n, s);
		make_durable(w, &epochs[n]);
	}
}

/* One point again. */
static void judge_one(struct worker *w)
{
	u64 least[LOAD_THREADS] = { 0 };
	struct load_found found;
	size_t n, at;

	for (n = 0; n < epochs_nr && epochs[n].end < set.at; n++)
		make_durable(w, &epochs[n]);
	if (n == epochs_nr)
		return;
	judge_point(w, &epochs[n], epochs[n].first, 0, least, &found);
	raise_least(least, found.lo);
	for (at = epochs[n].first; at < set.at; at++)
		write_log_apply(w->issued, &wlog.entries[at]);
	if (judge_point(w, &epochs[n], set.at, 0, least, &found) && set.variant) {
		raise_least(least, found.synced);
		judge_point(w, &epochs[n], set.at, set.variant, least, &found);
	}
}

/* ---- workers ---------------------------------------------------------------------------------------- */

static void work(unsigned int nr, const struct subsets *s)
{
	struct worker w = { .nr = nr };

	w.durable = need(malloc(set.size));
	w.issued = need(malloc(set.size));
	w.image = need(malloc(set.size));
	memcpy(w.durable, base, set.size);
	memcpy(w.issued, base, set.size);
	w.sim = sim_new(set.size, set.size, false);
	w.sim->dev.growable = false;
	if (set.at != NOWHERE)
		judge_one(&w);
	else if (s)
		judge_subsets(&w, s);
	else
		judge_endings(&w);
	fflush(stdout);
	_exit(0);
}

/* s NULL: the endings. False: a worker has died. */
static bool run_workers(const struct subsets *s)
{
	pid_t pid[WORKERS_MAX];
	bool good = true;
	unsigned int i;
	int status;

	fflush(stdout);
	for (i = 0; i < set.workers; i++) {
		pid[i] = fork();
		if (!pid[i])
			work(i, s);
		if (pid[i] < 0)
			abort();
	}
	for (i = 0; i < set.workers; i++)
		if (waitpid(pid[i], &status, 0) != pid[i] || status) {
			tap_diag("worker %u ended with status 0x%x", i, status);
			good = false;
		}
	return good;
}

/* ---- the record ------------------------------------------------------------------------------------- */

static bool read_base(void)
{
	int fd = open(set.image, O_RDONLY);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	if (size <= 0 || size % SECTOR)
		return false;
	set.size = (u64)size;
	base = need(malloc(set.size));
	return pread(fd, base, set.size, 0) == size && !close(fd);
}

/* Flushes with nothing before them make no epoch. */
static void find_epochs(void)
{
	size_t i, nr = 0, first = 0;
	u64 flushes = 0;

	epochs = need(calloc(wlog.nr + 1, sizeof(*epochs)));
	for (i = 0; i < wlog.nr; i++) {
		if (wlog.entries[i].kind == LOG_FLUSH) {
			if (set.forget && ++flushes % set.forget == 0)
				continue;
			if (nr > first)
				epochs[epochs_nr++] = (struct epoch){ first, nr };
			first = nr;
			continue;
		}
		wlog.entries[nr++] = wlog.entries[i];
	}
	if (nr > first)
		epochs[epochs_nr++] = (struct epoch){ first, nr };
	wlog.nr = nr;
}

static bool endings_ascend(void)
{
	unsigned int i;
	size_t n;

	for (n = 0; n < epochs_nr; n++) {
		if (!endings[n].good)
			return false;
		for (i = 0; n && i < LOAD_THREADS; i++)
			if (endings[n].found.hi[i] < endings[n - 1].found.lo[i])
				return false;
	}
	return true;
}

/* What the load said to be durable when it ended is in the record. */
static bool all_there(void)
{
	unsigned int i;

	for (i = 0; i < LOAD_THREADS; i++)
		if (endings[epochs_nr - 1].found.hi[i] != load_model_commits(i))
			return false;
	return true;
}

static void judge_all(void)
{
	struct subsets s;
	bool good = run_workers(NULL);
	u64 round;

	tap_ok(good && !enough() && endings_ascend(),
	       "C1: %zu flushes: each leaves a state that the next keeps", epochs_nr);
	tap_ok(endings_ascend() && all_there(), "H9: at the end the disk has every operation of the load");
	for (round = 0; round < ROUNDS_MAX && good && !enough() && counts->points < set.points; round++) {
		u64 left = set.points - counts->points;

		/* duplicates and prefixes of the round before: a few more than are left */
		s = (struct subsets){ .seed = set.seed * 100 + round, .first = 1 + round * SUBSETS };
		s.percent = left * 120 / (wlog.nr * SUBSETS) + 1;
		good = run_workers(&s);
	}
	tap_ok(good && counts->points >= set.points && !counts->violations,
	       "C1 C3 C4: %llu states of a power cut, %llu violations", counts->points, counts->violations);
	tap_diag("%llu prefixes, %llu subsets; %llu writes lost, %llu torn; %llu opened read-only, "
		 "%llu changed and closed; %llu states came twice",
		 counts->prefixes, counts->points - counts->prefixes, counts->lost, counts->torn,
		 counts->readonly, counts->rewritten, counts->duplicates);
}

/* ---- main --------------------------------------------------------------------------------------------- */

static bool options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "make", 1, NULL, 'm' },	{ "size", 1, NULL, 'z' },   { "image", 1, NULL, 'i' },
		{ "log", 1, NULL, 'l' },	{ "seed", 1, NULL, 's' },   { "load-seed", 1, NULL, 'S' },
		{ "operations", 1, NULL, 'o' }, { "points", 1, NULL, 'p' }, { "workers", 1, NULL, 'w' },
		{ "forget-flush", 1, NULL, 'f' }, { "at", 1, NULL, 'a' },   { "variant", 1, NULL, 'v' },
		{ NULL, 0, NULL, 0 }
	};
	u64 n;
	int opt;

	while ((opt = getopt_long(argc, argv, "", names, NULL)) != -1) {
		n = optarg ? strtoull(optarg, NULL, 10) : 0;
		switch (opt) {
		case 'm': set.make = optarg; break;
		case 'z': set.size = n; break;
		case 'i': set.image = optarg; break;
		case 'l': set.log = optarg; break;
		case 's': set.seed = n; break;
		case 'S': set.load_seed = n; break;
		case 'o': set.operations = n; break;
		case 'p': set.points = n; break;
		case 'w': set.workers = (unsigned int)n; break;
		case 'f': set.forget = n; break;
		case 'a': set.at = n; break;
		case 'v': set.variant = n; break;
		default: return false;
		}
	}
	if (set.at != NOWHERE)
		set.workers = 1;
	return set.workers && set.workers <= WORKERS_MAX && (set.make ? set.size : set.image && set.log);
}

int main(int argc, char **argv)
{
	char why[256];
	bool good;

	if (!options(argc, argv)) {
		fprintf(stderr, "usage: replay_log --make IMAGE --size BYTES\n"
				"       replay_log --image IMAGE --log LOG ...\n");
		return 2;
	}
	if (set.make)
		return load_model_make(set.make, set.size) ? 0 : 1;
	if (!tap_ok(read_base(), "the disk before the load is there"))
		return tap_done();
	good = write_log_read(&wlog, set.log, set.size, why, sizeof(why)) && wlog.writes && wlog.flushes;
	if (!tap_ok(good,
		    "the log of writes is whole: %llu writes of %llu KiB, %llu flushes, %llu discards",
		    wlog.writes, wlog.bytes >> 10, wlog.flushes, wlog.discards)) {
		tap_diag("%s", why);
		return tap_done();
	}
	load_model_init(set.load_seed, set.operations);
	find_epochs();
	counts = shared(sizeof(*counts));
	endings = shared((epochs_nr + 1) * sizeof(*endings));
	seen = seen_new(set.points * 4 + epochs_nr);
	if (set.at != NOWHERE)
		tap_ok(run_workers(NULL) && !counts->violations, "point %zu, variant %llu", set.at,
		       set.variant);
	else
		judge_all();
	return tap_done();
}
