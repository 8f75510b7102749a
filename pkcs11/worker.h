/* The inside of sso-hsm-worker: one module, one token, a thread for each session. */
#ifndef SSO_PKCS11_WORKER_H
#define SSO_PKCS11_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "pkcs11/frame.h"
#include "pkcs11/generation_table.h"
#include "pkcs11/module.h"
#include "pkcs11/session.h"
#include "pkcs11/suite.h"
#include "pkcs11/token.h"

struct worker {
    int socket;
    struct module *module;
    struct token token;
    struct pin_source_facts pin; /* as the pool was told: what it keeps count of */
    struct generation_table table;
    bool weak_token_accepted;
    unsigned sessions; /* wanted; after the login: open */
    pthread_mutex_t read_mutex, write_mutex;
    struct frame_reader reader; /* under read_mutex */
    _Atomic unsigned busy;      /* threads at work on a frame */
    _Atomic uint64_t resident_bytes;
    int statm;
};

/* One session and the thread that uses it. */
struct worker_thread {
    struct worker *worker;
    struct session session;
    uint8_t *row_key;     /* of the item at hand, locked */
    uint8_t *request;     /* FRAME_BYTES_MAX, locked */
    struct encoder reply; /* over FRAME_BYTES_MAX, locked */
    unsigned frames;
    uint8_t flags; /* of the reply in the making */
};

/* Speaks with the pool at `socket` until that closes; then ends the process. */
_Noreturn void worker_run(int socket);

/* MAKE, WRAP, UNWRAP, REWRAP: decodes and works item by item, and writes the results behind the
 * reply's header. Not SSO_OK: the frame as a whole failed. */
enum sso_code worker_batch(struct worker_thread *thread, enum frame_kind kind,
                           struct decoder *request, struct sso_error *err)
    __attribute__((warn_unused_result));

/* RANDOM, GENERATE_BACKED, TRY_BACKUP, INSTALL_BACKUP, REWRAP_BACKUP: a master secret and its
 * backup, all in one session, in which no object is left. */
enum sso_code worker_backup(struct worker_thread *thread, enum frame_kind kind,
                            struct decoder *request, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Canary, evidence and verdict of a key that was just made. `made`: the canary is made too, else
 * the one in `generation` must open. The evidence goes into the reply, behind the generation. */
enum sso_code worker_prove(struct worker_thread *thread, struct generation_key *generation,
                           CK_OBJECT_HANDLE key, bool made, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Takes a key that did not prove good out of the token again; the text says so where it fails. */
void worker_unmake(struct worker_thread *thread, const struct generation_key *generation,
                   CK_OBJECT_HANDLE key, struct sso_error *err);
/* SSO_TOKEN_NOT_SUITABLE: the token has not what the suite asks for. */
enum sso_code worker_check_suite(struct worker_thread *thread, const struct suite *suite,
                                 struct sso_error *err) __attribute__((warn_unused_result));
/* A generation at the head of a request. */
enum sso_code worker_read_generation(struct decoder *request, struct generation_key *out,
                                     struct sso_error *err) __attribute__((warn_unused_result));
/* MEASURE: in sessions and threads of its own. */
enum sso_code worker_bench(struct worker_thread *thread, struct decoder *request,
                           struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code worker_measure(struct worker_thread *thread, struct decoder *request,
                             struct sso_error *err) __attribute__((warn_unused_result));

/* OPEN, FORGET, GENERATE, EVIDENCE, DESTROY, PROBE, AUDIT_…. */
enum sso_code worker_control(struct worker_thread *thread, enum frame_kind kind,
                             struct decoder *request, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
