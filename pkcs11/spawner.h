/*
 * The small process that starts and ends workers (DESIGN §4.1).
 *
 * It is forked at the very beginning of a program, before threads, secrets and the change of user.
 * So it can start workers as the token's user while the service runs as another, no big process
 * ever forks, and it ends every worker when its owner dies, however that happens.
 *
 * It knows the [hsm] sections from before its owner gave root up, and says the first frame to each
 * worker itself: user, environment, module, token and PIN source. So whoever takes the owner over
 * can have workers started, but no other module loaded, no other file read and no other user used.
 */
#ifndef SSO_PKCS11_SPAWNER_H
#define SSO_PKCS11_SPAWNER_H

#include <stddef.h>
#include <sys/types.h>

#include "common/config.h"
#include "common/error.h"

/* The worker's end of its socketpair in the worker; 0 is /dev/null, 1 and 2 are the owner's stderr.
 * Behind it comes WORKER_PIN_FD where the section has such a PIN source (pin_handed.h). */
#define WORKER_SOCKET_FD 3

struct spawner;

/* `worker_program` NULL: sso-hsm-worker beside the running program, else in the libexec folder it
 * was installed to. The sections need not outlive the call. */
enum sso_code spawner_start(const char *worker_program, const struct config_hsm *sections,
                            size_t section_count, struct spawner **out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A worker of the section of this name, as its user (NULL there: as the spawner), with its
 * environment, PATH and LANG and nothing else. It has been greeted: the answer to FRAME_HELLO, with
 * id SPAWNER_HELLO_ID, is the first thing to be read. `out_socket` is our end of its socketpair
 * (close-on-exec). `sessions` counts where the section leaves that to us. Thread-safe. */
#define SPAWNER_HELLO_ID 0
enum sso_code spawner_spawn(struct spawner *spawner, const char *section, unsigned sessions,
                            int *out_socket, pid_t *out_pid, struct sso_error *err)
    __attribute__((warn_unused_result));

/* SIGKILL to a worker it started; nothing where that worker is gone. Thread-safe. */
void spawner_kill(struct spawner *spawner, pid_t pid);

/* Ends all workers and the spawner. */
void spawner_stop(struct spawner **spawner);

#endif
