/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * err.c - errors on their way to the caller, and the health of the volume.
 *
 * A code is returned from one place with a text that says what, where and what to do; kve_return()
 * folds it into its class for the public API. kve_degrade() is final for the handle: CONTRACT C9, C12.
 */
#include "kve.h"

static int fail_text(struct kv_db *db, int code, const char *text)
{
	char *out = kvp_error_text();
	const char *name = db->dev ? db->dev->name : "volume";

	if (out)
		kvp_snprintf(out, KVP_ERROR_BYTES, "%s: %s: %s", name, kvf_err_text(code), text);
	if (code / 100 == KVE_io / 100 || code / 100 == KVE_corrupt / 100 || code == KVE_degraded)
		kvp_log(&db->logger, KVP_LOG_ERROR, "%s: %s: %s", name, kvf_err_text(code), text);
	return -code;
}

/* Formats into a text on the stack, then hands on: the port has no va_list. */
#define KVE_TEXT(text, fmt)                                                                        \
	char text[256];                                                                            \
	__builtin_va_list ap;                                                                      \
	__builtin_va_start(ap, fmt);                                                               \
	kvp_vsnprintf(text, sizeof(text), fmt, ap);                                                \
	__builtin_va_end(ap)

int kve_fail(struct kv_db *db, int code, const char *fmt, ...)
{
	KVE_TEXT(text, fmt);

	return fail_text(db, code, text);
}

int kve_degrade(struct kv_db *db, int code, const char *fmt, ...)
{
	KVE_TEXT(text, fmt);
	struct kvf_error_entry *e;

	kvp_mutex_lock(&db->state);
	if (!db->degraded) {
		/* Whoever sees the code may read the reason. */
		kvp_snprintf(db->reason, sizeof(db->reason), "%s: %s", kvf_err_text(code), text);
		kvp_store_release(&db->degraded, code);
		e = &db->sb.errors[le32_to_cpu(db->sb.errors_nr) % KVF_ERRORS];
		e->time = cpu_to_le64(kvp_now_ns() / 1000000000);
		e->code = cpu_to_le32(code);
		e->segment = cpu_to_le32(KVF_NO_SEGMENT);
		db->sb.errors_nr = cpu_to_le32(le32_to_cpu(db->sb.errors_nr) + 1);
	}
	kvp_cond_broadcast(&db->done);
	kvp_mutex_unlock(&db->state);
	return fail_text(db, code, text);
}

int kve_return(struct kv_db *db, int err)
{
	char *text = kvp_error_text();

	if (err >= 0)
		return err;
	if (text && !text[0])
		kvp_snprintf(text, KVP_ERROR_BYTES, "%s: %s", db && db->dev ? db->dev->name : "kvs",
			     kvf_err_text(err));
	return kvf_err_class(err);
}

int kve_enter(struct kv_db *db, bool write)
{
	char *text = kvp_error_text();
	int degraded;

	if (text)
		text[0] = 0;
	if (kvp_unlikely(db->process != kvp_process_id()))
		return -KVE_forked;
	if (!write)
		return 0;
	if (db->read_only)
		return -KVE_read_only;
	degraded = kvp_load_acquire(&db->degraded);
	if (kvp_unlikely(degraded))
		return kve_fail(db, KVE_degraded, "%s", db->reason);
	return 0;
}
