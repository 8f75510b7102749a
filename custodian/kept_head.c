#include "custodian/kept_head.h"

#include <stdio.h>

#include "common/audit_head.h"
#include "common/log.h"

enum sso_code kept_head_check(const char *state_directory, const char *node, struct store_tx *tx,
                              struct sso_error *gone, struct sso_error *err)
{
    struct audit_head kept;
    bool holds;
    *gone = (struct sso_error){0};
    /* Read each time: direct commands move it too, and whoever has dealt with a cut takes it away.
     */
    enum sso_code rc = audit_head_read(state_directory, &kept, err);
    if (rc != SSO_OK)
        return rc;
    snprintf(kept.node, sizeof kept.node, "%s", node);
    rc = store_audit_holds(tx, &kept, &holds, err);
    if (rc == SSO_OK && !holds)
        sso_fail(gone, SSO_ROW_CORRUPT,
                 "record %llu, which %s/" AUDIT_HEAD_FILE
                 " knows, is gone from the audit of %s or was changed",
                 (unsigned long long)kept.number, state_directory, node);
    return rc;
}

void kept_head_move(const char *state_directory, const struct audit_record *last)
{
    if (!audit_head_raise(state_directory, last, false))
        log_line(LOG_LEVEL_WARNING, "the audit head was not written", "folder", state_directory,
                 NULL);
}
