/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ticket.c - durable commits that nobody has to wait for.
 *
 * A ticket is the LSN of a change: it is durable when the log is, up to there. A thread of the volume's own,
 * started with the first ticket, asks for a sync like any other (log_sync.c: it joins the group that is open
 * and leads if nobody does) until nothing that a ticket names is left, and calls back. So a group takes all
 * that has come during the last one, whoever waits meanwhile, and no thread is woken per change. Without
 * threads (KV_OPEN_NOTHREAD) whoever asks for a ticket leads.
 *
 * A sync that fails degrades the volume, once and for all: every ticket that is not durable by then, also one
 * whose change came later, fails.
 */
#include "kve.h"

/* Somebody wants to hear of a ticket. */
struct kve_listener {
	struct kve_listener *next; /* of a later ticket, or the same */
	u64 lsn;
	kv_durable_fn fn;
	void *arg;
};

void kve_tickets_init(struct kv_db *db)
{
	kvp_cond_init(&db->tickets.wake);
}

#define PENDING 1

/* 0: durable. PENDING: not yet. */
static int state_of(struct kv_db *db, u64 lsn)
{
	if (kvp_load_acquire(&db->log.durable_lsn) >= lsn || KVP_BUG("early-ticket"))
		return 0;
	return kvp_load_acquire(&db->degraded) ? -KVE_indeterminate : PENDING;
}

/* ---- telling: sync lock -------------------------------------------------------------------------- */

/* Call back for what is decided, in the order of the tickets, one after the other. */
static void tell(struct kv_db *db)
{
	struct kve_tickets *tk = &db->tickets;
	struct kve_listener *l;
	int err;

	kvp_mutex_lock(&db->log.sync);
	/* Whoever is at it looks again before it ends. */
	if (tk->telling)
		goto out;
	tk->telling = true;
	while ((l = tk->first) && (err = state_of(db, l->lsn)) != PENDING) {
		tk->first = l->next;
		kvp_mutex_unlock(&db->log.sync);
		l->fn(l->arg, l->lsn, err ? kvf_err_class(err) : 0);
		kvp_free(l);
		kvp_mutex_lock(&db->log.sync);
	}
	tk->telling = false;
out:
	kvp_mutex_unlock(&db->log.sync);
}

static void listener_add(struct kve_tickets *tk, struct kve_listener *l)
{
	struct kve_listener **link = &tk->first;

	/* Mostly the last one. */
	if (tk->first && tk->last->lsn <= l->lsn)
		link = &tk->last->next;
	while (*link && (*link)->lsn <= l->lsn)
		link = &(*link)->next;
	l->next = *link;
	*link = l;
	if (!l->next)
		tk->last = l;
}

/* ---- the thread ---------------------------------------------------------------------------------- */

static void syncer(void *arg)
{
	struct kv_db *db = arg;
	struct kve_tickets *tk = &db->tickets;
	u64 lsn;
	bool told;

	kvp_mutex_lock(&db->log.sync);
	while (!tk->stop) {
		lsn = tk->asked;
		told = !tk->first || state_of(db, tk->first->lsn) == PENDING;
		if (told && state_of(db, lsn) != PENDING) {
			tk->idle = true;
			kvp_cond_wait(&tk->wake, &db->log.sync);
			tk->idle = false;
			continue;
		}
		kvp_mutex_unlock(&db->log.sync);
		/* An error degrades: then the state says so. */
		(void)kve_log_sync(db, lsn);
		tell(db);
		kvp_mutex_lock(&db->log.sync);
	}
	kvp_mutex_unlock(&db->log.sync);
}

int kve_ticket_begin(struct kv_db *db, u32 *flags)
{
	struct kve_tickets *tk = &db->tickets;
	struct kvp_thread *thread = NULL;
	int err = 0;

	if ((*flags & 0xf) == KV_SYNCED)
		return kve_fail(db, KVE_invalid, "a change that is synced needs no ticket");
	if (!(*flags & 0xf))
		*flags |= (u32)KVF_MIN(db->durability, (int)KV_KILL_SAFE);
	if (db->no_thread || kvp_load_acquire(&tk->thread))
		return 0;
	kvp_mutex_lock(&db->log.sync);
	if (!tk->thread)
		err = kvp_thread_start(&thread, "kvs-sync", syncer, db);
	if (thread)
		kvp_store_release(&tk->thread, thread);
	kvp_mutex_unlock(&db->log.sync);
	return err;
}

void kve_ticket_ask(struct kv_db *db, u64 lsn)
{
	struct kve_tickets *tk = &db->tickets;

	kvp_mutex_lock(&db->log.sync);
	kvp_store(&tk->asked, KVF_MAX(tk->asked, lsn));
	if (tk->idle)
		kvp_cond_signal(&tk->wake);
	kvp_mutex_unlock(&db->log.sync);
}

static void syncer_stop(struct kv_db *db)
{
	struct kve_tickets *tk = &db->tickets;

	if (!tk->thread)
		return;
	kvp_mutex_lock(&db->log.sync);
	tk->stop = true;
	kvp_cond_signal(&tk->wake);
	kvp_mutex_unlock(&db->log.sync);
	kvp_thread_join(tk->thread);
	tk->thread = NULL;
	tk->stop = false;
}

void kve_tickets_finish(struct kv_db *db)
{
	u64 asked = db->tickets.asked;

	syncer_stop(db);
	if (state_of(db, asked) == PENDING)
		(void)kve_log_sync(db, asked);
	tell(db);
}

void kve_tickets_exit(struct kv_db *db)
{
	struct kve_listener *l;

	syncer_stop(db);
	while ((l = db->tickets.first)) {
		db->tickets.first = l->next;
		kvp_free(l);
	}
	kvp_cond_destroy(&db->tickets.wake);
}

/* ---- the calls ----------------------------------------------------------------------------------- */

/* As state_of(), of what a caller says is a ticket. lead: make it durable if nobody else will. */
static int ticket_state(struct kv_db *db, kv_ticket t, bool lead)
{
	int err = state_of(db, t);

	if (err && t > kvp_load(&db->tickets.asked))
		return kve_fail(db, KVE_invalid, "no ticket of this volume");
	if (err == PENDING && lead) {
		(void)kve_log_sync(db, t);
		err = state_of(db, t);
	}
	if (!kvp_load(&db->tickets.thread))
		tell(db);
	if (err == -KVE_indeterminate)
		return kve_fail(db, KVE_indeterminate, "%s", db->reason);
	return err;
}

int kv_durable(kv_db *db, kv_ticket t, int *durable)
{
	int err = kve_enter(db, false);

	*durable = 0;
	if (!err)
		err = ticket_state(db, t, db->no_thread);
	if (err == PENDING)
		return 0;
	*durable = !err;
	return kve_return(db, err);
}

int kv_wait(kv_db *db, kv_ticket t)
{
	int err = kve_enter(db, false);

	if (!err)
		err = ticket_state(db, t, true);
	return kve_return(db, err);
}

int kv_on_durable(kv_db *db, kv_ticket t, kv_durable_fn fn, void *arg)
{
	struct kve_listener *l;
	int err = kve_enter(db, false);

	if (!err && t > kvp_load(&db->tickets.asked))
		err = kve_fail(db, KVE_invalid, "no ticket of this volume");
	if (err)
		return kve_return(db, err);
	l = kvp_alloc(sizeof(*l), 0);
	if (!l)
		return kve_return(db, -KVE_no_memory);
	l->lsn = t;
	l->fn = fn;
	l->arg = arg;
	kvp_mutex_lock(&db->log.sync);
	listener_add(&db->tickets, l);
	if (db->tickets.idle)
		kvp_cond_signal(&db->tickets.wake);
	kvp_mutex_unlock(&db->log.sync);
	if (!kvp_load(&db->tickets.thread))
		tell(db);
	return 0;
}

int kv_sync_async(kv_db *db, kv_ticket *t)
{
	u32 flags = 0;
	int err = kve_enter(db, true);

	if (!err)
		err = kve_ticket_begin(db, &flags);
	if (!err) {
		kvp_mutex_lock(&db->log.append);
		*t = db->log.filled_lsn;
		kvp_mutex_unlock(&db->log.append);
		kve_ticket_ask(db, *t);
	}
	return kve_return(db, err);
}
