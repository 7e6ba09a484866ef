/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * growth.c - what an operation costs as the number of keys grows (rows S7, K16).
 *
 *	growth IMAGE [MOST [CACHE_MB [SVG]]]
 *
 * For 1000 keys, ten times as many, and so on up to MOST (100,000,000; 14 GB of disk): a volume with values
 * of 100 bytes, loaded in the order of keys, every second number of a range. Then gets of random keys that
 * are there, kill-safe puts of random keys that are not, deletes of these, and scans: of 100 entries from
 * a random key, and of as much as a turn allows from the first one on. A turn ends after so many operations
 * or seconds; gets and scans are verified in full. Medians of three turns: the time of one operation, and the
 * CPU time with the background threads'. If the cost grows as the depth of the tree does, the last column is
 * flat. With SVG gnuplot draws the table.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "kvengine.h"

#define VALUE_LEN 100u
#define KEYS_LEAST 1000ull
#define KEYS_MOST 100000000ull
#define TURNS 3
#define TURN_OPS 200000ull
#define TURN_NS 5000000000ull
#define SCAN 100u
#define SIZES_MAX 8

enum op { GET, INSERT, DELETE, SCAN_100, SCAN_ALL, OPS };
static const char *const op_names[OPS] = { "get", "insert", "delete", "scan of 100", "entry of a scan" };

struct cost {
	double us, cpu_us;
};

struct volume {
	const char *path;
	kv_db *db;
	uint64_t keys;
	struct bench_rng rng;
	uint64_t pending; /* keys inserted and not deleted yet */
	uint64_t step;	  /* between two of them */
};

static void must(int err, const char *what)
{
	if (err)
		bench_die("growth: %s: %s: %s", what, kv_strerror(err), kv_last_error());
}

/* ---- operations ---------------------------------------------------------------------------------- */

static void verify(const void *key, size_t key_len, const void *value, size_t len, uint64_t id)
{
	char expected[BENCH_KEY_LEN];

	bench_key(expected, id, false);
	if (key_len != sizeof(expected) || memcmp(key, expected, sizeof(expected)) || len != VALUE_LEN ||
	    !bench_value_ok(value, VALUE_LEN, id, 0))
		bench_die("growth: a wrong entry where %lu should be", id);
}

static void put(struct volume *v, uint64_t id)
{
	char key[BENCH_KEY_LEN], value[VALUE_LEN];

	bench_key(key, id, false);
	bench_value(value, VALUE_LEN, id, 0);
	must(kv_put(v->db, NULL, key, sizeof(key), value, VALUE_LEN, 0), "put");
}

static void get(struct volume *v)
{
	uint64_t id = bench_random(&v->rng) % v->keys * 2;
	char key[BENCH_KEY_LEN], value[VALUE_LEN];
	size_t len;

	bench_key(key, id, false);
	must(kv_get_into(v->db, NULL, key, sizeof(key), value, VALUE_LEN, &len), "get");
	verify(key, sizeof(key), value, len, id);
}

/* The n-th odd number in an order that jumps about and meets each once. */
static uint64_t absent(const struct volume *v, uint64_t n)
{
	return n * v->step % v->keys * 2 + 1;
}

static void delete(struct volume *v, uint64_t n)
{
	char key[BENCH_KEY_LEN];

	bench_key(key, absent(v, n), false);
	must(kv_del(v->db, NULL, key, sizeof(key), 0), "delete");
}

/* Returns how many entries there were from id on, which is there, of those that are loaded. */
static uint64_t scan(struct volume *v, uint64_t id, uint64_t most, uint64_t until)
{
	const void *key, *value;
	size_t key_len, len;
	kv_cursor *c;
	uint64_t nr = 0;
	char from[BENCH_KEY_LEN];
	int err;

	bench_key(from, id, false);
	must(kv_cursor_open(v->db, NULL, NULL, &c), "cursor");
	for (err = kv_cursor_seek(c, from, sizeof(from)); !err && nr < most; err = kv_cursor_next(c)) {
		must(kv_cursor_key(c, &key, &key_len), "key");
		must(kv_cursor_value(c, &value, &len), "value");
		verify(key, key_len, value, len, id + 2 * nr++);
		if (until && nr % 1024 == 0 && bench_now_ns() > until)
			break;
	}
	if (err != KV_E_NOTFOUND)
		must(err, "next");
	kv_cursor_close(c);
	return nr;
}

/* ---- turns --------------------------------------------------------------------------------------- */

/* One operation, or more; returns how many. */
static uint64_t operate(struct volume *v, enum op op, uint64_t until)
{
	switch (op) {
	case GET:
		get(v);
		return 1;
	case INSERT:
		put(v, absent(v, v->pending++));
		return 1;
	case DELETE:
		delete(v, --v->pending);
		return 1;
	case SCAN_100:
		scan(v, bench_random(&v->rng) % v->keys * 2, SCAN, 0);
		return 1;
	default:
		return scan(v, 0, UINT64_MAX, until);
	}
}

/* What is absent runs out: a tenth of the keys at a time, 100 at least. */
static bool has_more(const struct volume *v, enum op op)
{
	uint64_t most = v->keys / 10 < 100 ? 100 : v->keys / 10;

	if (op == INSERT)
		return v->pending < most;
	return op != DELETE || v->pending;
}

/* Inserting and deleting alternate until there was enough of both. */
static void turn(struct volume *v, enum op first, enum op last, struct cost *cost)
{
	uint64_t ns[OPS] = { 0 }, ops[OPS] = { 0 }, begin, until;
	double cpu[OPS] = { 0 }, cpu_begin;
	enum op op;

	do {
		for (op = first; op <= last; op++) {
			begin = bench_now_ns();
			cpu_begin = bench_cpu_seconds();
			until = begin + (ns[op] < TURN_NS ? TURN_NS - ns[op] : 1);
			while (has_more(v, op) && ops[op] < TURN_OPS &&
			       (op == DELETE || bench_now_ns() < until))
				ops[op] += operate(v, op, until);
			/* What was inserted goes, whatever the time. */
			while (op == DELETE && v->pending)
				ops[op] += operate(v, op, until);
			ns[op] += bench_now_ns() - begin;
			cpu[op] += bench_cpu_seconds() - cpu_begin;
		}
	} while (ops[last] < TURN_OPS && ns[first] < TURN_NS && ns[last] < TURN_NS);
	for (op = first; op <= last; op++)
		cost[op] = (struct cost){ (double)ns[op] / 1e3 / (double)ops[op],
					  cpu[op] * 1e6 / (double)ops[op] };
}

static int by_time(const void *a, const void *b)
{
	const struct cost *x = a, *y = b;

	return (x->us > y->us) - (x->us < y->us);
}

static void volume_make(struct volume *v, uint64_t cache_mb)
{
	kv_options opt = KV_OPTIONS_INIT;
	char key[BENCH_KEY_LEN], value[VALUE_LEN];
	kv_batch *batch;
	uint64_t i;

	if (unlink(v->path) && errno != ENOENT)
		bench_die("%s: %s", v->path, strerror(errno));
	opt.flags = KV_OPEN_CREATE;
	opt.cache_bytes = cache_mb << 20;
	must(kv_open(v->path, &opt, &v->db), "open");
	must(kv_batch_new(v->db, &batch), "batch");
	for (i = 0; i < v->keys; i++) {
		bench_key(key, i * 2, false);
		bench_value(value, VALUE_LEN, i * 2, 0);
		must(kv_batch_put(batch, NULL, key, sizeof(key), value, VALUE_LEN), "put");
		if (i % 1000 == 999)
			must(kv_batch_commit(batch, 0), "commit");
	}
	must(kv_batch_commit(batch, 0), "commit");
	kv_batch_free(batch);
	must(kv_checkpoint(v->db), "checkpoint");
	/* A prime that divides no power of ten. */
	v->step = 2654435761ull;
}

static void measure(struct volume *v, uint64_t cache_mb, struct cost *out)
{
	struct cost cost[OPS][TURNS], now[OPS];
	int t, op;

	volume_make(v, cache_mb);
	scan(v, 0, UINT64_MAX, bench_now_ns() + 4 * TURN_NS);
	for (t = -1; t < TURNS; t++) {
		turn(v, GET, GET, now);
		turn(v, INSERT, DELETE, now);
		turn(v, SCAN_100, SCAN_100, now);
		turn(v, SCAN_ALL, SCAN_ALL, now);
		for (op = 0; op < OPS && t >= 0; op++)
			cost[op][t] = now[op];
	}
	must(kv_close(v->db), "close");
	for (op = 0; op < OPS; op++) {
		qsort(cost[op], TURNS, sizeof(cost[op][0]), by_time);
		out[op] = cost[op][TURNS / 2];
	}
}

/* ---- report -------------------------------------------------------------------------------------- */

static void row(uint64_t keys, const struct cost *c)
{
	double decades = 0;
	uint64_t n;
	int op;

	for (n = keys; n >= 10; n /= 10)
		decades++;
	printf("| %lu |", keys);
	for (op = 0; op < OPS; op++)
		printf(" %.3f (%.3f) |", c[op].us, c[op].cpu_us);
	printf(" %.3f | %.3f | %.3f |\n", c[GET].us / decades, c[INSERT].us / decades,
	       c[DELETE].us / decades);
	fflush(stdout);
}

static void head(void)
{
	int op;

	printf("| keys |");
	for (op = 0; op < OPS; op++)
		printf(" %s, us (CPU) |", op_names[op]);
	printf(" get by log10 keys | insert | delete |\n|--:|");
	for (op = 0; op < OPS + 3; op++)
		printf("--:|");
	printf("\n");
	fflush(stdout);
}

static void draw(const char *path, const uint64_t *keys, struct cost cost[][OPS], int sizes)
{
	FILE *f = popen("gnuplot", "w");
	int i, op;

	if (!f)
		bench_die("gnuplot: %s", strerror(errno));
	fprintf(f, "set terminal svg size 760,480 font 'sans-serif,12' background '#ffffff'\n"
		   "set output '%s'\nset title 'Time of one operation, values of 100 bytes, one thread'\n"
		   "set logscale xy\nset xlabel 'keys'\nset ylabel 'microseconds'\nset grid lc '#e0e0e0'\n"
		   "set key outside right top\nset format x '10^{%%T}'\n", path);
	for (op = 0; op < OPS; op++) {
		fprintf(f, "$D%d << EOD\n", op);
		for (i = 0; i < sizes; i++)
			fprintf(f, "%lu %.4g\n", keys[i], cost[i][op].us);
		fputs("EOD\n", f);
	}
	for (op = 0; op < OPS; op++)
		fprintf(f, "%s $D%d with linespoints pt %d ps 0.7 lw 1.5 title '%s'", op ? "," : "plot",
			op, op + 4, op_names[op]);
	fputc('\n', f);
	if (pclose(f))
		bench_die("gnuplot could not draw %s", path);
}

int main(int argc, char **argv)
{
	uint64_t most = argc > 2 ? strtoull(argv[2], NULL, 10) : KEYS_MOST;
	uint64_t cache_mb = argc > 3 ? strtoull(argv[3], NULL, 10) : 1024;
	static struct cost cost[SIZES_MAX][OPS];
	uint64_t keys[SIZES_MAX];
	int sizes = 0;

	if (argc < 2 || argc > 5 || most < KEYS_LEAST || !cache_mb) {
		fprintf(stderr, "usage: growth IMAGE [MOST [CACHE_MB [SVG]]]\n");
		return 2;
	}
	head();
	for (uint64_t nr = KEYS_LEAST; nr <= most && sizes < SIZES_MAX; nr *= 10, sizes++) {
		struct volume v = { .path = argv[1], .keys = nr, .rng = { nr } };

		bench_memory_ready((cache_mb << 20) + (256u << 20));
		measure(&v, cache_mb, cost[sizes]);
		keys[sizes] = nr;
		row(nr, cost[sizes]);
	}
	unlink(argv[1]);
	if (argc > 4)
		draw(argv[4], keys, cost, sizes);
	return 0;
}
