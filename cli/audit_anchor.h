/*
 * What is known of the audit chains from elsewhere: a file of lines
 *
 *   NODE NUMBER HASH     a record of a node's chain: number, and hash in hex
 *   NUMBER HASH          the same of this node, as state_directory/audit-head has it
 *   key FINGERPRINT      an audit signing key that is to be trusted
 *
 * Empty lines and lines that begin with # are passed over.
 */
#ifndef SSO_CLI_AUDIT_ANCHOR_H
#define SSO_CLI_AUDIT_ANCHOR_H

#include "common/audit_key.h"
#include "common/error.h"

#define ANCHOR_HEADS_MAX 1024
#define ANCHOR_KEYS_MAX 64

struct audit_anchor {
    struct audit_head head[ANCHOR_HEADS_MAX];
    size_t head_count;
    uint8_t key[ANCHOR_KEYS_MAX][AUDIT_DIGEST_BYTES]; /* fingerprints */
    size_t key_count;
};

/* SSO_CONFIG_ERROR names file and line. */
enum sso_code audit_anchor_read(const char *path, const char *own_node, struct audit_anchor *out,
                                struct sso_error *err) __attribute__((warn_unused_result));
/* A new file, mode 0644. SSO_ALREADY_EXISTS. */
enum sso_code audit_anchor_write(const char *path, const struct audit_anchor *anchor,
                                 struct sso_error *err) __attribute__((warn_unused_result));

#endif
