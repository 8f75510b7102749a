/* Events: a stable name, severity, meaning and remedy each, in one table (events.c), from which
 * docs/events.md is made. The board holds those that are true now; raising and clearing one logs
 * the transition once. Thread-safe. */
#ifndef SSO_CUSTODIAN_EVENTS_H
#define SSO_CUSTODIAN_EVENTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

enum severity { SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_ERROR };

/* EVENT_BACKUP_MISSING … one for each row of the table. */
enum event {
    EVENT_BACKUP_MISSING,
    EVENT_DRILL_DUE,
    EVENT_HSM_UNAVAILABLE,
    EVENT_PIN_REFUSED,
    EVENT_WORKER_REPLACED,
    EVENT_SESSIONS_SHORT,
    EVENT_NO_MASTER_SECRET,
    EVENT_WRONG_MASTER_SECRET,
    EVENT_GENERATION_COMPROMISED,
    EVENT_GENERATION_CLOSED,
    EVENT_WEAK_TOKEN,
    EVENT_WRAPS_HIGH,
    EVENT_DATABASE_UNAVAILABLE,
    EVENT_DATABASE_WENT_BACK,
    EVENT_DATABASE_LOCKED,
    EVENT_MASTER_LOST,
    EVENT_MASTER_TAKEN,
    EVENT_AUDIT_UNAVAILABLE,
    EVENT_AUDIT_TRUNCATED,
    EVENT_AUDIT_UNSIGNED,
    EVENT_JOURNAL_UNAVAILABLE,
    EVENT_POLICY_TAMPERED,
    EVENT_ENCRYPT_FAILED,
    EVENT_DECRYPT_FAILED,
    EVENT_ROTATION_UNFINISHED,
    EVENT_ROTATION_FAILED,
    EVENT_QUARANTINE_NOT_EMPTY,
    EVENT_RENEWAL_DUE,
    EVENT_CREDENTIALS_EXPOSED,
    EVENT_SETTINGS_DIFFER,
    EVENT_SYSTEM_DISABLED,
    EVENT_CREDENTIAL_SET_FOR_OTHER,
    EVENT_CERTIFICATE_EXPIRES,
    EVENT_CERTIFICATE_EXPIRED,
    EVENT_TLS_FILES_REFUSED,
    EVENTS
};

struct event_facts {
    const char *name;
    enum severity severity;
    const char *meaning;
    const char *remedy;
    bool lasting; /* stays on the board until it is cleared; else it is only logged and counted */
};
extern const struct event_facts event_table[EVENTS];

struct event_board;
enum sso_code event_board_new(struct event_board **out, struct sso_error *err)
    __attribute__((warn_unused_result));
void event_board_free(struct event_board **board);
void event_raise(struct event_board *board, enum event event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void event_clear(struct event_board *board, enum event event);
/* Milliseconds since it was last raised, again or anew; -1 where it is not on the board. */
int64_t event_age_ms(struct event_board *board, enum event event);
uint64_t event_count(struct event_board *board, enum event event); /* times raised anew */
const char *severity_name(enum severity severity);
/* The highest severity on the board; the "events" array of health into *out where it is not NULL.
 */
enum severity event_board_read(struct event_board *board, json_t **out);

#endif
