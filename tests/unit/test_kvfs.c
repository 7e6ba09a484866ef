/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_kvfs.c - the volume as a file system (kvfs/), without a kernel or FUSE above it: names, directories,
 * control files, rename, errors. Open files: test_kvfs_file.c. Races, no memory: test_kvfs_race.c.
 */
#include "tests/unit/mount.h"

/* ---- names ----------------------------------------------------------------------------------- */

static void expect_name(struct mount *m, kv_tree *t, const void *key, size_t key_len, const char *want)
{
	char name[KVFS_NAME_MAX + 1];
	uint8_t *back = malloc(m->fs.key_max);
	u32 len = kvfs_name_from_key(&m->fs, t, key, (u32)key_len, name);

	ck_assert_str_eq(name, want);
	must(len == strlen(want));
	must_be(kvfs_key_from_name(&m->fs, t, name, len, back), (int)key_len);
	must(!memcmp(back, key, key_len));
	free(back);
}

static int key_from(struct mount *m, const char *name)
{
	uint8_t *key = malloc(m->fs.key_max);
	int res = kvfs_key_from_name(&m->fs, NULL, name, (u32)strlen(name), key);

	free(key);
	return res;
}

/* row K9 row K10 */
START_TEST(names_are_escaped_and_canonical)
{
	static const char *const bad[] = { "%41", "%2f", "%2", "%", "a%", "%2E%2E", ".", "..", "a/b", "_mk",
					   "_dec", "", "%5F%6Dk", "%%", "%2Fx%~", "x%~0123" };
	struct mount m;
	size_t i;

	mount_make(&m, _i);
	expect_name(&m, NULL, "plain", 5, "plain");
	expect_name(&m, NULL, "a/b", 3, "a%2Fb");
	expect_name(&m, NULL, "\0", 1, "%00");
	expect_name(&m, NULL, "50%", 3, "50%25");
	expect_name(&m, NULL, ".", 1, "%2E");
	expect_name(&m, NULL, "..", 2, "%2E.");
	expect_name(&m, NULL, "...", 3, "...");
	expect_name(&m, NULL, ".x", 2, ".x");
	expect_name(&m, NULL, "_mk", 3, "%5Fmk");
	expect_name(&m, NULL, "_del", 4, "%5Fdel");
	expect_name(&m, NULL, "_mkx", 4, "_mkx");
	expect_name(&m, NULL, "\xff\x01 \n", 4, "\xff\x01 \n");
	expect_name(&m, NULL, "main", 4, "main");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		must_be(key_from(&m, bad[i]), -ENOENT);
	mount_end(&m);
}
END_TEST

/* Keys that differ in the last byte only, beyond what a name can show. row K9 */
START_TEST(long_keys_have_aliases)
{
	char name[3][KVFS_NAME_MAX + 1], long_name[300];
	struct kvfs_found found;
	struct mount m;
	uint8_t *key;
	u32 len, i;

	mount_make(&m, MEM_DEFAULT);
	len = m.fs.key_max;
	key = malloc(len);
	memset(key, '/', len);
	for (i = 0; i < 3; i++) {
		key[len - 1] = (uint8_t)('a' + i);
		must(kvfs_name_from_key(&m.fs, NULL, key, len, name[i]) <= KVFS_NAME_MAX);
		must_be(kvfs_lookup(&m.fs, NULL, name[i], (u32)strlen(name[i]), &found), -ENOENT);
		must_be(kvfs_create(&m.fs, NULL, name[i], (u32)strlen(name[i]), &found), -EINVAL);
		ok(kv_put(m.v.db, NULL, key, len, "v", 1, 0));
	}
	for (i = 0; i < 3; i++) {
		key[len - 1] = (uint8_t)('a' + i);
		must_be(kvfs_lookup(&m.fs, NULL, name[i], (u32)strlen(name[i]), &found), 0);
		must(found.kind == KVFS_KEY && found.key_len == len && !memcmp(found.key, key, len));
		kvp_free(found.key);
		must(i == 0 || strcmp(name[i], name[i - 1]));
		/* 198 bytes of escapes, not 200: no escape is cut. */
		must(!memcmp(name[i] + 198, "%~", 2) && strlen(name[i]) == 232);
	}
	must_be(kvfs_create(&m.fs, NULL, name[0], 232, &found), -EEXIST);
	/* The last that fits, and the first that does not. */
	memset(key, 'k', 256);
	must(kvfs_name_from_key(&m.fs, NULL, key, 255, long_name) == 255);
	must(!strchr(long_name, '%'));
	must(kvfs_name_from_key(&m.fs, NULL, key, 256, long_name) == 234);
	memset(long_name, 'k', 256);
	must_be(kvfs_lookup(&m.fs, NULL, long_name, 256, &found), -ENAMETOOLONG);
	must_be(kvfs_create(&m.fs, NULL, long_name, 256, &found), -ENAMETOOLONG);
	free(key);
	mount_end(&m);
}
END_TEST

/* Small frames take shorter keys than names. row K9 */
START_TEST(keys_that_are_too_long)
{
	struct kvfs_found found;
	char name[256];
	struct mount m;

	mount_make(&m, MEM_TINY);
	must(m.fs.key_max < KVFS_NAME_MAX);
	memset(name, 'k', sizeof(name));
	must_be(kvfs_create(&m.fs, NULL, name, m.fs.key_max + 1, &found), -ENAMETOOLONG);
	must_be(kvfs_lookup(&m.fs, NULL, name, m.fs.key_max + 1, &found), -ENAMETOOLONG);
	must_be(kvfs_create(&m.fs, NULL, name, m.fs.key_max, &found), 0);
	must(found.key_len == m.fs.key_max);
	kvp_free(found.key);
	mount_end(&m);
}
END_TEST

START_TEST(an_alias_is_searched_within_bounds)
{
	char name[KVFS_NAME_MAX + 1];
	struct kvfs_found found;
	uint8_t key[300];
	struct mount m;
	u32 i, len = 0;

	mount_make(&m, MEM_DEFAULT);
	memset(key, 'p', sizeof(key));
	for (i = 0; i < 4200; i++) {
		key[298] = (uint8_t)(i >> 8);
		key[299] = (uint8_t)i;
		ok(kv_put(m.v.db, NULL, key, 300, "", 0, KV_MEMORY));
		if (i == 4095) {
			len = kvfs_name_from_key(&m.fs, NULL, key, 300, name);
			must_be(kvfs_lookup(&m.fs, NULL, name, len, &found), 0);
			kvp_free(found.key);
		}
	}
	must_be(kvfs_lookup(&m.fs, NULL, name, len, &found), 0);
	kvp_free(found.key);
	len = kvfs_name_from_key(&m.fs, NULL, key, 300, name);
	must_be(kvfs_lookup(&m.fs, NULL, name, len, &found), -ELOOP);
	mount_end(&m);
}
END_TEST

static kv_tree *make_tree(struct mount *m, const char *dir_name)
{
	kv_tree *t = NULL;

	must_be(kvfs_mkdir(&m->fs, dir_name, (u32)strlen(dir_name), &t), 0);
	return t;
}

/* No two things in a directory have the same name. row K9 */
START_TEST(keys_and_trees_do_not_clash)
{
	static const char *const clash[] = { "foo", "/x", ".", "_mk", "%", "..", "a/b" };
	char tree_name[3 * 64 + 1], name[KVFS_NAME_MAX + 1];
	struct kvfs_found found;
	struct mount m;
	kv_tree *t;
	size_t i;

	mount_make(&m, _i);
	for (i = 0; i < sizeof(clash) / sizeof(clash[0]); i++) {
		/* Before there is such a tree, the name of the key is what the tree's will be. */
		kvfs_name_from_key(&m.fs, NULL, clash[i], (u32)strlen(clash[i]), tree_name);
		t = make_tree(&m, tree_name);
		ck_assert_str_eq(kv_tree_name(t), clash[i]);
		must_be(kvfs_create(&m.fs, NULL, tree_name, (u32)strlen(tree_name), &found), -EEXIST);
		ok(kv_put(m.v.db, NULL, clash[i], strlen(clash[i]), "12", 2, 0));
		kvfs_name_from_key(&m.fs, NULL, clash[i], (u32)strlen(clash[i]), name);
		ck_assert_str_ne(name, tree_name);
		must_be(kvfs_lookup(&m.fs, NULL, tree_name, (u32)strlen(tree_name), &found), 0);
		must(found.kind == KVFS_TREE && found.tree == t);
		must_be(kvfs_lookup(&m.fs, NULL, name, (u32)strlen(name), &found), 0);
		must(found.kind == KVFS_KEY && found.size == 2 && found.key_len == strlen(clash[i]));
		kvp_free(found.key);
		/* Within a tree there are no trees. */
		kvfs_name_from_key(&m.fs, t, "foo", 3, name);
		ck_assert_str_eq(name, "foo");
		must(kvfs_tree_ino(t) >= KVFS_INO_FIRST);
		must(kvfs_control_ino(t, KVFS_MK) != kvfs_control_ino(t, KVFS_DEL));
	}
	must_be(kvfs_lookup(&m.fs, NULL, "_mk", 3, &found), 0);
	must(found.kind == KVFS_CONTROL && found.control == KVFS_MK);
	must(kvfs_tree_ino(NULL) == KVFS_ROOT_INO && kvfs_control_ino(NULL, KVFS_DEC) == 5);
	must(kvfs_ino(NULL, "k", 1) != kvfs_ino(t, "k", 1) && kvfs_ino(t, "k", 1) == kvfs_ino(t, "k", 1));
	mount_end(&m);
}
END_TEST

START_TEST(trees_are_directories)
{
	struct kvfs_found found;
	char long_name[70];
	struct mount m;
	kv_tree *t, *u;

	mount_make(&m, _i);
	t = make_tree(&m, "dir");
	must_be(kvfs_mkdir(&m.fs, "dir", 3, &u), -EEXIST);
	must_be(kvfs_mkdir(&m.fs, "main", 4, &u), -EEXIST);
	must_be(kvfs_mkdir(&m.fs, "_inc", 4, &u), -EEXIST);
	must_be(kvfs_mkdir(&m.fs, "%64ir2", 6, &u), -EINVAL);
	must_be(kvfs_mkdir(&m.fs, "\xff\xff", 2, &u), -EINVAL);
	memset(long_name, 'd', sizeof(long_name));
	must_be(kvfs_mkdir(&m.fs, long_name, 65, &u), -ENAMETOOLONG);
	ok(put(&m.v, NULL, "key", "1"));
	must_be(kvfs_mkdir(&m.fs, "key", 3, &u), -EEXIST);
	must_be(kvfs_create(&m.fs, t, "in", 2, &found), 0);
	kvp_free(found.key);
	must_be(kvfs_create(&m.fs, t, "in", 2, &found), -EEXIST);
	must_be(kvfs_create(&m.fs, t, "_mk", 3, &found), -EEXIST);
	must_be(kvfs_lookup(&m.fs, NULL, "in", 2, &found), -ENOENT);
	must_be(kvfs_rmdir(&m.fs, t), -ENOTEMPTY);
	must_be(kvfs_rmdir(&m.fs, NULL), -EBUSY);
	must_be(kvfs_control(&m.fs, t, KVFS_DEL, "in", 2, NULL), 0);
	must_be(kvfs_rmdir(&m.fs, t), 0);
	must_be(kvfs_rmdir(&m.fs, t), -ENOENT);
	must_be(kvfs_lookup(&m.fs, t, "in", 2, &found), -ENOENT);
	must_be(kvfs_lookup(&m.fs, NULL, "dir", 3, &found), -ENOENT);
	must_be(kvfs_control(&m.fs, t, KVFS_MK, "in", 2, NULL), -ENOENT);
	u = make_tree(&m, "dir");
	must_be(kvfs_rmdir(&m.fs, t), -ENOENT);
	must_be(kvfs_rmdir(&m.fs, u), 0);
	mount_end(&m);
}
END_TEST

/* ---- listing --------------------------------------------------------------------------------- */

/* One call of up to room entries; false at the end. */
static bool read_some(struct kvfs_dir *d, struct seen *s, u64 *pos, u32 room)
{
	u32 before = s->nr;

	s->room = room;
	s->next = *pos;
	must_be(kvfs_dir_read(d, pos, take, s), 0);
	must(*pos == s->next);
	return s->nr > before;
}

static u32 times(const struct seen *s, const char *name)
{
	u32 i, n = 0;

	for (i = 0; i < s->nr; i++)
		n += !strcmp(s->names[i], name);
	return n;
}

/* row K3: ls lists the keys */
START_TEST(a_directory_lists_everything_once)
{
	struct seen *s = malloc(sizeof(*s));
	static const u32 rooms[] = { 1, 3, 1000000 };
	struct kvfs_dir *d;
	struct mount m;
	char name[24];
	u32 i, r;
	u64 pos;

	mount_make(&m, _i);
	make_tree(&m, "zz");
	make_tree(&m, "aa");
	for (i = 0; i < 300; i++) {
		sprintf(name, "k%03u", i);
		ok(put(&m.v, NULL, name, "v"));
	}
	for (r = 0; r < 3; r++) {
		must_be(kvfs_dir_open(&m.fs, NULL, &d), 0);
		memset(s, 0, sizeof(*s));
		pos = 1;
		must_be(kvfs_dir_read(d, &pos, take, s), -EINVAL);
		pos = 2;
		while (read_some(d, s, &pos, rooms[r]))
			;
		must(s->nr == 306 && pos == 308);
		ck_assert_str_eq(s->names[0], "_mk");
		ck_assert_str_eq(s->names[4], "aa");
		ck_assert_str_eq(s->names[5], "zz");
		ck_assert_str_eq(s->names[6], "k000");
		ck_assert_str_eq(s->names[305], "k299");
		kvfs_dir_close(d);
	}
	kvfs_dir_close(NULL);
	free(s);
	mount_end(&m);
}
END_TEST

/* As rm -r by FUSE does it: step back, delete, go on. Those never deleted come exactly once. */
START_TEST(a_directory_that_changes_while_it_is_read)
{
	struct seen *s = calloc(1, sizeof(*s));
	u32 i, n, back;
	const char *gone;
	struct kvfs_dir *d;
	struct mount m;
	char name[24];
	u64 pos = 2;

	mount_make(&m, _i);
	for (i = 0; i < 3000; i++) {
		sprintf(name, "k%05u", i * 2);
		ok(kv_put(m.v.db, NULL, name, strlen(name), "v", 1, KV_MEMORY));
	}
	must_be(kvfs_dir_open(&m.fs, NULL, &d), 0);
	for (n = 0; read_some(d, s, &pos, 100); n++) {
		/* The reader had room for fewer than were given. */
		back = n % 3 ? (s->nr > 40 ? 37 : 0) : 0;
		s->nr -= back;
		pos -= back;
		/* Delete some of the last, and some far ahead; make new ones before and behind. */
		for (i = 1; i < 30 && i < s->nr; i++) {
			gone = s->names[s->nr - i];
			if (i % 4 == 1 && gone[0] == 'k' && atoi(gone + 1) % 8 == 2)
				must(kv_del(m.v.db, NULL, gone, 6, KV_MEMORY) <= 0);
		}
		sprintf(name, "k%05u", 10 * n + 1);
		ok(put(&m.v, NULL, name, "new"));
		sprintf(name, "k%05u", 5998 - 8 * n - 4);
		must(del(&m.v, NULL, name) <= 0);
	}
	for (i = 0; i < 3000; i++) {
		sprintf(name, "k%05u", i * 2);
		n = times(s, name);
		if (n > 1 || (!n && !kv_exists(m.v.db, NULL, name, strlen(name), NULL)))
			ck_abort_msg("%s came %u times", name, n);
	}
	kvfs_dir_close(d);
	free(s);
	mount_end(&m);
}
END_TEST

/* seekdir to what telldir gave, in any order; rewinddir; beyond the end. */
START_TEST(positions_stay_good)
{
	struct seen *s = calloc(1, sizeof(*s)), *again = calloc(1, sizeof(*again));
	struct kvfs_dir *d;
	struct mount m;
	char name[24];
	u64 pos = 2;
	u32 i, at;

	mount_make(&m, MEM_DEFAULT);
	for (i = 0; i < 5; i++) {
		sprintf(name, "tree%u", i);
		make_tree(&m, name);
	}
	for (i = 0; i < 5000; i++) {
		sprintf(name, "k%05u", i);
		ok(kv_put(m.v.db, NULL, name, strlen(name), "v", 1, KV_MEMORY));
	}
	must_be(kvfs_dir_open(&m.fs, NULL, &d), 0);
	while (read_some(d, s, &pos, 700))
		;
	must(s->nr == 5009);
	for (i = 0; i < 400; i++) {
		at = (i * 7919u) % s->nr;
		pos = s->pos[at];
		again->nr = 0;
		must(read_some(d, again, &pos, 2));
		ck_assert_str_eq(again->names[0], s->names[at]);
	}
	pos = 1000000;
	must_be(kvfs_dir_read(d, &pos, take, again), 0);
	must(pos == 1000000);
	ok(put(&m.v, NULL, "a-new-one", ""));
	pos = 2;
	again->nr = 0;
	while (read_some(d, again, &pos, 999))
		;
	must(again->nr == 5010 && times(again, "a-new-one") == 1 && times(again, "k04999") == 1);
	kvfs_dir_close(d);
	free(s);
	free(again);
	mount_end(&m);
}
END_TEST

/* ---- control files --------------------------------------------------------------------------- */

/* row K2 row K6 */
START_TEST(control_files)
{
	static const struct { const char *value, *inc, *dec; int inc_err, dec_err; } numbers[] = {
		{ "0b101", "6", "4", 0, 0 }, { "017", "16", "14", 0, 0 }, { "42", "43", "41", 0, 0 },
		{ "0x2a", "43", "41", 0, 0 }, { "-0x1", "0", "-2", 0, 0 }, { "+7", "8", "6", 0, 0 },
		{ "", NULL, NULL, -EINVAL, -EINVAL }, { "x", NULL, NULL, -EINVAL, -EINVAL },
		{ "0b102", NULL, NULL, -EINVAL, -EINVAL }, { "08", NULL, NULL, -EINVAL, -EINVAL },
		{ "9223372036854775807", NULL, "9223372036854775806", -ERANGE, 0 },
		{ "-0x8000000000000000", "-9223372036854775807", NULL, 0, -ERANGE },
		{ "99999999999999999999", NULL, NULL, -ERANGE, -ERANGE },
		{ "1 ", NULL, NULL, -EINVAL, -EINVAL },
	};
	struct kvfs_node *n;
	struct mount m;
	char value[200];
	size_t i;

	mount_make(&m, _i);
	must_be(control(&m, KVFS_DEL, "k", NULL), -ENOENT);
	must_be(control(&m, KVFS_INC, "k", NULL), -ENOENT);
	must_be(control(&m, KVFS_DEC, "k", NULL), -ENOENT);
	must_be(control(&m, KVFS_MK, "k", NULL), 0);
	must_be(control(&m, KVFS_MK, "k", NULL), -EEXIST);
	n = node_of(&m, "k");
	must(!size_of(&m, n));
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		ok(put(&m.v, NULL, "k", numbers[i].value));
		must_be(control(&m, KVFS_INC, "k", i % 2 ? n : NULL), numbers[i].inc_err);
		expect(&m.v, NULL, "k", numbers[i].inc ? numbers[i].inc : numbers[i].value);
		ok(put(&m.v, NULL, "k", numbers[i].value));
		must_be(control(&m, KVFS_DEC, "k", i % 2 ? n : NULL), numbers[i].dec_err);
		expect(&m.v, NULL, "k", numbers[i].dec ? numbers[i].dec : numbers[i].value);
	}
	memset(value, '1', sizeof(value));
	ok(kv_put(m.v.db, NULL, "k", 1, value, sizeof(value), 0));
	must_be(control(&m, KVFS_INC, "k", n), -EINVAL);
	must_be(control(&m, KVFS_DEL, "k", n), 0);
	must(n->gone);
	must_be(control(&m, KVFS_DEL, "k", n), -ENOENT);
	must_be(kvfs_control(&m.fs, NULL, KVFS_MK, "", 0, NULL), -EINVAL);
	must_be(kvfs_control(&m.fs, NULL, KVFS_CONTROLS, "x", 1, NULL), -EINVAL);
	must_be(kvfs_control(&m.fs, NULL, KVFS_MK, value, m.fs.key_max + 1, NULL), -ENAMETOOLONG);
	must_be(kvfs_control_key(&m.fs, "a\n", 2), 2);
	must_be(kvfs_control_key(&m.fs, "", 0), -EINVAL);
	must_be(kvfs_control_key(&m.fs, value, m.fs.key_max + 2), -ENAMETOOLONG);
	m.fs.strip_nl = true;
	must_be(kvfs_control_key(&m.fs, "a\n", 2), 1);
	must_be(kvfs_control_key(&m.fs, "a\n\n", 3), 2);
	must_be(kvfs_control_key(&m.fs, "\n", 1), -EINVAL);
	node_end(n);
	mount_end(&m);
}
END_TEST

/* ---- rename ---------------------------------------------------------------------------------- */

/* row K15 */
START_TEST(rename_moves_the_node)
{
	uint8_t *big = calloc(1, 2u << 20);
	struct kvfs_node *n, *victim;
	struct kvfs_file *f, *old;
	struct kvfs_found found;
	struct mount m;
	kv_tree *t;
	u64 pos = 0;

	mount_make(&m, _i);
	t = make_tree(&m, "dir");
	ok(put(&m.v, NULL, "a", "va"));
	ok(put(&m.v, NULL, "b", "vb"));
	n = node_of(&m, "a");
	victim = node_of(&m, "b");
	f = file_of(&m, n, 0);
	old = file_of(&m, victim, 0);
	must_be(kvfs_rename(&m.fs, n, NULL, "b", 1, victim, true), -EEXIST);
	must_be(kvfs_rename(&m.fs, n, NULL, "_mk", 3, NULL, false), -EPERM);
	must_be(kvfs_rename(&m.fs, n, NULL, "dir", 3, NULL, false), -EISDIR);
	must_be(kvfs_rename(&m.fs, n, NULL, "dir", 3, NULL, true), -EEXIST);
	must_be(kvfs_rename(&m.fs, n, NULL, "%41", 3, NULL, false), -EINVAL);
	must_be(kvfs_rename(&m.fs, n, NULL, "a", 1, n, false), 0);
	must_be(kvfs_rename(&m.fs, n, NULL, "b", 1, victim, false), 0);
	must(victim->gone && n->key_len == 1 && n->key[0] == 'b');
	expect_none(&m.v, NULL, "a");
	expect_read(f, &pos, "va");
	must(write_text(old, "late") == -ESTALE);
	must(write_text(f, "v2") == 2);
	expect(&m.v, NULL, "b", "v2");
	must_be(kvfs_rename(&m.fs, n, t, "_x", 2, NULL, true), 0);
	must(n->tree == t);
	expect(&m.v, t, "_x", "v2");
	must(count(&m.v, NULL) == 0);
	/* Too long for one batch. */
	must(file_write(f, 0, big, 2u << 20) == 2 << 20);
	must_be(kvfs_rename(&m.fs, n, NULL, "big", 3, NULL, false), -EFBIG);
	m.fs.stream = true;
	must_be(kvfs_rename(&m.fs, n, NULL, "big", 3, NULL, false), -EXDEV);
	m.fs.stream = false;
	must_be(kvfs_lookup(&m.fs, t, "_x", 2, &found), 0);
	kvp_free(found.key);
	must(file_write(f, 0, big, m.v.st.chunk_bytes) == (long)m.v.st.chunk_bytes);
	must_be(kvfs_rename(&m.fs, n, NULL, "big", 3, NULL, false), 0);
	must(size_of(&m, n) == m.v.st.chunk_bytes);
	/* The node is not that of the key any longer. */
	must_be(control(&m, KVFS_DEL, "_x", n), -ENOENT);
	must(!n->gone);
	kvfs_file_close(f);
	kvfs_file_close(old);
	node_end(n);
	node_end(victim);
	free(big);
	mount_end(&m);
}
END_TEST

/* ---- errors ---------------------------------------------------------------------------------- */

START_TEST(classes_of_errors_are_errno_values)
{
	static const struct { int class, err; } map[] = {
		{ KV_OK, 0 }, { 5, 0 }, { KV_E_NOTFOUND, -ENOENT }, { KV_E_EXISTS, -EEXIST },
		{ KV_E_INVALID, -EINVAL }, { KV_E_TOOBIG, -EFBIG }, { KV_E_NUMBER, -EINVAL },
		{ KV_E_NOSPACE, -ENOSPC }, { KV_E_NOMEM, -ENOMEM }, { KV_E_IO, -EIO },
		{ KV_E_CORRUPT, -EUCLEAN }, { KV_E_UNSUPPORTED, -EOPNOTSUPP }, { KV_E_NOTVOLUME, -EINVAL },
		{ KV_E_BUSY, -EBUSY }, { KV_E_READONLY, -EROFS }, { KV_E_INDETERMINATE, -EIO },
		{ KV_E_TOOOLD, -ESTALE }, { KV_E_CANCELLED, -EINTR }, { -999, -EIO },
	};
	size_t i;

	for (i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		must_be(kvfs_errno(map[i].class), map[i].err);
}
END_TEST

/* Everything that changes something says EROFS, everything else works. */
START_TEST(read_only_volumes)
{
	struct kvfs_found found;
	struct kvfs_file *f, *a;
	struct kvfs_node *n;
	struct mount m;
	kv_tree *t;
	u64 pos = 0;

	mount_make(&m, MEM_DEFAULT);
	ok(put(&m.v, NULL, "k", "5"));
	t = make_tree(&m, "dir");
	volume_close(&m.v);
	m.v.opt.flags |= KV_OPEN_READONLY;
	volume_open(&m.v);
	m.fs.db = m.v.db;
	n = node_of(&m, "k");
	f = file_of(&m, n, 0);
	a = file_of(&m, n, KVFS_O_APPEND);
	expect_read(f, &pos, "5");
	must(write_text(f, "x") == -EROFS && write_text(a, "x") == -EROFS);
	m.fs.stream = true;
	must(write_text(f, "x") == -EROFS);
	must_be(kvfs_file_flush(f), 0);
	kvfs_file_truncate_later(f);
	must_be(kvfs_file_flush(f), -EROFS);
	must_be(control(&m, KVFS_MK, "new", NULL), -EROFS);
	must_be(control(&m, KVFS_DEL, "k", n), -EROFS);
	must_be(control(&m, KVFS_INC, "k", n), -EROFS);
	must_be(kvfs_create(&m.fs, NULL, "new", 3, &found), -EROFS);
	must_be(kvfs_unlink(&m.fs, n), -EROFS);
	must_be(kvfs_node_truncate(&m.fs, n, 9), -EROFS);
	must_be(kvfs_rename(&m.fs, n, NULL, "z", 1, NULL, false), -EROFS);
	must_be(kvfs_mkdir(&m.fs, "d2", 2, &t), -EROFS);
	must_be(kvfs_lookup(&m.fs, NULL, "dir", 3, &found), 0);
	must_be(kvfs_rmdir(&m.fs, found.tree), -EROFS);
	must(!n->gone && size_of(&m, n) == 1);
	kvfs_file_close(f);
	kvfs_file_close(a);
	node_end(n);
	mount_end(&m);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("kvfs");
	TCase *t = tcase_create("kvfs");

	tcase_set_timeout(t, 400); /* a sanitizer on a busy machine */
	tcase_add_loop_test(t, names_are_escaped_and_canonical, 0, MEM_WORLDS);
	tcase_add_test(t, long_keys_have_aliases);
	tcase_add_test(t, keys_that_are_too_long);
	tcase_add_test(t, an_alias_is_searched_within_bounds);
	tcase_add_loop_test(t, keys_and_trees_do_not_clash, 0, MEM_WORLDS);
	tcase_add_loop_test(t, trees_are_directories, 0, MEM_WORLDS);
	tcase_add_loop_test(t, a_directory_lists_everything_once, 0, MEM_WORLDS);
	tcase_add_loop_test(t, a_directory_that_changes_while_it_is_read, 0, MEM_WORLDS);
	tcase_add_test(t, positions_stay_good);
	tcase_add_loop_test(t, control_files, 0, MEM_WORLDS);
	tcase_add_loop_test(t, rename_moves_the_node, 0, MEM_WORLDS);
	tcase_add_test(t, classes_of_errors_are_errno_values);
	tcase_add_test(t, read_only_volumes);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
