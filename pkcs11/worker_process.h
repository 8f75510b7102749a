/* One worker as its pool sees it: a process, a socket, and the frames on it. Used by one thread. */
#ifndef SSO_PKCS11_WORKER_PROCESS_H
#define SSO_PKCS11_WORKER_PROCESS_H

#include <sys/types.h>

#include "pkcs11/frame.h"
#include "pkcs11/spawner.h"

struct worker_process {
    struct spawner *spawner;
    int socket; /* -1: none */
    pid_t pid;
    bool hangs; /* it did not answer before the deadline of the last call */
    uint32_t next_id;
    uint8_t reply_flags;        /* of the last answer */
    struct frame_reader reader; /* both buffers in locked memory, kept from worker to worker */
    struct encoder out;
};

enum sso_code worker_process_init(struct worker_process *process, struct spawner *spawner,
                                  struct sso_error *err) __attribute__((warn_unused_result));
void worker_process_free(struct worker_process *process);

enum sso_code worker_process_start(struct worker_process *process, const struct config_hsm *section,
                                   unsigned sessions, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Closes the socket, upon which a worker in good health ends by itself; with `kill` it has to. */
void worker_process_end(struct worker_process *process, bool kill);

/* Waits for the answer to the hello that the spawner said to the new worker; else as below. */
enum sso_code worker_process_greeting(struct worker_process *process, unsigned deadline_ms,
                                      struct decoder *reply, bool *died, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Sends one frame and waits for its answer; nothing else may be in flight. `body` may be NULL.
 * `*reply` is a view that stays until the next call. SSO_HSM_UNAVAILABLE with *died: the worker did
 * not answer and is of no more use. */
enum sso_code worker_process_call(struct worker_process *process, enum frame_kind kind,
                                  const struct encoder *body, unsigned deadline_ms,
                                  struct decoder *reply, bool *died, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
