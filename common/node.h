/* A node of the installation as its row says: the public key of its certificate, pinned by an SSO
 * administrator, and what it may be given. Only a row with a fitting policy tag (common/policy.h)
 * counts; one that joined and was not approved has none and gives nothing. */
#ifndef SSO_COMMON_NODE_H
#define SSO_COMMON_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/generation.h"
#include "common/error.h"
#include "common/row.h"

#define NODE_NAME_BYTES_MAX 64
#define NODE_ADDRESS_BYTES_MAX 256
#define NODE_APPS_BYTES_MAX 2079 /* 32 names and the commas between them */
#define NODE_KEY_BYTES 32

struct node {
    char name[NODE_NAME_BYTES_MAX + 1];
    char address[NODE_ADDRESS_BYTES_MAX + 1]; /* for people: HOST:PORT, as it says of itself */
    uint8_t key[NODE_KEY_BYTES]; /* SHA-256 of its public key (SubjectPublicKeyInfo, RFC 5280) */
    bool approved;
    char apps[NODE_APPS_BYTES_MAX + 1]; /* names of applications with commas; "": all */
    uint32_t release_burst;             /* 0: as [limits] says */
    char approved_by[257];
    int64_t joined_ms, approved_ms;
    uint64_t
        revocation; /* setting system.revocation when it was last approved; another: it is over */
    uint64_t version;
    uint8_t tag[TAG_BYTES];
};

/* Is the application in its list? Names are compared without regard to case. */
bool node_may_use(const struct node *node, const char *application);

struct x509_st;
/* The public key of a certificate, as it is pinned. */
enum sso_code node_key_of(const struct x509_st *certificate, uint8_t out[static NODE_KEY_BYTES],
                          struct sso_error *err) __attribute__((warn_unused_result));
/* Of the first certificate in a file of PEM. */
enum sso_code node_key_of_file(const char *path, uint8_t out[static NODE_KEY_BYTES],
                               struct sso_error *err) __attribute__((warn_unused_result));

#endif
