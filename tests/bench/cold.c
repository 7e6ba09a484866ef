/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cold.c - kvbench-cold-ENGINE: open, one verified get, close, exit. Started by kvbench for
 * cold-get.
 *
 * Usage: kvbench-cold-ENGINE DIR VALUE_LEN CACHE_BYTES MAP_BYTES KEY_NUMBER [memory]
 * COLD_ENGINE is the driver, given by the build. With "memory" it prints the private bytes that the
 * open store takes.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#define ENGINE_OPS(name) ENGINE_OPS_(name)
#define ENGINE_OPS_(name) bench_##name

int main(int argc, char **argv)
{
	const struct bench_ops *ops = &ENGINE_OPS(COLD_ENGINE);
	struct bench_opts opts = { .synced = false };
	char key[BENCH_KEY_LEN], buf[BENCH_VALUE_MAX];
	uint64_t id, before = 0;
	void *db, *ctx;
	int64_t len;

	if (argc < 6) {
		fputs("kvbench-cold: started by kvbench only\n", stderr);
		return 2;
	}
	opts.val_len = (uint32_t)strtoul(argv[2], NULL, 10);
	opts.cache_bytes = strtoull(argv[3], NULL, 10);
	opts.map_bytes = strtoull(argv[4], NULL, 10);
	id = strtoull(argv[5], NULL, 10);
	if (argc > 6)
		before = bench_private_bytes();
	bench_key(key, id, true);
	db = ops->open(argv[1], &opts);
	ctx = ops->ctx_open(db);
	len = ops->get(ctx, key, sizeof(key), buf, sizeof(buf));
	if (len != opts.val_len || !bench_value_ok(buf, opts.val_len, id, 0))
		bench_die("%s: key number %lu: wrong value or none (length %ld)", ops->name, id, len);
	if (argc > 6)
		printf("%lu\n", bench_private_bytes() - before);
	ops->ctx_close(ctx);
	ops->close(db);
	return 0;
}
