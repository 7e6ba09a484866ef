/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * drop.c - what dropping a large tree costs: the time of the call and the I/O in it, and how long it takes
 * until the space is back, while others write. Row S13.
 *
 *	drop IMAGE [--bytes N[M|G]] [--kill]
 *
 * The default tree holds RECORDS records, which are overwritten at random from the drop on; the other
 * one has so many bytes of values (5 GB). The space is back when what is allocated to the file is what the
 * promise of space allows for the records: 1.3 times their bytes, and 64 MiB. --kill: another process does
 * all that, and is killed when half of the space is back; this one opens the volume and goes on.
 *
 * Judged are the contents, that the tree is gone, that the space comes back, and kv_check(); times are
 * figures.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "kvengine.h"

#define RECORDS 20000u
#define RECORD_BYTES 1000u
#define VALUE_BYTES 4000u /* in the tree that goes */
#define LIVE ((uint64_t)RECORDS * (BENCH_KEY_LEN + RECORD_BYTES))
#define PROMISED (LIVE * 13 / 10 + (64ull << 20))
#define SAMPLE_NS 100000000ull
#define BACK_SECONDS 3600 /* a watchdog */

/* What survives the process that is killed. */
struct shared {
	_Atomic uint32_t version[RECORDS]; /* acknowledged; one of them may have come one further */
	_Atomic uint64_t full;		   /* allocated when the tree was dropped; 0: it was not yet */
};

static struct shared *sh;
static const char *path;
static kv_db *db;
static struct bench_rng rnd = { 1 };

static void must(int err, const char *what)
{
	if (err)
		bench_die("%s: %s: %s", what, kv_strerror(err), kv_last_error());
}

static uint64_t allocated(void)
{
	struct stat st;

	if (stat(path, &st))
		bench_die("%s: %s", path, strerror(errno));
	return (uint64_t)st.st_blocks * 512;
}

static void put_record(uint32_t id)
{
	uint32_t version = atomic_load(&sh->version[id]) + 1;
	uint8_t value[RECORD_BYTES];
	char key[BENCH_KEY_LEN];

	bench_key(key, id, true);
	bench_value(value, sizeof(value), id, version);
	must(kv_put(db, NULL, key, sizeof(key), value, sizeof(value), 0), "put");
	atomic_store(&sh->version[id], version);
}

/* The version that a record has. */
static uint32_t verify_record(uint32_t id, bool one_more)
{
	uint32_t version = atomic_load(&sh->version[id]);
	uint8_t value[RECORD_BYTES];
	char key[BENCH_KEY_LEN];
	size_t len;

	bench_key(key, id, true);
	must(kv_get_into(db, NULL, key, sizeof(key), value, sizeof(value), &len), "get");
	if (len == sizeof(value) && bench_value_ok(value, RECORD_BYTES, id, version))
		return version;
	if (!one_more || len != sizeof(value) || !bench_value_ok(value, RECORD_BYTES, id, version + 1))
		bench_die("record %u has a wrong value", id);
	return version + 1;
}

/* At most one is further than was acknowledged. */
static void verify_records(bool one_more)
{
	uint32_t id, version, further = 0;

	for (id = 0; id < RECORDS; id++) {
		version = verify_record(id, one_more);
		further += version != atomic_load(&sh->version[id]);
		atomic_store(&sh->version[id], version);
	}
	if (further > 1)
		bench_die("%u records were not acknowledged, and are there", further);
}

static void fill(uint64_t bytes)
{
	uint64_t begun = bench_now_ns(), i, n = bytes / VALUE_BYTES;
	uint8_t value[VALUE_BYTES];
	char key[BENCH_KEY_LEN];
	kv_tree *tree;
	uint32_t id;

	for (id = 0; id < RECORDS; id++)
		put_record(id);
	must(kv_tree_open(db, "large", KV_TREE_CREATE | KV_TREE_NEW, &tree), "tree");
	for (i = 0; i < n; i++) {
		bench_key(key, i, true);
		bench_value(value, sizeof(value), i, 0);
		must(kv_put(db, tree, key, sizeof(key), value, sizeof(value), KV_MEMORY), "put");
	}
	must(kv_checkpoint(db), "checkpoint");
	printf("# %llu values of %u bytes, filled in %.1f s\n", (unsigned long long)n, VALUE_BYTES,
	       (double)(bench_now_ns() - begun) / 1e9);
}

static void drop(void)
{
	kv_stat_info before, after;
	uint64_t call, sync;

	must(kv_stat(db, &before), "stat");
	call = bench_now_ns();
	must(kv_tree_drop(db, "large"), "drop");
	call = bench_now_ns() - call;
	must(kv_stat(db, &after), "stat");
	sync = bench_now_ns();
	must(kv_sync(db), "sync");
	sync = bench_now_ns() - sync;
	printf("# drop: %.3f ms; transfers meanwhile: %llu reads, %llu writes, %llu flushes; a sync behind "
	       "it %.3f ms\n",
	       (double)call / 1e6, (unsigned long long)(after.device_reads - before.device_reads),
	       (unsigned long long)(after.device_writes - before.device_writes),
	       (unsigned long long)(after.device_flushes - before.device_flushes), (double)sync / 1e6);
	fflush(stdout);
	atomic_store(&sh->full, allocated());
}

/* Overwrites until the space is back. */
static void write_on(void)
{
	struct bench_hist *puts = calloc(1, sizeof(*puts));
	uint64_t begun = bench_now_ns(), now = begun, sampled = begun, bytes = allocated(), n;
	kv_stat_info before, after;

	if (!puts)
		bench_die("out of memory");
	must(kv_stat(db, &before), "stat");
	for (n = 0; bytes > PROMISED; n++) {
		uint64_t t = now;

		put_record((uint32_t)(bench_random(&rnd) % RECORDS));
		now = bench_now_ns();
		bench_hist_add(puts, now - t);
		if (n % 8 == 0)
			verify_record((uint32_t)(bench_random(&rnd) % RECORDS), false);
		if (now - sampled < SAMPLE_NS)
			continue;
		sampled = now;
		bytes = allocated();
		if (now - begun > BACK_SECONDS * 1000000000ull)
			bench_die("the space is not back after %u s: %llu bytes", BACK_SECONDS,
				  (unsigned long long)bytes);
	}
	must(kv_stat(db, &after), "stat");
	printf("# the space is back after %.1f s: %.1f MB allocated; meanwhile %llu puts (p50 %.1f us, "
	       "p99 %.0f, max %.0f), %.1f MB read and %.1f MB written\n",
	       (double)(now - begun) / 1e9, (double)bytes / 1e6, (unsigned long long)n,
	       bench_hist_us(puts, 0.5), bench_hist_us(puts, 0.99), (double)puts->max / 1000,
	       (double)(after.device_read_bytes - before.device_read_bytes) / 1e6,
	       (double)(after.device_write_bytes - before.device_write_bytes) / 1e6);
	free(puts);
}

static void volume_open(void)
{
	kv_options opt = KV_OPTIONS_INIT;

	opt.flags = KV_OPEN_CREATE;
	must(kv_open(path, &opt, &db), "open");
}

/* All up to the drop, and on. */
static void run(uint64_t bytes)
{
	volume_open();
	fill(bytes);
	drop();
	printf("# allocated: %.1f MB when the tree was dropped\n", (double)atomic_load(&sh->full) / 1e6);
	fflush(stdout);
	write_on();
}

/* In a process that dies on the way. */
static void run_killed(uint64_t bytes)
{
	uint64_t full = 0, begun;
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		bench_die("fork: %s", strerror(errno));
	if (!pid) {
		run(bytes);
		pause();
	}
	while (!waitpid(pid, &status, WNOHANG)) {
		full = atomic_load(&sh->full);
		if (full && allocated() < (full + PROMISED) / 2)
			kill(pid, SIGKILL);
		usleep(1000);
	}
	if (!full || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		bench_die("the process ended by itself");
	printf("# killed with %.1f MB allocated\n", (double)allocated() / 1e6);
	begun = bench_now_ns();
	volume_open();
	printf("# opened again in %.3f s\n", (double)(bench_now_ns() - begun) / 1e9);
	verify_records(true);
	write_on();
}

static int judge(void)
{
	uint64_t problems = 1;
	kv_stat_info st;
	kv_tree *tree;

	verify_records(false);
	printf("ok 1 - every record has its last value\n");
	if (kv_tree_open(db, "large", 0, &tree) != KV_E_NOTFOUND)
		bench_die("the tree is there");
	must(kv_stat(db, &st), "stat");
	if (st.trees != 1 || st.entries != RECORDS)
		bench_die("%llu entries", (unsigned long long)st.entries);
	printf("ok 2 - the tree is gone\n");
	printf("ok 3 - the space is back\n");
	must(kv_check(db, KV_CHECK_VALUES, NULL, NULL, &problems), "check");
	must(kv_close(db), "close");
	printf("%sok 4 - kv_check\n1..4\n", problems ? "not " : "");
	return problems != 0;
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	n *= *end == 'G' ? 1000000000 : *end == 'M' ? 1000000 : 1;
	return n;
}

int main(int argc, char **argv)
{
	uint64_t bytes = 5000000000;
	bool killed = false;
	int i;

	for (i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "--kill"))
			killed = true;
		else if (!strcmp(argv[i], "--bytes") && i + 1 < argc)
			bytes = number(argv[++i]);
		else
			argc = 0;
	}
	if (argc < 2 || bytes < (200u << 20)) {
		fprintf(stderr, "usage: drop IMAGE [--bytes N[M|G]] [--kill]; 210M at least\n");
		return 2;
	}
	path = argv[1];
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED || (unlink(path) && errno != ENOENT))
		return 2;
	if (killed)
		run_killed(bytes);
	else
		run(bytes);
	return judge();
}
