/* Heads of the audit chain in the systemd journal, where who owns the database cannot write: one
 * datagram for each by the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
 * sd_journal_sendv(3) is no use here: it calls it a success when there is no journal. */
#ifndef SSO_CUSTODIAN_JOURNAL_H
#define SSO_CUSTODIAN_JOURNAL_H

#include "common/audit_record.h"
#include "common/error.h"

#include <pthread.h>

enum journal_mode { JOURNAL_OFF, JOURNAL_BEST_EFFORT, JOURNAL_REQUIRED };

/* How it is told, and how that went. One thread tells; any may set the mode and ask. */
struct journal {
    pthread_mutex_t lock;
    const char *socket; /* the caller's */
    enum journal_mode mode;
    struct sso_error problem;   /* of the last time */
    int64_t told_ms, failed_ms; /* boot clock; the telling thread's */
};
void journal_init(struct journal *journal); /* off */
void journal_dispose(struct journal *journal);
void journal_use(struct journal *journal, const char *socket, enum journal_mode mode);
/* SSO_OK, or why it was not told last. */
enum sso_code journal_state(struct journal *journal, struct sso_error *err);

/* JOURNAL_REQUIRED where the setting's value is none of the three. */
enum journal_mode journal_mode_of(const char *setting);

/* `last` is the record that is to be the end of the chain. With JOURNAL_REQUIRED it is told before
 * the commit: SSO_AUDIT_UNAVAILABLE where that fails, after two seconds at most. */
enum sso_code journal_before_commit(struct journal *journal, const struct audit_record *last,
                                    struct sso_error *err) __attribute__((warn_unused_result));
/* The commit failed after that. */
void journal_withdraw(struct journal *journal, const struct audit_record *last);
/* With JOURNAL_BEST_EFFORT it is told afterwards, once a second at most. */
void journal_after_commit(struct journal *journal, const struct audit_record *last);

#endif
