/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * libkvfs.h - libkvfs: keys of a mounted volume from C, through its files and control files. It works on
 * a mount of the kernel module and on one of 'kvs mount' alike.
 *
 *	struct kv_mnt kv1 = kvfs_attach("/dev/kvs1");
 *
 *	key_create(&kv1, "key_1");
 *	key_set_s(&kv1, "key_1", "a text");
 *	key_set_i(&kv1, "key_2", 32);
 *	key_inc(&kv1, "key_2");
 *	kvfs_free(&kv1);
 *
 * Keys are C strings: any bytes but NUL, at least one, at most what the volume allows (ENAMETOOLONG). They
 * are the keys themselves, not names of files: "a/b", "." and "_mk" are keys like others.
 *
 * Functions return 0, or -1 with the reason in errno:
 *	ENOENT		there is no such key
 *	EEXIST		key_create: there is one
 *	EINVAL		the key is empty; the value is not an integer
 *	ERANGE		the integer does not fit 64 bits
 *	ENAMETOOLONG, EFBIG	the key, the value is longer than the volume allows
 *	ENOSPC EIO EROFS EACCES ESTALE ...	as of write(2) and read(2) on the mount
 * and, on a struct kv_mnt that could not be attached, the reason for that.
 *
 * Each change of a key is atomic, and so is reading one. What a change survives when the call returns is
 * the mount's option durability; fsync(2) on any file of the mount makes all of them durable.
 *
 * Threads: all functions but kvfs_free() may be called by any number of threads on one struct kv_mnt.
 */
#ifndef LIBKVFS_H
#define LIBKVFS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An attached mount. Made by kvfs_attach(); its fields but error are the library's. */
struct kv_mnt {
	int error;	/* 0, or the errno for which it could not be attached */
	int dir;	/* the directory of the keys */
	int control[4]; /* _mk _del _inc _dec, open for writing; or a negative errno */
	int reserved[2];
};

/*
 * where: a directory of a mount (the root, or that of a tree); or the block device or image that is
 * mounted, which is then looked up in /proc/self/mountinfo (an image also as the file behind a loop
 * device). On failure .error is set: ENOENT nothing there, ENODEV not mounted, ENOTTY the directory is not
 * of KVFS, EACCES and others as of open(2). A read-only mount, or one without permission to write, can be
 * attached; changes then fail.
 */
struct kv_mnt kvfs_attach(const char *where);
/* Closes what kvfs_attach() opened. Not attached, or freed already: no effect. */
void kvfs_free(struct kv_mnt *m);

/* A new key with an empty value; EEXIST. EINVAL also when it ends in a newline and its name, escaped, is
 * longer than 255 bytes. */
int key_create(const struct kv_mnt *m, const char *key);
int key_delete(const struct kv_mnt *m, const char *key);
/* 1: there is such a key, 0: there is none, -1: errno says why it is not known. */
int key_exists(const struct kv_mnt *m, const char *key);

/*
 * The value becomes this text (without its NUL), this integer (in decimal), these bytes. A key that is not
 * there is made. When the volume is full or the medium fails, the value may be left empty, as by open(2) with
 * O_TRUNC.
 */
int key_set_s(const struct kv_mnt *m, const char *key, const char *text);
int key_set_i(const struct kv_mnt *m, const char *key, int64_t number);
int key_set_b(const struct kv_mnt *m, const char *key, const void *bytes, size_t len);

/* The value with a NUL behind it, from malloc(): free() it. NULL: errno. It may hold NULs of its own. */
char *key_get_s(const struct kv_mnt *m, const char *key);
/* The same; *len is the length of the value. */
void *key_get_b(const struct kv_mnt *m, const char *key, size_t *len);
/* Optional sign, then decimal, 0x hexadecimal, 0b binary or 0 octal. EINVAL, ERANGE: *number is as it was. */
int key_get_i(const struct kv_mnt *m, const char *key, int64_t *number);

/*
 * One up, one down; exact whoever else does it. ENOENT, EINVAL, ERANGE. On a mount with strip_nl a newline
 * at the end of a key would not reach it: such keys give EINVAL here, on any mount.
 */
int key_inc(const struct kv_mnt *m, const char *key);
int key_dec(const struct kv_mnt *m, const char *key);

#ifdef __cplusplus
}
#endif

#endif
