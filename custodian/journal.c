#include "custodian/journal.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/encode.h"

#define WAIT_SECONDS 2
#define INTERVAL_MS 1000
#define RETRY_MS 500
#define ENTRY_SIZE 1024
#define PRIORITY_INFO 6 /* syslog(3) */

enum journal_mode journal_mode_of(const char *setting)
{
    if (strcmp(setting, "off") == 0)
        return JOURNAL_OFF;
    return strcmp(setting, "best-effort") == 0 ? JOURNAL_BEST_EFFORT : JOURNAL_REQUIRED;
}

/* No value has a newline: node names and hex have none. */
static size_t entry_write(const struct audit_record *last, bool withdrawn, char out[ENTRY_SIZE])
{
    char hash[2 * AUDIT_HASH_BYTES + 1];
    hex_encode(last->hash, sizeof last->hash, hash);
    const char *what = withdrawn ? "audit head withdrawn" : "audit head";
    unsigned long long number = last->number;
    int length = snprintf(out, ENTRY_SIZE,
                          "MESSAGE=%s: %s %llu %s\n"
                          "PRIORITY=%d\n"
                          "SYSLOG_IDENTIFIER=sso-custodian\n"
                          "SSO_HSM_AUDIT_NODE=%s\n"
                          "SSO_HSM_AUDIT_NUMBER=%llu\n"
                          "SSO_HSM_AUDIT_HASH=%s\n"
                          "SSO_HSM_AUDIT_WITHDRAWN=%d\n",
                          what, last->node, number, hash, PRIORITY_INFO, last->node, number, hash,
                          withdrawn);
    return length > 0 && length < ENTRY_SIZE ? (size_t)length : 0;
}

static int send_entry(const char *socket_path, const char *entry, size_t length)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval wait = {.tv_sec = WAIT_SECONDS};
    if ((size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path) >=
        sizeof address.sun_path)
        return ENAMETOOLONG;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    int why = 0;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) != 0 ||
        sendto(fd, entry, length, MSG_NOSIGNAL, (const struct sockaddr *)&address,
               sizeof address) != (ssize_t)length)
        why = errno != 0 ? errno : EIO;
    close(fd);
    return why;
}

static enum sso_code send_head(const char *socket, const struct audit_record *last, bool withdrawn,
                               struct sso_error *err)
{
    char entry[ENTRY_SIZE];
    size_t length = entry_write(last, withdrawn, entry);
    int why = length > 0 ? send_entry(socket, entry, length) : EMSGSIZE;
    return why == 0 ? SSO_OK
                    : sso_fail_errno(err, SSO_AUDIT_UNAVAILABLE, why,
                                     "the journal at %s takes no audit head", socket);
}

void journal_init(struct journal *journal)
{
    *journal = (struct journal){.mode = JOURNAL_OFF};
    pthread_mutex_init(&journal->lock, NULL);
}

void journal_dispose(struct journal *journal)
{
    pthread_mutex_destroy(&journal->lock);
}

void journal_use(struct journal *journal, const char *socket, enum journal_mode mode)
{
    pthread_mutex_lock(&journal->lock);
    journal->socket = socket;
    journal->mode = mode;
    if (mode == JOURNAL_OFF)
        journal->problem = (struct sso_error){0};
    pthread_mutex_unlock(&journal->lock);
}

enum sso_code journal_state(struct journal *journal, struct sso_error *err)
{
    pthread_mutex_lock(&journal->lock);
    struct sso_error problem = journal->problem;
    pthread_mutex_unlock(&journal->lock);
    return problem.code == SSO_OK ? SSO_OK : sso_fail(err, problem.code, "%s", problem.detail);
}

static enum journal_mode mode_now(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    enum journal_mode mode = journal->mode;
    pthread_mutex_unlock(&journal->lock);
    return mode;
}

/* A journal that hangs is not waited for once more by each of those behind. */
static enum sso_code tell(struct journal *journal, const struct audit_record *last, bool withdrawn,
                          struct sso_error *err)
{
    struct sso_error problem = {0};
    int64_t now_ms = boot_clock_ms();
    if (journal->failed_ms != 0 && now_ms - journal->failed_ms < RETRY_MS)
        return journal_state(journal, err);
    enum sso_code rc = send_head(journal->socket, last, withdrawn, &problem);
    journal->failed_ms = rc != SSO_OK ? boot_clock_ms() : 0;
    journal->told_ms = now_ms;
    pthread_mutex_lock(&journal->lock);
    journal->problem = problem;
    pthread_mutex_unlock(&journal->lock);
    return journal_state(journal, err);
}

enum sso_code journal_before_commit(struct journal *journal, const struct audit_record *last,
                                    struct sso_error *err)
{
    return mode_now(journal) == JOURNAL_REQUIRED ? tell(journal, last, false, err) : SSO_OK;
}

void journal_withdraw(struct journal *journal, const struct audit_record *last)
{
    if (mode_now(journal) == JOURNAL_REQUIRED)
        (void)!tell(journal, last, true, NULL);
}

void journal_after_commit(struct journal *journal, const struct audit_record *last)
{
    if (mode_now(journal) == JOURNAL_BEST_EFFORT &&
        boot_clock_ms() - journal->told_ms >= INTERVAL_MS)
        (void)!tell(journal, last, false, NULL);
}
