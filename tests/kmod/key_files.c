// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * key_files.c - see key_files.h.
 */
#define _GNU_SOURCE
#include "key_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME_MULTIPLIER 0x9e3779b1u /* odd: no two numbers of 32 bits give the same name */
#define NAME_INVERSE 0x0e8b2f51u    /* times the multiplier: 1 */
#define SHUFFLE_STEP 7919u	    /* a prime */

void key_die(const char *what, const char *where)
{
	fprintf(stderr, errno ? "%s: %s: %m\n" : "%s: %s\n", where, what);
	exit(1);
}

void key_need(bool good, const char *what, const char *where)
{
	if (!good)
		key_die(what, where);
}

double key_clock(void)
{
	struct timespec t;

	key_need(!clock_gettime(CLOCK_MONOTONIC, &t), "clock_gettime", "clock");
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* splitmix64 */
uint64_t key_random(uint64_t n)
{
	uint64_t z = (n + 1) * 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void key_name(char name[KEY_NAME_BYTES], uint64_t number)
{
	snprintf(name, KEY_NAME_BYTES, "key-%08x", (uint32_t)number * NAME_MULTIPLIER);
}

uint64_t key_number(const char *name)
{
	char *end, own[KEY_NAME_BYTES];
	uint32_t number;

	if (strncmp(name, "key-", 4))
		return UINT64_MAX;
	number = (uint32_t)strtoul(name + 4, &end, 16) * NAME_INVERSE;
	key_name(own, number);
	return *end || strcmp(own, name) ? UINT64_MAX : number;
}

void key_value(uint8_t *value, size_t len, uint64_t number)
{
	uint64_t word;
	size_t at, part;

	for (at = 0; at < len; at += part) {
		word = key_random(number << 12 | at / sizeof(word));
		part = len - at < sizeof(word) ? len - at : sizeof(word);
		memcpy(value + at, &word, part);
	}
}

/* ---- one key ---------------------------------------------------------------------------------------- */

void key_create(int dir, uint64_t number, size_t len)
{
	uint8_t value[KEY_VALUE_MAX];
	char name[KEY_NAME_BYTES];
	int fd;

	key_name(name, number);
	key_value(value, len, number);
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	key_need(fd >= 0, "create", name);
	key_need(write(fd, value, len) == (ssize_t)len, "write", name);
	key_need(!close(fd), "close", name);
}

void key_look_up(int dir, uint64_t number, size_t len)
{
	char name[KEY_NAME_BYTES];
	struct stat st;

	key_name(name, number);
	key_need(!fstatat(dir, name, &st, 0), "stat", name);
	errno = 0;
	key_need(st.st_size == (off_t)len, "wrong size", name);
}

void key_read(int dir, uint64_t number, size_t len)
{
	uint8_t want[KEY_VALUE_MAX], value[KEY_VALUE_MAX];
	char name[KEY_NAME_BYTES];
	ssize_t got;
	int fd;

	key_name(name, number);
	key_value(want, len, number);
	fd = openat(dir, name, O_RDONLY);
	key_need(fd >= 0, "open", name);
	got = read(fd, value, sizeof(value));
	key_need(got >= 0, "read", name);
	errno = 0;
	key_need(got == (ssize_t)len && !memcmp(value, want, len), "wrong value", name);
	key_need(!close(fd), "close", name);
}

void key_delete(int dir, uint64_t number)
{
	char name[KEY_NAME_BYTES];

	key_name(name, number);
	key_need(!unlinkat(dir, name, 0), "delete", name);
}

/* ---- all of them ------------------------------------------------------------------------------------ */

uint64_t key_shuffled(uint64_t i, uint64_t count)
{
	return count % SHUFFLE_STEP ? (i * SHUFFLE_STEP + 1) % count : i;
}

static bool is_key(const char *name)
{
	static const char *const others[] = { ".", "..", "_mk", "_del", "_inc", "_dec", "lost+found" };
	size_t i;

	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (!strcmp(name, others[i]))
			return false;
	return true;
}

void key_list(int dir, uint64_t count)
{
	uint8_t *seen = calloc(count + 1, 1);
	uint64_t number, listed = 0;
	struct dirent *e;
	/* A position of its own. */
	DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY));

	key_need(seen && d, "opendir", "list");
	for (errno = 0; (e = readdir(d)); errno = 0) {
		if (!is_key(e->d_name))
			continue;
		number = key_number(e->d_name);
		key_need(number < count, "no key of ours", e->d_name);
		key_need(!seen[number], "listed twice", e->d_name);
		seen[number] = 1;
		listed++;
	}
	key_need(!errno, "readdir", "list");
	key_need(listed == count, "keys are missing", "list");
	key_need(!closedir(d), "closedir", "list");
	free(seen);
}
