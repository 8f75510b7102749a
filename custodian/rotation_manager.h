/* The rotation as a job of this custodian: started by a request or taken up by itself after a
 * restart, run by the engine (rewrap/) in a thread. Thread-safe. */
#ifndef SSO_CUSTODIAN_ROTATION_MANAGER_H
#define SSO_CUSTODIAN_ROTATION_MANAGER_H

#include <jansson.h>

#include "common/error.h"
#include "custodian/request.h"
#include "store/store.h"

struct custodian;
struct rotation_manager;

enum sso_code rotation_manager_new(struct custodian *custodian, struct rotation_manager **out,
                                   struct sso_error *err) __attribute__((warn_unused_result));
/* Stops a running job as by REWRAP_STOP (it goes on at the next start) and waits for it. */
void rotation_manager_free(struct rotation_manager **manager);

/* Called by supervision when the installation is ready: goes on with a job that the database shows
 * as preparing or running. */
void rotation_manager_take_up(struct rotation_manager *manager);
/* This node is not the master, or is about to be it no more: the job ends here as by REWRAP_STOP,
 * and goes on where the next master is. The first does not wait, the second `ms` at most. */
void rotation_manager_leave(struct rotation_manager *manager);
void rotation_manager_leave_soon(struct rotation_manager *manager, unsigned ms);
/* What a person asks for. `rotation`: the options, and `to`, 0 where the generation is to be made
 * first. `token`: the name of the section whose token it shall be in, NULL where that was not said.
 */
struct rotation_wish {
    struct rotation rotation;
    const char *token;
};
/* Plans and starts, after all workers have opened the generation; the record in `request` is
 * written with it. */
enum sso_code rotation_manager_start(struct rotation_manager *manager, struct request *request,
                                     struct rotation_wish *wish, struct sso_error *err)
    __attribute__((warn_unused_result));
/* "pause", "resume", "cancel", "retry-quarantined": idempotent. */
enum sso_code rotation_manager_change(struct rotation_manager *manager, struct request *request,
                                      const char *action, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code rotation_manager_rate(struct rotation_manager *manager, struct request *request,
                                    uint64_t rows_per_second, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The object of `rotate status` (INTERFACE §3), from the running job or the latest row; state
 * "none" where there never was one. */
enum sso_code rotation_manager_status(struct rotation_manager *manager, json_t **out,
                                      struct sso_error *err) __attribute__((warn_unused_result));
/* A request was answered, for the engine to yield to (DESIGN §7): counts where so few credentials
 * were read or written that it can be compared. `manager` may be NULL. */
void rotation_manager_answered(struct rotation_manager *manager, const struct request *request,
                               int64_t microseconds);

bool rotation_manager_running(struct rotation_manager *manager);

#endif
