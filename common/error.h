/*
 * Outcomes. `enum sso_code` is what code branches on; `struct sso_error` is what a person reads.
 * The lowest layer that knows why something failed writes the text, the layers above pass it on,
 * and only custodian and cli print it. The text never holds a secret.
 */
#ifndef SSO_COMMON_ERROR_H
#define SSO_COMMON_ERROR_H

#include <stdbool.h>

enum sso_code {
    SSO_OK = 0,
    SSO_USAGE,
    SSO_BAD_REQUEST,
    SSO_FORBIDDEN,
    SSO_NOT_FOUND,
    SSO_ALREADY_EXISTS,
    SSO_APPLICATION_DISABLED,
    SSO_MAPPING_DISABLED,
    SSO_SYSTEM_DISABLED,
    SSO_ROTATION_IN_PROGRESS,
    SSO_IN_USE,
    SSO_GENERATION_COMPROMISED,
    SSO_WRAPS_EXHAUSTED,
    SSO_CONFIRMATION_NEEDED,
    SSO_VERSION_CONFLICT,
    SSO_TICKETS_DISABLED,
    SSO_TICKET_INVALID, /* not a ticket at all */
    SSO_TICKET_FORGED,  /* no key of this system made it, or it was changed */
    SSO_TICKET_EXPIRED,
    SSO_TICKET_REPLAYED,
    SSO_TICKET_OF_OTHER_SYSTEM,
    SSO_TICKET_WRONG_SENDER,
    SSO_TICKET_USER_NOT_ALLOWED, /* is no user of the application */
    SSO_TOO_LARGE,
    SSO_TOO_MANY_REQUESTS,
    SSO_MASTER_UNAVAILABLE,
    SSO_HSM_UNAVAILABLE,
    SSO_DATABASE_UNAVAILABLE,
    SSO_AUDIT_UNAVAILABLE,
    SSO_DATABASE_WENT_BACK,
    SSO_SERVICE_UNAVAILABLE,
    SSO_NO_MASTER_SECRET,
    SSO_WRONG_MASTER_SECRET,
    SSO_PIN_REFUSED,
    SSO_ROW_CORRUPT,
    SSO_ROW_KILLS_WORKER,
    SSO_POLICY_TAMPERED,
    SSO_INTERNAL,
    SSO_CONFIG_ERROR,
    SSO_TOKEN_NOT_FOUND,
    SSO_TOKEN_AMBIGUOUS,
    SSO_TOKEN_NOT_SUITABLE,
    SSO_KEY_NOT_ACCEPTABLE,
    SSO_SCHEMA_NEWER,
    SSO_SCHEMA_OLDER,
    SSO_WRONG_SHARES,
    SSO_TOO_FEW_SHARES,
    SSO_SHARE_REPEATED,
    SSO_SHARES_OF_DIFFERENT_SETS,
    SSO_WRONG_PASSPHRASE,
    SSO_BACKUP_INVALID,
    SSO_BACKUP_TAMPERED,
    SSO_BACKUP_OF_OTHER_SYSTEM,
    SSO_DATABASE_OF_OTHER_SYSTEM, /* the database belongs to another system or program */
    SSO_INTERRUPTED,              /* Ctrl-C or the like, by a person; nothing was changed */
    SSO_NO_MEMORY,                /* memory, or memory that may be locked, has run out */
    SSO_CODES
};

#define SSO_ERROR_DETAIL_BYTES 640

struct sso_error {
    enum sso_code code;
    char detail[SSO_ERROR_DETAIL_BYTES];
};

/* What is fixed about a code: its name in JSON, a title for people, the HTTP status (0: never sent
 * over HTTP) and the exit code of sso-hsm. */
struct sso_code_facts {
    const char *name;
    const char *title;
    int http_status;
    int exit_code;
};

const struct sso_code_facts *sso_code_facts(enum sso_code code);

/* The code with this name, or SSO_INTERNAL where nobody knows the name. */
enum sso_code sso_code_from_name(const char *name);

/* Writes code and text (cut to fit, `err` may be NULL) and returns the code, so that a failure is
 * one line: return sso_fail(err, SSO_NOT_FOUND, "application %s does not exist", name); */
enum sso_code sso_fail(struct sso_error *err, enum sso_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As sso_fail, with ": " and the text of `error_number` appended. */
enum sso_code sso_fail_errno(struct sso_error *err, enum sso_code code, int error_number,
                             const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Puts a prefix in front of the text that a lower layer wrote. Returns err's code. */
enum sso_code sso_error_context(struct sso_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
