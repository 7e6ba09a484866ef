/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * k11.c - row K11: the program of the first document, and the rest of libkvfs.
 *
 *	k11 MOUNT		a directory of a mount, a device or an image; or $KVFS_MOUNT
 *
 * The keys key_1, key_2 and k11* must not be there; they are not there when it ends. Keys that this makes
 * under odd names it also makes for tests/lib/libkvfs.sh: k11 MOUNT names < FILE, a key a line.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/libkvfs.h"
#include "tests/tap.h"

static bool value_is(const struct kv_mnt *m, const char *key, const char *want)
{
	char *got = key_get_s(m, key);
	bool same = got && !strcmp(got, want);

	free(got);
	return same;
}

static bool number_is(const struct kv_mnt *m, const char *key, int64_t want)
{
	int64_t got = want + 1;

	return !key_get_i(m, key, &got) && got == want;
}

/* As printed there, but for the place. */
static void document(const char *where)
{
	struct kv_mnt kv1 = kvfs_attach(where);
	key_create(&kv1, "key_1");
	key_set_s(&kv1, "key_1", "This is an example string value");
	key_set_i(&kv1, "key_2", 32);
	key_inc(&kv1, "key_2");
	kvfs_free(&kv1);
}

static void judge_document(const struct kv_mnt *m)
{
	int64_t n = 7;

	tap_ok(value_is(m, "key_1", "This is an example string value"),
	       "K11 key_set_s is seen by key_get_s");
	tap_ok(number_is(m, "key_2", 33), "K11 key_set_i and key_inc are seen by key_get_i");
	tap_ok(!key_dec(m, "key_2") && number_is(m, "key_2", 32), "K11 key_dec");
	tap_ok(key_exists(m, "key_1") == 1 && !key_exists(m, "key_3"), "K11 key_exists");
	tap_ok(key_create(m, "key_1") == -1 && errno == EEXIST,
	       "K11 key_create of a key that is there: EEXIST");
	tap_ok(key_get_i(m, "key_1", &n) == -1 && errno == EINVAL && n == 7,
	       "K11 key_get_i of a text: EINVAL, and the variable is as it was");
	tap_ok(key_inc(m, "key_1") == -1 && errno == EINVAL, "K11 key_inc of a text: EINVAL");
	tap_ok(!key_delete(m, "key_1") && !key_exists(m, "key_1"), "K11 key_delete");
	tap_ok(!key_delete(m, "key_2"), "K11 key_delete of the number");
	tap_ok(key_delete(m, "key_1") == -1 && errno == ENOENT, "K11 key_delete of no key: ENOENT");
	tap_ok(key_inc(m, "key_1") == -1 && errno == ENOENT, "K11 key_inc of no key: ENOENT");
	tap_ok(!key_get_s(m, "key_1") && errno == ENOENT, "K11 key_get_s of no key: ENOENT");
}

static void numbers(const struct kv_mnt *m)
{
	static const struct {
		const char *text;
		int64_t number;
		int reason;
	} cases[] = {
		{ "0", 0, 0 }, { "-0b101", -5, 0 }, { "017", 15, 0 }, { "+0x2A", 42, 0 },
		{ "9223372036854775807", INT64_MAX, 0 }, { "-9223372036854775808", INT64_MIN, 0 },
		{ "9223372036854775808", 0, ERANGE }, { "-9223372036854775809", 0, ERANGE },
		{ "", 0, EINVAL }, { "-", 0, EINVAL }, { "0x", 0, EINVAL }, { "0b2", 0, EINVAL },
		{ "08", 0, EINVAL }, { " 1", 0, EINVAL }, { "1 ", 0, EINVAL }, { "--1", 0, EINVAL },
		{ "0x-1", 0, EINVAL }, { "1a", 0, EINVAL },
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t got = 0;
		int set = key_set_s(m, "k11 number", cases[i].text), rc = key_get_i(m, "k11 number", &got);

		tap_ok(!set && (rc ? errno : 0) == cases[i].reason && got == cases[i].number,
		       "K6 K11 key_get_i of '%s'", cases[i].text);
	}
	key_set_i(m, "k11 number", INT64_MAX);
	tap_ok(key_inc(m, "k11 number") == -1 && errno == ERANGE, "K6 K11 key_inc beyond 64 bits: ERANGE");
	tap_ok(!key_set_i(m, "k11 number", INT64_MIN) && number_is(m, "k11 number", INT64_MIN),
	       "K11 key_set_i of the smallest integer");
	tap_ok(!key_delete(m, "k11 number"), "K11 it is deleted");
}

static void values(const struct kv_mnt *m)
{
	static const size_t sizes[] = { 0, 1, 511, 4096, 65536, 65537, 1000000, 3000000 };
	uint8_t *bytes = malloc(3000000), *got;
	size_t i, j, len;

	for (i = 0; bytes && i < 3000000; i++)
		bytes[i] = (uint8_t)(i * 2654435761u >> 13);
	for (j = 0; bytes && j < sizeof(sizes) / sizeof(sizes[0]); j++) {
		bool good = !key_set_b(m, "k11 bytes", bytes, sizes[j]);

		got = key_get_b(m, "k11 bytes", &len);
		tap_ok(good && got && len == sizes[j] && !memcmp(got, bytes, len) && !got[len],
		       "K10 K11 %zu bytes, set and got", sizes[j]);
		free(got);
	}
	free(bytes);
	tap_ok(!key_delete(m, "k11 bytes"), "K11 they are deleted");
}

/* One key: made, set, read, counted and deleted under its own name. */
static bool round_trip(const struct kv_mnt *m, const char *key)
{
	bool newline = key[strlen(key) - 1] == '\n';

	return !key_create(m, key) && key_exists(m, key) == 1 && value_is(m, key, "") &&
	       !key_set_s(m, key, "41") && value_is(m, key, "41") &&
	       (newline ? key_inc(m, key) == -1 && errno == EINVAL
			: !key_inc(m, key) && number_is(m, key, 42)) &&
	       !key_delete(m, key) && !key_exists(m, key);
}

static void keys(const struct kv_mnt *m)
{
	static const char *const odd[] = {
		"k11 a/b", "k11/", "/k11", "k11%", "%2F", "%~", ".", "..", "...", "_mk", "_del", "_inc",
		"_dec", "_mkk", "main", "k11 \x01\xff\xc3", "k11 \n",
	};
	char key[601] = "";
	size_t i;

	for (i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		tap_ok(round_trip(m, odd[i]), "K9 K11 the key '%s'",
		       strchr(odd[i], '\n') ? "k11 newline" : odd[i]);
	for (i = 250; i <= 300; i += 25) {
		memset(key, 'k', i);
		key[i] = 0;
		tap_ok(round_trip(m, key), "K9 K11 a key of %zu bytes", i);
		memset(key, '/', i);
		tap_ok(round_trip(m, key), "K9 K11 a key of %zu slashes", i);
	}
	tap_ok(key_create(m, "") == -1 && errno == EINVAL, "K11 the empty key: EINVAL");
	tap_ok(key_set_s(m, "", "x") == -1 && errno == EINVAL, "K11 key_set_s of the empty key: EINVAL");
}

static void refusals(void)
{
	struct kv_mnt none = kvfs_attach("/nonexistent"), other = kvfs_attach("/");
	struct kv_mnt file = kvfs_attach("/proc/self/exe");

	tap_ok(none.error == ENOENT, "K11 kvfs_attach to nothing: ENOENT");
	tap_ok(other.error == ENOTTY, "K11 kvfs_attach to another file system: ENOTTY");
	tap_ok(file.error == ENODEV, "K11 kvfs_attach to a file that is not mounted: ENODEV");
	tap_ok(key_create(&none, "key") == -1 && errno == ENOENT, "K11 using it fails with the same");
	kvfs_free(&none);
	kvfs_free(&other);
	kvfs_free(&file);
}

/* Keys from standard input, a line each, with their own text as the value. */
static int make_names(const struct kv_mnt *m)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int rc = 0;

	while ((n = getline(&line, &cap, stdin)) > 0) {
		line[n - (line[n - 1] == '\n')] = 0;
		if (key_set_s(m, line, line)) {
			perror(line);
			rc = 1;
		}
	}
	free(line);
	return rc;
}

int main(int argc, char **argv)
{
	const char *where = argc > 1 ? argv[1] : getenv("KVFS_MOUNT");
	struct kv_mnt m;
	int rc;

	if (!where) {
		fprintf(stderr, "usage: k11 MOUNT [names]\n");
		return 2;
	}
	m = kvfs_attach(where);
	if (m.error) {
		fprintf(stderr, "k11: %s: %s\n", where, strerror(m.error));
		return 2;
	}
	if (argc > 2) {
		rc = make_names(&m);
		kvfs_free(&m);
		return rc;
	}
	document(where);
	judge_document(&m);
	numbers(&m);
	values(&m);
	keys(&m);
	refusals();
	kvfs_free(&m);
	tap_ok(key_create(&m, "key_1") == -1 && errno == EBADF, "K11 after kvfs_free: EBADF");
	return tap_done();
}
