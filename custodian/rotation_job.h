/* The rotation engine in a thread of the custodian. Beginning and telling are for one thread at a
 * time (the manager's lock sees to it); asking how it goes is for any. */
#ifndef SSO_CUSTODIAN_ROTATION_JOB_H
#define SSO_CUSTODIAN_ROTATION_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "common/audit_record.h"
#include "common/error.h"
#include "rewrap/rewrap.h"
#include "store/store.h"

struct custodian;
struct live_latency;
struct rotation_job;

/* `latency` is what the engine yields to; it stays the caller's. */
enum sso_code rotation_job_new(struct custodian *custodian, struct live_latency *latency,
                               struct rotation_job **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Stops as by REWRAP_STOP and waits. */
void rotation_job_free(struct rotation_job **job);

/* Runs the engine on a rotation that the database shows as preparing or running; no other may be
 * under way. The engine's own audit records are in the name of `starter`. */
enum sso_code rotation_job_begin(struct rotation_job *job, const struct rotation *rotation,
                                 const struct audit_record *starter, struct sso_error *err)
    __attribute__((warn_unused_result));
bool rotation_job_running(struct rotation_job *job);

void rotation_job_tell(struct rotation_job *job, enum rewrap_request request);
enum rewrap_request rotation_job_told(struct rotation_job *job);
void rotation_job_rate(struct rotation_job *job, uint64_t rows_per_second);
/* True when the engine has ended, false at the deadline (boot clock). */
bool rotation_job_wait(struct rotation_job *job, int64_t deadline_ms);

/* False where no engine runs, or where it has just written its end into the database. */
bool rotation_job_progress(struct rotation_job *job, struct rotation *out,
                           uint64_t *rows_per_second);

#endif
