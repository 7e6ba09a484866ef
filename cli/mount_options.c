/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mount_options.c - the list behind -o of kvs mount: names as the kernel module has them, and allow_other
 * of FUSE.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mount.h"

static int bad(const char *name, const char *value, const char *want)
{
	return kvs_complain(EXIT_USAGE, "-o %s=%s: %s; see 'kvs mount --help'", name, value, want);
}

/* Decimal for ids, octal for modes. */
static bool number(const char *text, int base, unsigned long most, unsigned long *out)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*out = strtoul(text, &end, base);
	return !errno && !*end && *out <= most;
}

static int set_id(struct mount_options *opt, const char *name, const char *value)
{
	unsigned long id;

	/* the largest is "no change" to chown(2), and nobody's */
	if (!number(value, 10, UINT32_MAX - 1, &id)) {
		const struct passwd *user = *name == 'u' ? getpwnam(value) : NULL;
		const struct group *group = *name == 'g' ? getgrnam(value) : NULL;

		if (!user && !group)
			return bad(name, value, *name == 'u' ? "no such user" : "no such group");
		id = user ? user->pw_uid : group->gr_gid;
	}
	if (*name == 'u')
		opt->uid = (uid_t)id;
	else
		opt->gid = (gid_t)id;
	return EXIT_OK;
}

static int set_mode(mode_t *mode, const char *name, const char *value)
{
	unsigned long v;

	if (!number(value, 8, 0777, &v))
		return bad(name, value, "not a mode in octal, up to 777");
	*mode = (mode_t)v;
	return EXIT_OK;
}

static int set_write(struct mount_options *opt, const char *value)
{
	if (strcmp(value, "set") && strcmp(value, "stream"))
		return bad("write", value, "not set or stream");
	opt->stream = !strcmp(value, "stream");
	return EXIT_OK;
}

static int set_durability(struct mount_options *opt, const char *value)
{
	static const struct {
		const char *name;
		int level;
	} levels[] = { { "memory", KV_MEMORY }, { "kill-safe", KV_KILL_SAFE }, { "synced", KV_SYNCED } };
	size_t i;

	for (i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (!strcmp(value, levels[i].name)) {
			opt->durability = levels[i].level;
			return EXIT_OK;
		}
	}
	return bad("durability", value, "not memory, kill-safe or synced");
}

static int set_cache(struct mount_options *opt, const char *value)
{
	if (!opts_bytes(value, &opt->cache_bytes) || !opt->cache_bytes)
		return bad("cache", value, "not a size (64M, 1G)");
	return EXIT_OK;
}

/* Options without a value. False: none of them. */
static bool set_flag(struct mount_options *opt, const char *name)
{
	if (!strcmp(name, "ro"))
		opt->readonly = true;
	else if (!strcmp(name, "rw"))
		opt->readonly = false;
	else if (!strcmp(name, "stream"))
		opt->stream = true;
	else if (!strcmp(name, "strip_nl"))
		opt->strip_nl = true;
	else if (!strcmp(name, "allow_other"))
		opt->allow_other = true;
	else
		return false;
	return true;
}

static int set_option(struct mount_options *opt, const char *name, const char *value)
{
	if (!strcmp(name, "uid") || !strcmp(name, "gid"))
		return set_id(opt, name, value);
	if (!strcmp(name, "fmode"))
		return set_mode(&opt->fmode, name, value);
	if (!strcmp(name, "dmode"))
		return set_mode(&opt->dmode, name, value);
	if (!strcmp(name, "write"))
		return set_write(opt, value);
	if (!strcmp(name, "durability"))
		return set_durability(opt, value);
	if (!strcmp(name, "cache"))
		return set_cache(opt, value);
	return kvs_complain(EXIT_USAGE, "-o %s: no such option; see 'kvs mount --help'", name);
}

int mount_options_parse(struct kvs *k, const char *list, struct mount_options *opt)
{
	char *copy, *word, *rest = NULL;
	int rc = EXIT_OK;

	*opt = (struct mount_options){
		.uid = getuid(), .gid = getgid(), .fmode = 0660, .dmode = 0775,
		.cache_bytes = k->opt.cache_bytes,
	};
	copy = strdup(list ? list : "");
	if (!copy)
		return kvs_no_memory();
	for (word = strtok_r(copy, ",", &rest); word && !rc; word = strtok_r(NULL, ",", &rest)) {
		char *value = strchr(word, '=');
		unsigned long id;

		if (value) {
			*value++ = 0;
			rc = set_option(opt, word, value);
		} else if (number(word, 10, UINT32_MAX - 1, &id)) {
			opt->gid = (gid_t)id; /* a bare number is a group */
		} else if (!set_flag(opt, word)) {
			rc = kvs_complain(EXIT_USAGE, "-o %s: no such option; see 'kvs mount --help'", word);
		}
	}
	free(copy);
	return rc;
}
