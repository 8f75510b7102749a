#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* INTERFACE §4. A status of 0 is never sent over HTTP. */
static const struct sso_code_facts facts[SSO_CODES] = {
    [SSO_OK] = {"ok", "Done", 200, 0},
    [SSO_USAGE] = {"usage", "Wrong use", 0, 2},
    [SSO_BAD_REQUEST] = {"bad_request", "The request is not well formed", 400, 1},
    [SSO_FORBIDDEN] = {"forbidden", "Not allowed", 403, 4},
    [SSO_NOT_FOUND] = {"not_found", "There is no such thing", 404, 1},
    [SSO_ALREADY_EXISTS] = {"already_exists", "It exists already", 409, 1},
    [SSO_APPLICATION_DISABLED] = {"application_disabled", "The application is disabled", 409, 1},
    [SSO_MAPPING_DISABLED] = {"mapping_disabled", "The mapping is disabled", 409, 1},
    [SSO_SYSTEM_DISABLED] = {"system_disabled", "The system is disabled", 409, 1},
    [SSO_ROTATION_IN_PROGRESS] = {"rotation_in_progress", "A rotation is in progress", 409, 1},
    [SSO_IN_USE] = {"in_use", "It is still in use", 409, 1},
    [SSO_GENERATION_COMPROMISED] = {"generation_compromised",
                                    "The generation is marked as compromised", 409, 1},
    [SSO_WRAPS_EXHAUSTED] = {"wraps_exhausted", "The generation may wrap no more keys", 409, 1},
    [SSO_CONFIRMATION_NEEDED] = {"confirmation_needed", "A second administrator must confirm", 409,
                                 1},
    [SSO_VERSION_CONFLICT] = {"version_conflict", "Somebody else changed it meanwhile", 412, 1},
    [SSO_TICKETS_DISABLED] = {"tickets_disabled", "Tickets are not allowed", 409, 1},
    [SSO_TICKET_INVALID] = {"ticket_invalid", "It is not a ticket", 400, 1},
    [SSO_TICKET_FORGED] = {"ticket_forged", "The ticket was not issued here, or was changed", 409,
                           1},
    [SSO_TICKET_EXPIRED] = {"ticket_expired", "The ticket has expired", 409, 1},
    [SSO_TICKET_REPLAYED] = {"ticket_replayed", "The ticket was redeemed before", 409, 1},
    [SSO_TICKET_OF_OTHER_SYSTEM] = {"ticket_of_other_system", "The ticket is of another system",
                                    409, 1},
    [SSO_TICKET_WRONG_SENDER] = {"ticket_wrong_sender", "The ticket is not the sender's", 409, 1},
    [SSO_TICKET_USER_NOT_ALLOWED] = {"ticket_user_not_allowed",
                                     "The ticket's user is no user of the application", 409, 1},
    [SSO_TOO_LARGE] = {"too_large", "The request is too large", 413, 1},
    [SSO_TOO_MANY_REQUESTS] = {"too_many_requests", "Too many requests", 429, 5},
    [SSO_MASTER_UNAVAILABLE] = {"master_unavailable", "The master is not available", 503, 5},
    [SSO_HSM_UNAVAILABLE] = {"hsm_unavailable", "The HSM is not available", 503, 5},
    [SSO_DATABASE_UNAVAILABLE] = {"database_unavailable",
                                  "The credential database is not available", 503, 5},
    [SSO_AUDIT_UNAVAILABLE] = {"audit_unavailable", "The audit cannot be written", 503, 5},
    [SSO_DATABASE_WENT_BACK] = {"database_went_back",
                                "The credential database is older than it was", 503, 5},
    [SSO_SERVICE_UNAVAILABLE] = {"service_unavailable", "The service does not answer", 0, 5},
    [SSO_NO_MASTER_SECRET] = {"no_master_secret", "The token does not hold the master secret", 503,
                              1},
    [SSO_WRONG_MASTER_SECRET] = {"wrong_master_secret",
                                 "The key in the token is not the master secret", 503, 1},
    [SSO_PIN_REFUSED] = {"pin_refused", "The token refused the PIN", 503, 1},
    [SSO_ROW_CORRUPT] = {"row_corrupt", "The row is damaged or was changed", 500, 1},
    [SSO_ROW_KILLS_WORKER] = {"row_kills_worker", "The row makes the HSM's module fail", 500, 1},
    [SSO_POLICY_TAMPERED] = {"policy_tampered",
                             "A row that decides on rights was changed in the database", 500, 1},
    [SSO_INTERNAL] = {"internal", "Internal error", 500, 1},
    [SSO_CONFIG_ERROR] = {"config_error", "The configuration is wrong", 0, 1},
    [SSO_TOKEN_NOT_FOUND] = {"token_not_found", "No token fits", 0, 1},
    [SSO_TOKEN_AMBIGUOUS] = {"token_ambiguous", "More than one token fits", 0, 1},
    [SSO_TOKEN_NOT_SUITABLE] = {"token_not_suitable", "The token cannot do what is needed", 0, 1},
    [SSO_KEY_NOT_ACCEPTABLE] = {"key_not_acceptable", "The key is not a safe master secret", 0, 1},
    [SSO_SCHEMA_NEWER] = {"schema_newer", "The database is of a newer version", 0, 1},
    [SSO_SCHEMA_OLDER] = {"schema_older", "The database is of an older version", 0, 1},
    [SSO_WRONG_SHARES] = {"wrong_shares", "The shares do not open this backup", 0, 1},
    [SSO_TOO_FEW_SHARES] = {"too_few_shares", "Too few shares", 0, 1},
    [SSO_SHARE_REPEATED] = {"share_repeated", "A share was given twice", 0, 1},
    [SSO_SHARES_OF_DIFFERENT_SETS] = {"shares_of_different_sets",
                                      "The shares are of different sets", 0, 1},
    [SSO_WRONG_PASSPHRASE] = {"wrong_passphrase", "Wrong passphrase", 0, 1},
    [SSO_BACKUP_INVALID] = {"backup_invalid", "Not a backup file", 0, 1},
    [SSO_BACKUP_TAMPERED] = {"backup_tampered", "The backup file was changed", 0, 1},
    [SSO_BACKUP_OF_OTHER_SYSTEM] = {"backup_of_other_system", "The backup is of another system", 0,
                                    1},
    [SSO_DATABASE_OF_OTHER_SYSTEM] = {"database_of_other_system",
                                      "The database is of another system or program", 0, 1},
    [SSO_INTERRUPTED] = {"interrupted", "Interrupted", 0, 1},
    [SSO_NO_MEMORY] = {"no_memory", "Memory has run out", 503, 5},
};

const struct sso_code_facts *sso_code_facts(enum sso_code code)
{
    return (unsigned)code < SSO_CODES ? &facts[code] : &facts[SSO_INTERNAL];
}

enum sso_code sso_code_from_name(const char *name)
{
    for (unsigned code = 0; name != NULL && code < SSO_CODES; code++)
        if (strcmp(facts[code].name, name) == 0)
            return (enum sso_code)code;
    return SSO_INTERNAL;
}

/* A text that was cut may end within a UTF-8 sequence, and JSON takes no half characters. */
static void drop_half_character(char *text)
{
    size_t length = strlen(text);
    size_t lead = length;
    while (lead > 0 && length - lead < 4 && ((unsigned char)text[lead - 1] & 0xc0) == 0x80)
        lead--;
    if (lead == 0)
        return;
    unsigned char first = (unsigned char)text[lead - 1];
    size_t wanted = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc0 ? 1 : 0;
    if (length - lead < wanted)
        text[lead - 1] = '\0';
}

static void __attribute__((format(printf, 2, 0)))
set_detail(struct sso_error *err, const char *format, va_list arguments)
{
    int wanted = vsnprintf(err->detail, sizeof err->detail, format, arguments);
    if (wanted < 0)
        err->detail[0] = '\0';
    else if ((size_t)wanted >= sizeof err->detail)
        drop_half_character(err->detail);
}

static void append_detail(struct sso_error *err, const char *text)
{
    size_t used = strlen(err->detail);
    int wanted = snprintf(err->detail + used, sizeof err->detail - used, "%s", text);
    if (wanted > 0 && (size_t)wanted >= sizeof err->detail - used)
        drop_half_character(err->detail);
}

enum sso_code sso_fail(struct sso_error *err, enum sso_code code, const char *format, ...)
{
    if (err != NULL) {
        va_list arguments;
        va_start(arguments, format);
        err->code = code;
        set_detail(err, format, arguments);
        va_end(arguments);
    }
    return code;
}

enum sso_code sso_fail_errno(struct sso_error *err, enum sso_code code, int error_number,
                             const char *format, ...)
{
    if (err != NULL) {
        char reason[128];
        va_list arguments;
        va_start(arguments, format);
        err->code = code;
        set_detail(err, format, arguments);
        va_end(arguments);
        append_detail(err, ": ");
        append_detail(err, strerror_r(error_number, reason, sizeof reason));
    }
    return code;
}

enum sso_code sso_error_context(struct sso_error *err, const char *format, ...)
{
    if (err == NULL)
        return SSO_INTERNAL;
    struct sso_error lower = *err;
    va_list arguments;
    va_start(arguments, format);
    set_detail(err, format, arguments);
    va_end(arguments);
    append_detail(err, ": ");
    append_detail(err, lower.detail);
    return err->code;
}
