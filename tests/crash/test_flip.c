/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_flip.c - M5, the corruption sweep: CONTRACT C4 C5 C6 C7 C14 C16, row S9 S19.
 *
 * One image of a small volume that has every structure in it: trees of one and of three levels, separated
 * values, a large value, deletions, sealed segments, free batches, and a log with attested records that
 * no checkpoint has seen. Then, one at a time: every bit of it flipped; every sector replaced by zeros,
 * ones, noise, its own older content, and every other sector; every truncation to a multiple of 64 bytes.
 * Each time the volume is opened read-only, every key is asked for, every tree is scanned both ways, and
 * the engine's check runs. The answer to each question must be right or an error; never wrong, missing,
 * too much, a crash or a hang (1 s of processor time, or 20 s).
 *
 *	test_flip                                every second bit, and all else
 *	test_flip --all                          whole sweep
 *	test_flip --from N --to N                cases from..to of it
 *	test_flip --sectors                      all but the flipped bits
 *
 * KV_TEST_QUICK=1: few bits, and one in seven of all else. --jobs N: at a time.
 */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format/kvf.h"
#include "tests/crash/judge.h"
#include "tests/tap.h"

#define SECTOR 512u
#define VIOLATIONS_MAX 10u
#define GROUPS 7u
#define GROUP_KEYS 18u

enum outcome { RIGHT, SAID, WRONG, OUTCOMES };

struct shared {
	u64 current[64]; /* case of each worker */
	u64 violations, cases, by_outcome[OUTCOMES], refused;
	u64 sweep[5]; /* cases of each kind */
};

/* What is swept. */
struct image {
	u8 *bytes, *older;
	u64 size, older_size, volume_size; /* volume_size: what the superblock says */
	struct oracle o;
	u64 lo; /* states lo..o.commit may be found: later changes were not synced */
	u64 *hash;
	u8 *twin; /* for each sector: stored twice (or superblock): its loss must not be felt */
};

/* One case in so many is tried: of the bits, of all else. */
static u64 bits_every = 2, else_every = 1;

static struct shared *shared;
static struct image im;
static struct sim *sim;
static char why[1024];
static bool damaged_value; /* bytes were served that never were the key's value */

/* ---- the image ---------------------------------------------------------------------------------- */

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "test_flip: making the image: %s: %s\n", what, kv_last_error());
	exit(1);
}

static void put(kv_db *db, const char *tree, const void *key, size_t klen, size_t len, u32 flags)
{
	u8 *value = malloc(len + 1);
	kv_tree *t;

	if (!value)
		abort();
	oracle_next(&im.o);
	fill_value(value, len, im.o.commit);
	oracle_put(&im.o, tree, key, klen, value, len);
	if (kv_tree_open(db, tree, 0, &t) || kv_put(db, t, key, klen, value, len, flags))
		die("put");
	free(value);
}

static void del(kv_db *db, const char *tree, const void *key, size_t klen)
{
	kv_tree *t;

	oracle_next(&im.o);
	oracle_del(&im.o, tree, key, klen);
	if (kv_tree_open(db, tree, 0, &t) || kv_del(db, t, key, klen, 0))
		die("delete");
}

static void create(kv_db *db, const char *tree)
{
	kv_tree *t;

	oracle_next(&im.o);
	oracle_tree_create(&im.o, tree);
	if (kv_tree_open(db, tree, KV_TREE_CREATE, &t))
		die("tree");
}

/* Keys whose leaves share a long prefix while inner pages do not: many levels in little space. */
static size_t group_key(char *key, unsigned int group, unsigned int n)
{
	u64 state = group * 977 + 5;
	unsigned int i;

	for (i = 0; i < 84; i++)
		key[i] = i < 3 || group % 2 ? 'a' + rnd_next(&state) % 26 : 'q';
	key[0] = 'a' + group;
	return 84 + sprintf(key + 84, "%03u", n);
}

static void fill_image(kv_db *db)
{
	unsigned int g, n;
	char key[128];
	size_t klen;

	for (n = 0; n < GROUP_KEYS; n++) {
		for (g = 0; g < GROUPS; g++) {
			klen = group_key(key, g, n);
			put(db, "main", key, klen, 24, KV_MEMORY);
		}
	}
	put(db, "main", "a large value", 13, 3500, 0);
	put(db, "main", "separated", 9, 300, 0);
	create(db, "second");
	create(db, "empty");
	for (n = 0; n < 6; n++)
		put(db, "second", &n, 1, n * 60, 0);
	if (kv_checkpoint(db))
		die("checkpoint");
	for (n = 0; n < 5; n++) {
		klen = group_key(key, 2, n);
		del(db, "main", key, klen);
	}
	put(db, "main", "separated", 9, 280, 0);
}

static bool open_image(u32 flags, kv_db **db)
{
	kv_options opt;

	workload_options(&opt, 0, flags);
	return !kve_open_dev(&sim->dev, &opt, db);
}

static void copy_image(u8 **bytes, u64 *size)
{
	*size = sim->dev.size;
	*bytes = malloc(*size);
	if (!*bytes)
		abort();
	memcpy(*bytes, sim->bytes, *size);
}

/* Which sectors are stored twice. Returns the highest level of a page of the main tree. */
static unsigned int find_twins(void)
{
	unsigned int level = 0;
	u64 off, size;

	im.twin = calloc(1, im.size / SECTOR + 1);
	if (!im.twin)
		abort();
	for (off = 0; off + SECTOR <= im.size; off += SECTOR) {
		const struct kvf_page *p = (const void *)(im.bytes + off);
		u32 len = le32_to_cpu(p->bytes), i;

		if (!kvf_super_verify((const void *)p, off)) {
			im.twin[off / SECTOR] = 1;
			size = le64_to_cpu(((const struct kvf_super *)p)->segments) * 4096;
			im.volume_size = size > im.volume_size ? size : im.volume_size;
		}
		if (le32_to_cpu(p->magic) != KVF_PAGE_MAGIC || len > 2048 || off + len > im.size)
			continue;
		if (le32_to_cpu(p->tree) == KVF_TREE_USER && p->level > level)
			level = p->level;
		for (i = 0; p->flags & KVF_PAGE_TWIN && i < len; i += SECTOR)
			im.twin[(off + i) / SECTOR] = 1;
	}
	return level;
}

/*
 * The log's end. What is synced is attested by records that stand in later blocks, so that the loss of
 * any one block is noticed; the changes after that may be lost without a word.
 */
static void make_tail(kv_db *db)
{
	char key[128];

	put(db, "main", "tail-1", 6, 30, 0);
	put(db, "second", "tail-2", 6, 200, 0);
	put(db, "main", key, group_key(key, 3, 900), 35, 0);
	if (kv_sync(db))
		die("sync");
	im.lo = im.o.commit;
	put(db, "main", "unsynced-1", 10, 350, 0);
	put(db, "main", "unsynced-2", 10, 350, 0);
	put(db, "main", "unsynced-3", 10, 30, 0);
}

static unsigned int make_image(void)
{
	kv_options opt;
	kv_db *db;
	u64 k;

	workload_fix(5);
	oracle_init(&im.o);
	sim = sim_new(0, 512 << 10, false);
	workload_options(&opt, 0, 0);
	opt.checkpoint_bytes = 1 << 20;
	if (kve_create_dev(&sim->dev, &opt) || kve_open_dev(&sim->dev, &opt, &db))
		die("create");
	fill_image(db);
	copy_image(&im.older, &im.older_size);
	if (kv_checkpoint(db))
		die("checkpoint");
	make_tail(db);
	kve_crash(db);
	copy_image(&im.bytes, &im.size);
	im.hash = calloc(im.o.commit + 2, sizeof(u64));
	if (!im.hash)
		abort();
	for (k = im.lo; k <= im.o.commit; k++)
		im.hash[k] = oracle_hash(&im.o, k);
	return find_twins();
}

/* ---- judging one damaged image -------------------------------------------------------------------- */

static enum outcome wrong(const char *what, const char *tree, const void *key, size_t klen)
{
	snprintf(why, sizeof(why), "%s: tree '%s' key '%s'", what, tree, oracle_key_text(key, klen));
	return WRONG;
}

/* May this be the value of the key (NULL: no such key)? */
static bool acceptable(const char *tree, const void *key, size_t klen, const void *value, size_t len)
{
	u64 k;

	for (k = im.lo; k <= im.o.commit; k++) {
		size_t want;
		const u8 *v = oracle_get(&im.o, k, tree, key, klen, &want);

		if (!value != !v)
			continue;
		if (!v || (want == len && !memcmp(v, value, len)))
			return true;
	}
	return false;
}

static enum outcome ask_keys(kv_db *db, kv_tree *tree, const struct oracle_tree *t)
{
	enum outcome out = RIGHT;
	void *value;
	size_t len;
	u32 i;

	for (i = 0; i < t->nr; i++) {
		const struct oracle_key *k = t->keys[i];
		int err = kv_get(db, tree, k->key, k->key_len, &value, &len);
		bool good = true;

		if (!err) {
			good = acceptable(t->name, k->key, k->key_len, value, len);
			damaged_value |= !oracle_ever(&im.o, t->name, k->key, k->key_len, value, len);
			kv_free(value);
		} else if (err == KV_E_NOTFOUND) {
			good = acceptable(t->name, k->key, k->key_len, NULL, 0);
		} else {
			out = SAID;
		}
		if (!good)
			return wrong(err ? "missing" : "wrong value", t->name, k->key, k->key_len);
	}
	return out;
}

static enum outcome scan(kv_db *db, kv_tree *tree, const struct oracle_tree *t, bool forward)
{
	enum outcome out = RIGHT;
	const void *key, *value;
	u64 n = 0, k, count;
	size_t klen, len;
	kv_cursor *c;
	int err;

	if (kv_cursor_open(db, NULL, tree, &c))
		return SAID;
	err = forward ? kv_cursor_first(c) : kv_cursor_last(c);
	for (; !err; err = forward ? kv_cursor_next(c) : kv_cursor_prev(c)) {
		err = kv_cursor_key(c, &key, &klen);
		if (err)
			break;
		n++;
		err = kv_cursor_value(c, &value, &len);
		if (err == KV_E_NOTFOUND || (!err && !acceptable(t->name, key, klen, value, len))) {
			damaged_value |= err || !oracle_ever(&im.o, t->name, key, klen, value, len);
			out = wrong("scan: wrong pair", t->name, key, klen);
			break;
		}
		if (err)
			out = SAID;
		if (n > 10000) {
			out = wrong("scan: endless", t->name, key, klen);
			break;
		}
	}
	kv_cursor_close(c);
	if (out == WRONG)
		return out;
	if (err != KV_E_NOTFOUND)
		return SAID;
	for (k = im.lo; k <= im.o.commit; k++) {
		count = oracle_count(&im.o, k, t->name);
		if (count == n)
			return out;
	}
	snprintf(why, sizeof(why), "scan %s of '%s' came to an end with %llu pairs of %llu",
		 forward ? "forward" : "backward", t->name, n, (u64)oracle_count(&im.o, im.lo, t->name));
	return WRONG;
}

static void ignore_finding(void *arg, int finding, const char *text)
{
	(void)arg;
	(void)finding;
	(void)text;
}

static enum outcome ask_all(kv_db *db)
{
	enum outcome out = RIGHT, now;
	uint64_t problems, hash;
	u32 i;
	u64 k;

	for (i = 0; i < im.o.nr && out != WRONG; i++) {
		const struct oracle_tree *t = im.o.trees[i];
		kv_tree *tree;
		int err = kv_tree_open(db, t->name, 0, &tree);

		if (err == KV_E_NOTFOUND)
			return wrong("missing tree", t->name, "", 0);
		if (err) {
			out = SAID;
			continue;
		}
		now = ask_keys(db, tree, t);
		out = now > out ? now : out;
		now = out == WRONG ? WRONG : scan(db, tree, t, true);
		out = now > out ? now : out;
		now = out == WRONG ? WRONG : scan(db, tree, t, false);
		out = now > out ? now : out;
	}
	if (out == RIGHT) {
		if (oracle_hash_volume(db, &hash, NULL))
			return SAID;
		for (k = im.lo; k <= im.o.commit && im.hash[k] != hash; k++)
			;
		if (k > im.o.commit) {
			snprintf(why, sizeof(why), "the whole is no state that was committed");
			out = WRONG;
		}
	}
	if (kv_check(db, KV_CHECK_VALUES, ignore_finding, NULL, &problems) == 0 && !problems &&
	    out == SAID) {
		snprintf(why, sizeof(why), "questions fail, but kv_check finds nothing");
		out = WRONG;
	}
	return out;
}

/* The image is in sim. intact: nothing may be lost. cut: the end of the volume is missing. */
static void judge_damage(u64 n, bool intact, bool cut)
{
	kv_health_info health = { .error = 0 };
	enum outcome out;
	kv_db *db;

	why[0] = '\0';
	if (!open_image(KV_OPEN_READONLY, &db)) {
		kvp_add(&shared->refused, 1);
		snprintf(why, sizeof(why), "open: %s", kv_last_error());
		out = SAID;
	} else {
		damaged_value = false;
		out = kv_health(db, &health) ? WRONG : ask_all(db);
		kve_crash(db);
	}
	/* C14: a volume that was cut short and says so may lack its newest changes. */
	if (out == WRONG && cut && health.error == KV_E_CORRUPT && !damaged_value)
		out = SAID;
	if (intact && out == SAID) {
		size_t len = strlen(why);

		snprintf(why + len, sizeof(why) - len, " [CONTRACT C6: stored twice, nothing may be lost]");
		out = WRONG;
	}
	kvp_add(&shared->by_outcome[out], 1);
	kvp_add(&shared->cases, 1);
	if (out == WRONG && kvp_add(&shared->violations, 1) <= VIOLATIONS_MAX) {
		printf("# violation: case %llu: %s\n", n, why);
		fflush(stdout);
	}
}

/* ---- the cases ------------------------------------------------------------------------------------ */

struct sweep {
	const char *name;
	u64 cases;
};
enum { SWEEP_BITS, SWEEP_FILLS, SWEEP_SECTORS, SWEEP_CUT, SWEEPS };
static struct sweep sweeps[SWEEPS];
#define FILLS 4u

static u64 plan(void)
{
	u64 sectors = im.size / SECTOR;

	sweeps[SWEEP_BITS] = (struct sweep){ "flipped bits", im.size * 8 };
	sweeps[SWEEP_FILLS] = (struct sweep){ "sectors zeroed, filled, noisy, older", sectors * FILLS };
	sweeps[SWEEP_SECTORS] = (struct sweep){ "sectors replaced by another one", sectors * sectors };
	sweeps[SWEEP_CUT] = (struct sweep){ "truncations", im.size / 64 };
	return im.size * 8 + sectors * FILLS + sectors * sectors + im.size / 64;
}

static bool do_fill(u64 sector, unsigned int how)
{
	u8 *p = sim->bytes + sector * SECTOR;
	u64 i, state = sector + 1;

	for (i = 0; i < SECTOR; i++)
		p[i] = how == 0 ? 0 : how == 1 ? 0xff : rnd_next(&state) >> 48;
	if (how == 3)
		memcpy(p, sector * SECTOR < im.older_size ? im.older + sector * SECTOR : im.bytes, SECTOR);
	return memcmp(p, im.bytes + sector * SECTOR, SECTOR) != 0;
}

static void do_case(u64 n)
{
	u64 i = n, sectors = im.size / SECTOR, sector;
	unsigned int s;

	for (s = 0; i >= sweeps[s].cases; s++)
		i -= sweeps[s].cases;
	sim_fill(sim, im.bytes, s == SWEEP_CUT ? i * 64 : im.size);
	kvp_add(&shared->sweep[s], 1);
	switch (s) {
	case SWEEP_BITS:
		sim->bytes[i / 8] ^= 1u << i % 8;
		judge_damage(n, im.twin[i / 8 / SECTOR], false);
		break;
	case SWEEP_FILLS:
		sector = i / FILLS;
		if (do_fill(sector, i % FILLS))
			judge_damage(n, im.twin[sector], false);
		break;
	case SWEEP_SECTORS:
		sector = i / sectors;
		memcpy(sim->bytes + sector * SECTOR, im.bytes + i % sectors * SECTOR, SECTOR);
		if (memcmp(sim->bytes + sector * SECTOR, im.bytes + sector * SECTOR, SECTOR))
			judge_damage(n, im.twin[sector], false);
		break;
	default:
		judge_damage(n, false, i * 64 < im.volume_size);
	}
}

static void on_alarm(int sig)
{
	(void)sig;
	_exit(3);
}

static void worker(unsigned int me, unsigned int jobs, u64 from, u64 to)
{
	struct itimerval limit = { .it_value = { .tv_sec = 1 } }, patience = { .it_value = { .tv_sec = 20 } };
	u64 n;

	/* A machine that is busy elsewhere is no hang. */
	signal(SIGPROF, on_alarm);
	signal(SIGALRM, on_alarm);
	for (n = from + me; n < to && kvp_load(&shared->violations) < VIOLATIONS_MAX; n += jobs) {
		/* Not those of one place in each byte, nor of one worker. */
		if ((n / 8 + n) % (n < im.size * 8 ? bits_every : else_every))
			continue;
		kvp_store(&shared->current[me], n);
		setitimer(ITIMER_PROF, &limit, NULL);
		setitimer(ITIMER_REAL, &patience, NULL);
		do_case(n);
	}
	kvp_store(&shared->current[me], ~0ull);
	fflush(stdout);
	_exit(0);
}

static pid_t start(unsigned int me, unsigned int jobs, u64 from, u64 to)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	if (!pid)
		worker(me, jobs, from, to);
	return pid;
}

/* Workers that crash or hang have found something; another one goes on behind it. */
static void run_workers(unsigned int jobs, u64 from, u64 to)
{
	unsigned int running = jobs, i;
	pid_t pids[64], pid;
	int status;

	for (i = 0; i < jobs; i++)
		pids[i] = start(i, jobs, from, to);
	while (running) {
		pid = waitpid(-1, &status, 0);
		for (i = 0; i < jobs && pids[i] != pid; i++)
			;
		if (pid < 0 || i == jobs)
			break;
		running--;
		if (!status)
			continue;
		tap_diag("violation: case %llu: %s (status 0x%x)", shared->current[i],
			 WIFEXITED(status) && WEXITSTATUS(status) == 3 ? "hang" : "crash", status);
		if (kvp_add(&shared->violations, 1) < VIOLATIONS_MAX) {
			/* the next case of this worker */
			pids[i] = start(i, jobs, shared->current[i] + jobs - i, to);
			running++;
		}
	}
}

int main(int argc, char **argv)
{
	static const struct option names[] = { { "jobs", 1, NULL, 'j' }, { "from", 1, NULL, 'f' },
					       { "to", 1, NULL, 't' },	 { "sectors", 0, NULL, 's' },
					       { "all", 0, NULL, 'a' },	 { NULL, 0, NULL, 0 } };
	u64 from = 0, to, total, whole;
	unsigned int jobs = 2, level, s;
	bool part = false;
	int opt;

	level = make_image();
	whole = total = to = plan();
	if (tap_quick()) {
		from = im.size * 8 - 8000; /* the last bits, then the others */
		else_every = 7;
	}
	while ((opt = getopt_long(argc, argv, "", names, NULL)) != -1) {
		u64 n = optarg ? strtoull(optarg, NULL, 10) : 0;

		if (opt == 'j')
			jobs = n < 1 ? 1 : n > 64 ? 64 : n;
		else if (opt == 'f')
			from = n, part = true;
		else if (opt == 'a')
			bits_every = else_every = 1;
		else if (opt == 's')
			from = im.size * 8, part = true;
		else if (opt == 't')
			to = n < total ? n : total, part = true;
		else
			return 2;
	}
	part |= tap_quick();
	if (part && !tap_quick())
		bits_every = 1;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	tap_diag("image: %llu bytes, %u levels, %llu commits, %llu of them synced", im.size, level + 1,
		 (u64)im.o.commit, im.lo);
	tap_ok(level >= 2, "the image has a tree of three levels");
	sim_fill(sim, im.bytes, im.size);
	judge_damage(whole, true, false);
	tap_ok(!shared->violations, "the undamaged image is served whole");
	if (!shared->violations)
		run_workers(jobs, from, to);
	for (s = 0; s < SWEEPS; s++)
		tap_diag("%s: %llu", sweeps[s].name, shared->sweep[s]);
	tap_diag("answers right: %llu, errors: %llu (%llu at open), wrong: %llu",
		 shared->by_outcome[RIGHT], shared->by_outcome[SAID], shared->refused,
		 shared->by_outcome[WRONG]);
	tap_ok(!shared->violations, "CONTRACT C4 C5 C6 C7 C14: %llu damaged images, %llu violations",
	       shared->cases, shared->violations);
	if (!part)
		tap_ok(shared->sweep[SWEEP_BITS] >= 524288, "bar: at least 524288 flipped bits (%llu)",
		       shared->sweep[SWEEP_BITS]);
	return tap_done();
}
