/* What the person at the console did, in the audit chain of this node. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ceremony/installation.h"
#include "common/audit_head.h"
#include "common/clock.h"
#include "common/row.h"

enum sso_code console_record(const struct ceremony *ceremony, const char *operation,
                             const char *target, struct audit_record *out, struct sso_error *err)
{
    *out = (struct audit_record){.time_ms = wall_clock_ms()};
    snprintf(out->node, sizeof out->node, "%s", ceremony->config->cluster.node);
    snprintf(out->actor, sizeof out->actor, "%s", ceremony->person.name);
    snprintf(out->how, sizeof out->how, "console");
    snprintf(out->operation, sizeof out->operation, "%s", operation);
    snprintf(out->target, sizeof out->target, "%s", target);
    snprintf(out->outcome, sizeof out->outcome, "ok");
    return random_bytes(out->request_id, sizeof out->request_id, err);
}

void console_warn(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "sso-hsm: warning: %s\n", text);
}

void console_hold_signals(void)
{
    static const int held[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++)
        signal(held[i], SIG_IGN);
}

/* Not the end of the chain as we left it, but what the file says of it must still be there. */
static bool chain_is_whole(const struct ceremony *ceremony, struct audit_head *kept)
{
    bool holds = true;
    STORE_TX_AUTO tx = NULL;
    snprintf(kept->node, sizeof kept->node, "%s", ceremony->config->cluster.node);
    return store_begin(ceremony->store, STORE_READ, &tx, NULL) != SSO_OK ||
           store_audit_holds(tx, kept, &holds, NULL) != SSO_OK || holds;
}

void console_keep_head(const struct ceremony *ceremony, const struct audit_record *last, bool first)
{
    const char *folder = ceremony->config->system.state_directory;
    struct audit_head kept = {0};
    struct sso_error problem = {0};
    if (!first && audit_head_read(folder, &kept, &problem) != SSO_OK) {
        console_warn("%s", problem.detail);
        return;
    }
    if (!chain_is_whole(ceremony, &kept)) {
        console_warn("record %llu of this node's audit, which %s/" AUDIT_HEAD_FILE
                     " knows, is gone from the database or was changed: the file stays as it is; "
                     "see sso-hsm audit verify",
                     (unsigned long long)kept.number, folder);
        return;
    }
    if (!(first ? audit_head_write(folder, last) : audit_head_raise(folder, last, true)))
        console_warn("the audit head %s/" AUDIT_HEAD_FILE
                     " was not written: a cut tail may go unseen",
                     folder);
    console_keep_marks(ceremony, first);
}
