/*
 * The small process that starts and ends workers (DESIGN §4.1).
 *
 * It is forked at the very beginning of a program, before threads, secrets and the change of user.
 * So it can start workers as the token's user while the service runs as another, no big process
 * ever forks, and it ends every worker when its owner dies, however that happens.
 */
#ifndef SSO_PKCS11_SPAWNER_H
#define SSO_PKCS11_SPAWNER_H

#include <sys/types.h>

#include "common/error.h"

/* The worker's end of its socketpair in the worker; 0 is /dev/null, 1 and 2 are the owner's stderr.
 */
#define WORKER_SOCKET_FD 3

struct spawner;

/* `worker_program` NULL: sso-hsm-worker beside the running program, else in the libexec folder it
 * was installed to. */
enum sso_code spawner_start(const char *worker_program, struct spawner **out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A worker as `user`, with `environment` (NAME=VALUE,…), PATH and LANG and nothing else.
 * `out_socket` is our end of its socketpair (close-on-exec). Thread-safe. */
enum sso_code spawner_spawn(struct spawner *spawner, const char *user, const char *environment,
                            int *out_socket, pid_t *out_pid, struct sso_error *err)
    __attribute__((warn_unused_result));

/* SIGKILL to a worker it started; nothing where that worker is gone. Thread-safe. */
void spawner_kill(struct spawner *spawner, pid_t pid);

/* Ends all workers and the spawner. */
void spawner_stop(struct spawner **spawner);

#endif
