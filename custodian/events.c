#include "custodian/events.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"

#define EVENT_TEXT_BYTES 640

const struct event_facts event_table[EVENTS] = {
    [EVENT_BACKUP_MISSING] =
        {
            "backup_missing",
            SEVERITY_WARNING,
            "The active generation exists in its token only: if the token is lost, every "
            "credential is lost.",
            "Make a generation with a backup and rotate to it, or accept the risk that "
            "--no-backup named.",
            true,
        },
    [EVENT_DRILL_DUE] =
        {
            "drill_due",
            SEVERITY_WARNING,
            "The backup of the active generation has not been proven for longer than "
            "keys.drill_interval.",
            "Run sso-hsm key drill with the backup file and the officers' shares.",
            true,
        },
    [EVENT_HSM_UNAVAILABLE] =
        {
            "hsm_unavailable",
            SEVERITY_ERROR,
            "No worker serves a configured token: what is not cached cannot be opened and "
            "nothing can be written.",
            "See the text; check module, token and network with sso-hsm doctor. It is tried "
            "again by itself.",
            true,
        },
    [EVENT_PIN_REFUSED] =
        {
            "pin_refused",
            SEVERITY_ERROR,
            "The token refused the PIN. It is not tried again, so that the token is not locked.",
            "Correct the PIN source; or, where the token was at fault, sso-hsm pin reset.",
            true,
        },
    [EVENT_WORKER_REPLACED] =
        {
            "worker_replaced",
            SEVERITY_INFO,
            "A worker died or hung and was replaced; its work "
            "was done again.",
            "Nothing, unless it repeats: then ask the vendor of the module.",
            false,
        },
    [EVENT_SESSIONS_SHORT] =
        {
            "sessions_short",
            SEVERITY_WARNING,
            "The token gives fewer sessions than are wanted; requests wait for those that it "
            "gives.",
            "Find out who else holds sessions of this token, lower workers and "
            "sessions_per_worker, or set the latter to auto.",
            true,
        },
    [EVENT_NO_MASTER_SECRET] =
        {
            "no_master_secret",
            SEVERITY_ERROR,
            "No master secret is known, or the token does not hold the one that the database "
            "names.",
            "Run sso-hsm init on a new installation; else check that the right token is "
            "configured, or restore the generation from its backup.",
            true,
        },
    [EVENT_WRONG_MASTER_SECRET] =
        {
            "wrong_master_secret",
            SEVERITY_ERROR,
            "The key in the token does not open the canary of its generation: it is another "
            "key under the same name.",
            "Configure the token that holds the right key, or restore it from its backup.",
            true,
        },
    [EVENT_GENERATION_COMPROMISED] =
        {
            "generation_compromised",
            SEVERITY_ERROR,
            "The active generation is marked compromised: nothing is wrapped under it any more.",
            "Rotate to a new generation, then change the credentials at the systems they open.",
            true,
        },
    [EVENT_GENERATION_CLOSED] =
        {
            "generation_closed",
            SEVERITY_ERROR,
            "The active generation is closed, since its database was put back: nobody knows what "
            "was wrapped under it since, so nothing more is. Lookups work, writes are refused "
            "with wraps_exhausted.",
            "Rotate to a new generation: sso-hsm rotate.",
            true,
        },
    [EVENT_WEAK_TOKEN] =
        {
            "weak_token",
            SEVERITY_WARNING,
            "A master secret lives in a token that failed a required check and was accepted by "
            "the configuration.",
            "Rotate to a generation in a token that passes sso-hsm doctor.",
            true,
        },
    [EVENT_WRAPS_HIGH] =
        {
            "wraps_high",
            SEVERITY_WARNING,
            "The active aes256-gcm generation has wrapped more than 2^31 keys; at 2^32 it "
            "refuses.",
            "Rotate to a new generation.",
            true,
        },
    [EVENT_DATABASE_UNAVAILABLE] =
        {
            "database_unavailable",
            SEVERITY_ERROR,
            "The credential database cannot be read or written.",
            "See the text; check that the file or server is there and has room. It is tried "
            "again by itself.",
            true,
        },
    [EVENT_DATABASE_WENT_BACK] =
        {
            "database_went_back",
            SEVERITY_ERROR,
            "The database is older than what this node has seen: it was put back from a backup, "
            "records of its audit were cut off or changed, or the node's high-water marks cannot "
            "be read. Lookups work; writes, rotation, key generate and key destroy are refused "
            "with database_went_back.",
            "See the text. Put the right database back; or, where this one is to be gone on with, "
            "run sso-hsm db accept-restore (docs/operations.md).",
            true,
        },
    [EVENT_DATABASE_LOCKED] =
        {
            "database_locked",
            SEVERITY_ERROR,
            "Another process holds the write lock of the SQLite database for longer than is waited "
            "for: nothing can be written, the master lease is not renewed, and no standby can take "
            "over, since SQLite's lock is the kernel's and cannot be taken away.",
            "Look at the process that the text names: let it go on (kill -CONT) or end it.",
            true,
        },
    [EVENT_MASTER_LOST] =
        {
            "master_lost",
            SEVERITY_ERROR,
            "No node holds a master lease that is renewed: nothing can be written on any node, and "
            "only what is cached can be looked up.",
            "With cluster.failover = automatic a node that opens all generations takes over by "
            "itself; see what sso-hsm master show says of each. Else, or where that does not come, "
            "run sso-hsm master promote on the node that is to be the master.",
            true,
        },
    [EVENT_MASTER_TAKEN] =
        {
            "master_taken",
            SEVERITY_WARNING,
            "The mastership went from one node to another: told by the node that took it, and by "
            "the one that had it, with the reason.",
            "After a planned move nothing. Else find out why the former master did not renew its "
            "lease in time; it stands by when it is back.",
            false,
        },
    [EVENT_AUDIT_UNAVAILABLE] =
        {
            "audit_unavailable",
            SEVERITY_ERROR,
            "Audit records cannot be written: whatever must be audited is refused.",
            "Check the room on the database's disk and that it is writable.",
            true,
        },
    [EVENT_AUDIT_TRUNCATED] =
        {
            "audit_truncated",
            SEVERITY_ERROR,
            "The audit in the database lacks the last record that this node knows, or has another "
            "in its place: records were taken away or changed, or an older database was put in "
            "place. Lookups go on and are audited; the kept head stays, so that audit verify finds "
            "it.",
            "Run sso-hsm audit verify; find out who wrote to the database. Once that is clear, "
            "run sso-hsm db accept-restore.",
            true,
        },
    [EVENT_AUDIT_UNSIGNED] =
        {
            "audit_unsigned",
            SEVERITY_WARNING,
            "The ends of the audit chains are not signed: since the last signature only the "
            "state directory and the journal know them.",
            "See the text. Where no token in use has an audit signing key, the next ceremony "
            "(sso-hsm key generate) makes one. A signature with an absurd number, which somebody "
            "put into the database, has to be taken out of it.",
            true,
        },
    [EVENT_JOURNAL_UNAVAILABLE] =
        {
            "journal_unavailable",
            SEVERITY_WARNING,
            "The systemd journal was not told of the head of the audit chain (setting "
            "audit.journal). With best-effort all goes on; with required whatever must be audited "
            "is refused.",
            "See the text: is the journal there, and the socket that [audit] journal_socket names? "
            "Where there is none, set audit.journal=off.",
            true,
        },
    [EVENT_POLICY_TAMPERED] =
        {
            "policy_tampered",
            SEVERITY_WARNING,
            "A row that decides who gets what does not fit its tag: somebody changed the "
            "database behind the service. What depends on that row is refused.",
            "Find out who wrote to the database; put the row right through the API or restore "
            "the database.",
            true,
        },
    [EVENT_ENCRYPT_FAILED] =
        {
            "encrypt_failed",
            SEVERITY_ERROR,
            "The test of wrapping a new row key failed: credentials cannot be written.",
            "See the text and the state of the token with sso-hsm doctor.",
            true,
        },
    [EVENT_DECRYPT_FAILED] =
        {
            "decrypt_failed",
            SEVERITY_ERROR,
            "The test of unwrapping a known key failed: only cached credentials can be read.",
            "See the text and the state of the token with sso-hsm doctor.",
            true,
        },
    [EVENT_ROTATION_UNFINISHED] =
        {
            "rotation_unfinished",
            SEVERITY_WARNING,
            "A rotation was paused, cancelled or stopped by errors: rows are still on an older "
            "generation.",
            "Run sso-hsm rotate resume, or rotate retry-quarantined after the cause is mended.",
            true,
        },
    [EVENT_ROTATION_FAILED] =
        {
            "rotation_failed",
            SEVERITY_ERROR,
            "The rotation stopped at an error. No row is lost; what was moved stays moved.",
            "See the text and sso-hsm rotate status; mend the cause, then sso-hsm rotate resume.",
            true,
        },
    [EVENT_QUARANTINE_NOT_EMPTY] =
        {
            "quarantine_not_empty",
            SEVERITY_WARNING,
            "Rows could not be moved by a rotation and stay on their generation.",
            "See sso-hsm rotate status --quarantine; set those credentials anew, or retry.",
            true,
        },
    [EVENT_RENEWAL_DUE] =
        {
            "renewal_due",
            SEVERITY_WARNING,
            "A generation is marked compromised and no rotation was completed since: an old copy "
            "of "
            "the database and that master secret open rows as they are now.",
            "Run sso-hsm rotate to a new generation: it renews their row keys and ciphertexts.",
            true,
        },
    [EVENT_CREDENTIALS_EXPOSED] =
        {
            "credentials_exposed",
            SEVERITY_WARNING,
            "Credentials that a compromised generation could open have not been changed since.",
            "Change them at the systems that they open and set them anew: sso-hsm key exposed N "
            "lists them.",
            true,
        },
    [EVENT_SETTINGS_DIFFER] =
        {
            "settings_differ",
            SEVERITY_WARNING,
            "The configuration file says something else than the settings in the database, "
            "which count.",
            "Make the file agree with the settings.",
            true,
        },
    [EVENT_SYSTEM_DISABLED] =
        {
            "system_disabled",
            SEVERITY_WARNING,
            "An SSO administrator has disabled the system: lookups and writes of credentials are "
            "refused with system_disabled; the work of administrators goes on.",
            "sso-hsm settings set system.enabled=yes, when the reason is gone.",
            true,
        },
    [EVENT_CREDENTIAL_SET_FOR_OTHER] =
        {
            "credential_set_for_other",
            SEVERITY_INFO,
            "An administrator set the credential of somebody else.",
            "Nothing, if it was meant to be; the audit has who, whose and when.",
            false,
        },
    [EVENT_CERTIFICATE_EXPIRES] =
        {
            "certificate_expires",
            SEVERITY_WARNING,
            "This node's certificate or that of its certification authority expires within 30 "
            "days, or its revocation list within a tenth of its time.",
            "Put the new file in its place, then send SIGHUP to the custodian (systemctl reload).",
            true,
        },
    [EVENT_CERTIFICATE_EXPIRED] =
        {
            "certificate_expired",
            SEVERITY_ERROR,
            "A file of [tls] has expired or is not valid yet: nobody gets in over TLS. The Unix "
            "socket is not concerned.",
            "Put a valid file in its place, then send SIGHUP to the custodian (systemctl reload); "
            "look at the clock of this host.",
            true,
        },
    [EVENT_TLS_FILES_REFUSED] =
        {
            "tls_files_refused",
            SEVERITY_WARNING,
            "The files of [tls] were to be read again and cannot be used: the former ones stay "
            "in force. A revocation that they bring does not count yet.",
            "Correct what the text names, then send SIGHUP again.",
            true,
        },
};

struct board_entry {
    bool raised;
    uint64_t count;
    int64_t raised_ms; /* boot clock; the last time */
    char text[EVENT_TEXT_BYTES];
};

struct event_board {
    pthread_mutex_t lock;
    struct board_entry entry[EVENTS];
};

const char *severity_name(enum severity severity)
{
    static const char *const names[] = {"info", "warning", "error"};
    return names[severity];
}

static enum log_level level_of(enum severity severity)
{
    static const enum log_level levels[] = {LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR};
    return levels[severity];
}

enum sso_code event_board_new(struct event_board **out, struct sso_error *err)
{
    struct event_board *board = calloc(1, sizeof *board);
    if (board == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the board of events");
    pthread_mutex_init(&board->lock, NULL);
    *out = board;
    return SSO_OK;
}

void event_board_free(struct event_board **board)
{
    if (*board == NULL)
        return;
    pthread_mutex_destroy(&(*board)->lock);
    free(*board);
    *board = NULL;
}

void event_raise(struct event_board *board, enum event event, const char *format, ...)
{
    const struct event_facts *facts = &event_table[event];
    struct board_entry *entry = &board->entry[event];
    char text[EVENT_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    pthread_mutex_lock(&board->lock);
    bool news = !facts->lasting || !entry->raised;
    snprintf(entry->text, sizeof entry->text, "%s", text);
    entry->raised = facts->lasting;
    entry->count += news;
    entry->raised_ms = boot_clock_ms();
    pthread_mutex_unlock(&board->lock);
    if (news)
        log_line(level_of(facts->severity), "event raised", "event", facts->name, "text", text,
                 NULL);
}

void event_clear(struct event_board *board, enum event event)
{
    pthread_mutex_lock(&board->lock);
    bool was = board->entry[event].raised;
    board->entry[event].raised = false;
    pthread_mutex_unlock(&board->lock);
    if (was)
        log_line(LOG_LEVEL_INFO, "event cleared", "event", event_table[event].name, NULL);
}

int64_t event_age_ms(struct event_board *board, enum event event)
{
    pthread_mutex_lock(&board->lock);
    const struct board_entry *entry = &board->entry[event];
    int64_t age_ms = entry->raised ? boot_clock_ms() - entry->raised_ms : -1;
    pthread_mutex_unlock(&board->lock);
    return age_ms;
}

uint64_t event_count(struct event_board *board, enum event event)
{
    pthread_mutex_lock(&board->lock);
    uint64_t count = board->entry[event].count;
    pthread_mutex_unlock(&board->lock);
    return count;
}

enum severity event_board_read(struct event_board *board, json_t **out)
{
    enum severity highest = SEVERITY_INFO;
    json_t *events = out != NULL ? json_array() : NULL;
    pthread_mutex_lock(&board->lock);
    for (size_t i = 0; i < EVENTS; i++) {
        const struct board_entry *entry = &board->entry[i];
        if (!entry->raised)
            continue;
        if (event_table[i].severity > highest)
            highest = event_table[i].severity;
        if (events != NULL)
            json_array_append_new(
                events, json_pack("{s:s,s:s,s:s}", "name", event_table[i].name, "severity",
                                  severity_name(event_table[i].severity), "text", entry->text));
    }
    pthread_mutex_unlock(&board->lock);
    if (out != NULL)
        *out = events;
    return highest;
}
