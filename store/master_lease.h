/*
 * The master lease (DESIGN §9): one row that says who is the master, and one for each node that
 * could become it. A part of store/store.h. They carry no tag: who writes the database can take the
 * mastership from a node, and cannot make two that write, since every write of a master holds the
 * row shared and take-over holds it exclusively.
 *
 * No time is in these rows: whoever waits measures by its own clock how long `beat` has stood
 * still.
 */
#ifndef SSO_STORE_MASTER_LEASE_H
#define SSO_STORE_MASTER_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct store_tx;

#define LEASE_INSTANCE_BYTES 16
#define LEASE_NODE_BYTES_MAX 64
#define LEASE_ADDRESS_BYTES_MAX 255

struct master_lease {
    char node[LEASE_NODE_BYTES_MAX + 1]; /* "": nobody ever held it */
    /* [cluster] address of the holder, "" where it has none: how others reach it. */
    char address[LEASE_ADDRESS_BYTES_MAX + 1];
    /* Of the holder's state directory: who has that one under its exclusive lock and finds its own
     * id here knows that the former holder is dead. */
    uint8_t home[LEASE_INSTANCE_BYTES];
    uint8_t instance[LEASE_INSTANCE_BYTES]; /* of the holder's process; zeros: given back */
    uint64_t epoch;                         /* 0: nobody ever held it; never goes down */
    uint64_t beat;                          /* goes up while the holder lives */
    /* As the holder knows it: nobody takes it over who has not waited for as long. */
    uint32_t lease_ms;
    /* "": none; else the node that a planned move goes to. */
    char successor[LEASE_NODE_BYTES_MAX + 1];
};

bool master_lease_is_free(const struct master_lease *lease); /* never held, or given back */

/* All zero where nobody ever held it. */
enum sso_code store_master_lease_read(struct store_tx *tx, struct master_lease *out,
                                      struct sso_error *err) __attribute__((warn_unused_result));
/* Takes it for wanted->node, address, home and instance, and sets wanted->epoch to seen->epoch + 1.
 * Waits for the transactions that hold it. SSO_VERSION_CONFLICT where the row is no longer as it
 * was seen. */
enum sso_code store_master_lease_take(struct store_tx *tx, const struct master_lease *seen,
                                      struct master_lease *wanted, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Each of these compares instance and epoch with the row: SSO_MASTER_UNAVAILABLE where another has
 * taken it, and nothing is changed. */
enum sso_code store_master_lease_renew(struct store_tx *tx, const struct master_lease *own,
                                       struct sso_error *err) __attribute__((warn_unused_result));
/* Nobody takes it before the transaction ends: to be called before a master's write. */
enum sso_code store_master_lease_hold(struct store_tx *tx, const struct master_lease *own,
                                      struct sso_error *err) __attribute__((warn_unused_result));
/* Whom it is to go to; "": nobody. */
enum sso_code store_master_lease_promise(struct store_tx *tx, const struct master_lease *own,
                                         const char *successor, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Waits for the transactions that hold it, and frees it. Its epoch and successor stay. */
enum sso_code store_master_lease_give_back(struct store_tx *tx, const struct master_lease *own,
                                           struct sso_error *err)
    __attribute__((warn_unused_result));
/* After a database was put back: where its epoch is lower than that it gets this one, and is free.
 */
enum sso_code store_master_lease_reset(struct store_tx *tx, uint64_t epoch, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A node with an HSM, which is not the master and could become it. */
struct standby {
    char node[LEASE_NODE_BYTES_MAX + 1];
    char address[LEASE_ADDRESS_BYTES_MAX + 1];
    uint64_t beat;
    bool able;          /* opens the canaries of all live generations */
    char missing[640];  /* why it is not */
    uint64_t ready_for; /* epoch whose planned move to it may go on; 0: none */
};
/* Of the node: new, or with beat one higher than it was. */
enum sso_code store_standby_put(struct store_tx *tx, const struct standby *standby,
                                struct sso_error *err) __attribute__((warn_unused_result));
/* Idempotent: it became the master, or left. */
enum sso_code store_standby_remove(struct store_tx *tx, const char *node, struct sso_error *err)
    __attribute__((warn_unused_result));
/* By name; *out from malloc. */
enum sso_code store_standby_list(struct store_tx *tx, struct standby **out, size_t *count,
                                 struct sso_error *err) __attribute__((warn_unused_result));

#endif
