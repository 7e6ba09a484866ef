/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* volume_mount_trees.c - trees of a mount: the directories in its root. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/client.h"
#include "volume_mount.h"

static int open_dir(int root, const char *name)
{
	return openat(root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* A descriptor, or -1 with errno. */
static int tree_dir(const struct mounted *m, const char *tree, bool create)
{
	char name[KVFS_CLIENT_NAME_MAX + 1];
	int fd;

	if (kvfs_client_tree_name(tree, name))
		return -1;
	fd = open_dir(m->dir, name);
	if (fd >= 0 || errno != ENOENT || !create)
		return fd;
	/* EEXIST: somebody was faster */
	if (mkdirat(m->dir, name, 0777) && errno != EEXIST)
		return -1;
	return open_dir(m->dir, name);
}

int mounted_tree_open(kv_db *db, const char *name, uint32_t flags, kv_tree **out)
{
	struct mounted *m = mounted_of(db);
	struct mounted_tree *t;

	*out = NULL;
	if (!name || !strcmp(name, "main"))
		return 0;
	for (t = m->trees; t; t = t->next)
		if (!strcmp(t->name, name))
			break;
	if (!t) {
		if (strlen(name) >= sizeof(t->name))
			return mounted_say(KV_E_INVALID, "the name of a tree has at most %zu bytes",
					   sizeof(t->name) - 1);
		t = calloc(1, sizeof(*t));
		if (!t)
			return mounted_fail("the tree could not be opened");
		t->dir = tree_dir(m, name, flags & KV_TREE_CREATE);
		if (t->dir < 0) {
			int err = mounted_fail("the tree could not be opened");

			free(t);
			return err;
		}
		strcpy(t->name, name);
		t->next = m->trees;
		m->trees = t;
	}
	*out = (kv_tree *)t;
	return 0;
}

int mounted_tree_drop(kv_db *db, const char *name)
{
	char file[KVFS_CLIENT_NAME_MAX + 1];

	if (!strcmp(name, "main"))
		return mounted_say(KV_E_INVALID, "tree 'main' is always there; it cannot be dropped");
	if (kvfs_client_tree_name(name, file))
		return mounted_fail("the tree could not be dropped");
	if (!unlinkat(mounted_of(db)->dir, file, AT_REMOVEDIR))
		return 0;
	if (errno == ENOTEMPTY)
		return mounted_say(KV_E_INVALID,
				   "on a mount only an empty tree is dropped; empty it with 'kvs del --tree "
				   "NAME --prefix \"\"'");
	/* a file of that name is a key's */
	if (errno == ENOTDIR)
		errno = ENOENT;
	return mounted_fail("the tree could not be dropped");
}

/* ---- the list -------------------------------------------------------------------------------- */

struct names {
	char **name;
	size_t nr;
};

static int add_name(struct names *n, const char *name)
{
	char **more = reallocarray(n->name, n->nr + 1, sizeof(*more));

	if (!more)
		return -1;
	n->name = more;
	n->name[n->nr] = strdup(name);
	if (!n->name[n->nr])
		return -1;
	n->nr++;
	return 0;
}

static void free_names(struct names *n)
{
	while (n->nr)
		free(n->name[--n->nr]);
	free(n->name);
}

static bool is_dir(int root, const struct dirent *e)
{
	struct stat st;

	if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
		return false;
	if (e->d_type != DT_UNKNOWN)
		return e->d_type == DT_DIR;
	return !fstatat(root, e->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All trees, in order; -1 with errno. */
static int read_names(const struct mounted *m, struct names *n)
{
	int fd = open_dir(m->dir, "."), bad = -1;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	char raw[KVFS_CLIENT_NAME_MAX + 1];
	struct dirent *e;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (!add_name(n, "main")) {
		for (;;) {
			errno = 0;
			e = readdir(d);
			bad = !e && errno ? -1 : 0;
			if (!e)
				break;
			if (!is_dir(m->dir, e) || kvfs_client_name_tree(e->d_name, raw))
				continue;
			bad = add_name(n, raw);
			if (bad)
				break;
		}
	}
	closedir(d);
	if (n->nr)
		qsort(n->name, n->nr, sizeof(*n->name), by_name);
	return bad;
}

int mounted_tree_list(kv_db *db, int (*fn)(void *arg, const char *name, uint64_t count), void *arg)
{
	struct names n = { 0 };
	uint64_t count;
	kv_tree *tree;
	size_t i;
	int err = 0;

	if (read_names(mounted_of(db), &n))
		err = mounted_fail("the trees could not be listed");
	for (i = 0; !err && i < n.nr; i++) {
		err = mounted_tree_open(db, n.name[i], 0, &tree);
		if (!err)
			err = mounted_count(db, tree, &count);
		if (!err)
			err = fn(arg, n.name[i], count);
		else if (err == KV_E_NOTFOUND)
			err = 0; /* it was dropped meanwhile */
	}
	free_names(&n);
	return err;
}
