// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * identity_play.c - a script of 'kvs apply' by files, on a mount of the kernel module or of FUSE: what each
 * line does there is one change of the engine, the same that 'kvs apply' makes. Linked statically.
 *
 *	identity_play MOUNT SCRIPT [LINE]
 *
 * Keys are file names as they are, numbers are added one at a time, a value is one write(2), which is a
 * SET. A key that is not there is made by putting the empty value; the line after it may fill it.
 *
 * LINE: in a guest, as soon as the script has said that line or a later one, 'vmexit reset' is started, and
 * ends the machine in the middle of what comes next.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TREES_MAX 16

struct tree {
	char name[65];
	int dir;
};

static struct tree trees[TREES_MAX];
static unsigned int trees_nr;
static int dir; /* of the tree at hand */
static unsigned long long line_nr, reset_at;

static void need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "identity_play: line %llu: %s: %s\n", line_nr, what, strerror(errno));
	exit(1);
}

/* The first one is main, the directory of the mount itself. */
static void use_tree(const char *name)
{
	unsigned int i;

	for (i = 0; i < trees_nr; i++)
		if (!strcmp(trees[i].name, name))
			break;
	if (i == trees_nr) {
		need(i < TREES_MAX && strlen(name) < sizeof(trees[0].name), "too many trees");
		need(!mkdirat(trees[0].dir, name, 0775) || errno == EEXIST, name);
		strcpy(trees[i].name, name);
		trees[i].dir = openat(trees[0].dir, name, O_RDONLY | O_DIRECTORY);
		need(trees[i].dir >= 0, name);
		trees_nr++;
	}
	dir = trees[i].dir;
}

static void write_to(const char *name, int flags, const char *data, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | flags);

	need(fd >= 0, name);
	need(write(fd, data, len) == (ssize_t)len, name);
	need(!close(fd), name);
}

/* Made, if it is not there; emptied, if it is. */
static void put_empty(const char *name)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600);

	if (fd < 0 && errno == EEXIST)
		fd = openat(dir, name, O_WRONLY | O_TRUNC);
	need(fd >= 0 && !close(fd), name);
}

static void say(const char *text)
{
	char line[128];
	int n = snprintf(line, sizeof(line), "%s\n", text);

	need(write(STDOUT_FILENO, line, (size_t)n) == n, "standard output");
	if (!reset_at || line_nr < reset_at)
		return;
	reset_at = 0;
	if (!fork()) {
		execlp("vmexit", "vmexit", "reset", NULL);
		_exit(127);
	}
}

static void run(const char *verb, const char *key, const char *value)
{
	if (!strcmp(verb, "sync"))
		need(!fsync(trees[0].dir), "fsync");
	else if (!key)
		need(false, verb);
	else if (!strcmp(verb, "tree"))
		use_tree(key);
	else if (!strcmp(verb, "echo"))
		say(key);
	else if (!strcmp(verb, "del"))
		need(!unlinkat(dir, key, 0), key);
	else if (!strcmp(verb, "inc") && !value)
		write_to("_inc", 0, key, strlen(key));
	else if (!strcmp(verb, "dec") && !value)
		write_to("_dec", 0, key, strlen(key));
	else if (!strcmp(verb, "put") && value && *value)
		write_to(key, 0, value, strlen(value));
	else if (!strcmp(verb, "put") && value)
		put_empty(key);
	else if (!strcmp(verb, "append") && value)
		write_to(key, O_APPEND, value, strlen(value));
	else
		need(false, verb);
}

static void play(FILE *script)
{
	char *line = NULL, *key, *value;
	size_t cap = 0;
	ssize_t n;

	while ((n = getline(&line, &cap, script)) > 0) {
		line_nr++;
		errno = EINVAL;
		need(line[n - 1] == '\n', "the last line has no end");
		line[n - 1] = '\0';
		key = strchr(line, '\t');
		if (key)
			*key++ = '\0';
		value = key ? strchr(key, '\t') : NULL;
		if (value)
			*value++ = '\0';
		run(line, key, value);
	}
	need(!ferror(script), "the script");
	free(line);
}

int main(int argc, char **argv)
{
	FILE *script;

	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: identity_play MOUNT SCRIPT [LINE]\n");
		return 2;
	}
	reset_at = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
	script = fopen(argv[2], "r");
	if (!script) {
		perror(argv[2]);
		return 1;
	}
	strcpy(trees[0].name, "main");
	trees[0].dir = dir = open(argv[1], O_RDONLY | O_DIRECTORY);
	trees_nr = 1;
	need(dir >= 0, argv[1]);
	play(script);
	fclose(script);
	return 0;
}
