/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * client.h - what the files of libkvfs share, and the kvs command uses too: where a volume is mounted, and
 * the file of a key.
 */
#ifndef KVFS_CLIENT_H
#define KVFS_CLIENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define KVFS_CLIENT_NAME_MAX 255u

/*
 * The name of a key's file, as kvfs/name.c gives it: writes at most KVFS_CLIENT_NAME_MAX bytes and a NUL.
 * beside_tree: a tree of the key's name has its directory there.
 */
void kvfs_client_name(const void *key, size_t len, int beside_tree, char *name);
/* The name of a tree's directory; -1 with errno: no tree can be called so. */
int kvfs_client_tree_name(const char *tree, char *name);
/* The name of the tree whose directory is called so; -1 with errno. raw has room for strlen(name) + 1. */
int kvfs_client_name_tree(const char *name, char *raw);

/* open(2), fstatat(2), unlinkat(2) of a key in the directory dir. */
int kvfs_client_open(int dir, const void *key, size_t len, int flags);
int kvfs_client_stat(int dir, const void *key, size_t len, struct stat *st);
int kvfs_client_unlink(int dir, const void *key, size_t len);

/*
 * Opens the directory `where`, or the root of the mount of the device or image `where`. A descriptor, or
 * -1 with errno.
 */
int kvfs_client_find(const char *where);
/* 1: the mount of this directory has the option, as /proc/self/mountinfo shows it; 0; -1 with errno. */
int kvfs_client_has_option(int dir, const char *option);

#endif
