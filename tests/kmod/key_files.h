/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * key_files.h - small keys as files, by system calls alone: what scale.c and bench.c do in a guest, on any
 * file system. Each call that fails, and each byte that is wrong, ends the program with a message.
 */
#ifndef KEY_FILES_H
#define KEY_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_NAME_BYTES 24
#define KEY_VALUE_MAX 4096u

/* Says what, where and, unless it is 0, errno, and exits. */
void key_die(const char *what, const char *where) __attribute__((noreturn));
void key_need(bool good, const char *what, const char *where);

/* Seconds of a clock that nobody sets. */
double key_clock(void);

/* Numbers that look random: the same for the same n. */
uint64_t key_random(uint64_t n);
/* Names are in no order: that of the keys is another one than that of their numbers. */
void key_name(char name[KEY_NAME_BYTES], uint64_t number);
/* The number of a name; UINT64_MAX: it is not of key_name(). */
uint64_t key_number(const char *name);
void key_value(uint8_t *value, size_t len, uint64_t number);

/* dir: an open directory. */
void key_create(int dir, uint64_t number, size_t len);
void key_look_up(int dir, uint64_t number, size_t len);
void key_read(int dir, uint64_t number, size_t len);
void key_delete(int dir, uint64_t number);

/* Visits all below count, in an order of its own that is always the same. */
uint64_t key_shuffled(uint64_t i, uint64_t count);
/* Lists the directory: each key below count exactly once, and nothing else but . .. and control files. */
void key_list(int dir, uint64_t count);

#endif
