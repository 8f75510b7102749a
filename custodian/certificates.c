#include "custodian/certificates.h"

#include <stdio.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "custodian/custodian.h"
#include "custodian/events.h"
#include "custodian/tls.h"

#define DAY_MS INT64_C(86400000)
#define WARNED_BEFORE_MS (30 * DAY_MS)
/* A revocation list lives for days or weeks: warned of when this part of its time is left. */
#define LIST_SHARE 10

static int64_t warned_before(enum tls_file file, const struct tls_validity *of)
{
    return file == TLS_CRL ? (of->until_ms - of->from_ms) / LIST_SHARE : WARNED_BEFORE_MS;
}

static void describe(enum tls_file file, const struct tls_validity *of, int64_t now_ms,
                     char out[static 128])
{
    bool early = now_ms < of->from_ms, late = now_ms >= of->until_ms;
    time_t when = (time_t)((early ? of->from_ms : of->until_ms) / 1000);
    struct tm broken_down;
    char text[32];
    gmtime_r(&when, &broken_down);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &broken_down);
    snprintf(out, 128, "[tls] %s %s %s", tls_file_name[file],
             early  ? "is not valid before"
             : late ? "expired at"
                    : "expires at",
             text);
}

void certificates_watch(struct custodian *custodian)
{
    struct tls_validity validity[TLS_FILES];
    int64_t now_ms = wall_clock_ms();
    char soon[128] = "", over[128] = "";
    if (custodian->tls == NULL)
        return;
    tls_validity(custodian->tls, validity);
    for (enum tls_file file = 0; file < TLS_FILES; file++) {
        const struct tls_validity *of = &validity[file];
        if (of->until_ms == 0)
            continue;
        if (now_ms < of->from_ms || now_ms >= of->until_ms)
            describe(file, of, now_ms, over);
        else if (of->until_ms - now_ms < warned_before(file, of))
            describe(file, of, now_ms, soon);
    }
    if (over[0] != '\0')
        event_raise(custodian->events, EVENT_CERTIFICATE_EXPIRED, "%s", over);
    else
        event_clear(custodian->events, EVENT_CERTIFICATE_EXPIRED);
    if (soon[0] != '\0')
        event_raise(custodian->events, EVENT_CERTIFICATE_EXPIRES, "%s", soon);
    else
        event_clear(custodian->events, EVENT_CERTIFICATE_EXPIRES);
}

void certificates_read_again(struct custodian *custodian)
{
    struct sso_error problem = {0};
    if (custodian->tls == NULL) {
        log_line(LOG_LEVEL_INFO, "SIGHUP: the configuration is read at the start only", NULL);
        return;
    }
    if (tls_read_again(custodian->tls, &problem) != SSO_OK) {
        event_raise(custodian->events, EVENT_TLS_FILES_REFUSED, "%s", problem.detail);
        return;
    }
    log_line(LOG_LEVEL_INFO, "SIGHUP: the files of [tls] were read again", NULL);
    event_clear(custodian->events, EVENT_TLS_FILES_REFUSED);
    certificates_watch(custodian);
}
