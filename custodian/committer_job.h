/* What waits for the committer, and what it appends to the audit for it. For custodian/committer*.c
 * only. */
#ifndef SSO_CUSTODIAN_COMMITTER_JOB_H
#define SSO_CUSTODIAN_COMMITTER_JOB_H

#include "custodian/committer.h"

struct job {
    committer_write write;
    void *context;
    struct audit_record *records;
    size_t record_count;
    struct sso_error error;   /* the outcome */
    struct sso_error verdict; /* not SSO_OK: the write is refused without being tried */
    bool refused;             /* the write was undone: its records carry its code */
    bool done;
    /* Where nobody waits: called at the end, and then the committer frees the job. */
    committer_done tell;
    void *tell_context;
    bool posted;             /* counted in committer->posted */
    struct audit_record own; /* of a posted job */
    struct job *next;
};

/* What the transaction appends to the chain: copies, so that a try that fails leaves the jobs'
 * records as they were. */
struct chain {
    struct audit_record *record;
    struct audit_record **origin;
    size_t count;
};

/* The records of these jobs as they stand now, of this node. `chain` is freed in any case. */
enum sso_code chain_of(const char *node, struct job *jobs, struct chain *chain,
                       struct sso_error *err) __attribute__((warn_unused_result));
void chain_free(struct chain *chain);

#endif
