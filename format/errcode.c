/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * errcode.c - names and sentences of errors and findings, made from the two tables in kv_errcode.h and
 * kv_finding.h; nothing is said twice.
 */
#include "kvf.h"

#define CLASS_FACTOR 100

int kvf_err_class(int err)
{
	return err <= -CLASS_FACTOR ? -(-err / CLASS_FACTOR) : err;
}

static int magnitude(int err)
{
	return err < 0 ? -err : err;
}

const char *kvf_err_name(int err)
{
	switch (magnitude(err)) {
#define CASE(name, number, errno_, sentence) \
	case number: \
		return #name;
		KVE_ERRORS(CASE)
#undef CASE
	default:
		return "?";
	}
}

const char *kvf_err_text(int err)
{
	switch (magnitude(err)) {
#define CASE(name, number, errno_, sentence) \
	case number: \
		return sentence;
		KVE_ERRORS(CASE)
#undef CASE
	default:
		return "?";
	}
}

const char *kvf_finding_name(int finding)
{
	switch (finding) {
#define CASE(name, number, sentence) \
	case number: \
		return #name;
		KVF_FINDINGS(CASE)
#undef CASE
	default:
		return "?";
	}
}

const char *kvf_finding_text(int finding)
{
	switch (finding) {
#define CASE(name, number, sentence) \
	case number: \
		return sentence;
		KVF_FINDINGS(CASE)
#undef CASE
	default:
		return "?";
	}
}
