#include "custodian/committer_job.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"

void chain_free(struct chain *chain)
{
    free(chain->record);
    free(chain->origin);
    *chain = (struct chain){0};
}

static void complete_record(const char *node, const struct job *job, struct audit_record *record,
                            int64_t now_ms)
{
    snprintf(record->node, sizeof record->node, "%s", node);
    if (record->time_ms == 0)
        record->time_ms = now_ms;
    if (job->refused || record->outcome[0] == '\0')
        snprintf(record->outcome, sizeof record->outcome, "%s",
                 job->refused ? sso_code_facts(job->error.code)->name : "ok");
}

enum sso_code chain_of(const char *node, struct job *jobs, struct chain *chain,
                       struct sso_error *err)
{
    size_t most = 0;
    for (const struct job *job = jobs; job != NULL; job = job->next)
        most += job->record_count;
    if (most == 0)
        return SSO_OK;
    chain->record = calloc(most, sizeof *chain->record);
    chain->origin = calloc(most, sizeof *chain->origin);
    if (chain->record == NULL || chain->origin == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for audit records");
    int64_t now_ms = wall_clock_ms();
    for (struct job *job = jobs; job != NULL; job = job->next) {
        for (size_t i = 0; i < job->record_count; i++) {
            if (job->records[i].operation[0] == '\0')
                continue;
            chain->origin[chain->count] = &job->records[i];
            chain->record[chain->count] = job->records[i];
            complete_record(node, job, &chain->record[chain->count++], now_ms);
        }
    }
    return SSO_OK;
}
