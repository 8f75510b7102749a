/* A generation of the master secret, as it stands in the database, and what hangs on it (DESIGN
 * §3.1, §3.5). */
#ifndef SSO_COMMON_GENERATION_H
#define SSO_COMMON_GENERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SYSTEM_ID_BYTES 16
#define SECRET_ID_BYTES 16
/* aes256-kw: 40 (RFC 3394); aes256-gcm: 12 IV + 32 + 16 tag, 4 more where a token makes IVs of 16.
 */
#define WRAPPED_KEY_BYTES_MAX 64
#define TAG_BYTES 32 /* HMAC-SHA-256 */

/* The numbers are stored: never renumber. */
enum suite_id { SUITE_NONE = 0, SUITE_AES256_KW = 1, SUITE_AES256_GCM = 2 };

const char *suite_name(enum suite_id suite);     /* "aes256-kw" */
enum suite_id suite_from_name(const char *name); /* SUITE_NONE where unknown */
/* Can a row key that the suite wrapped have this length? */
bool suite_wrapped_fits(enum suite_id suite, size_t length_bytes);

enum generation_state {
    GENERATION_PENDING = 1,
    GENERATION_ACTIVE,
    GENERATION_RETIRING,
    GENERATION_RETIRED,
    GENERATION_DESTROYING,
    GENERATION_DESTROYED
};

const char *generation_state_name(enum generation_state state);
enum generation_state generation_state_from_name(const char *name); /* 0 where unknown */

struct wrapped_key {
    uint8_t bytes[WRAPPED_KEY_BYTES_MAX];
    uint8_t length_bytes;
};

/* The canary: a random row key wrapped at the generation's birth, and
 * HMAC-SHA-256(canary key, system id ‖ number ‖ secret id ‖ suite). */
struct canary {
    struct wrapped_key wrapped;
    uint8_t mac[TAG_BYTES];
};

struct generation {
    uint32_t number; /* 1, 2, 3 …; never used again */
    uint8_t secret_id[SECRET_ID_BYTES];
    enum suite_id suite;
    enum generation_state state;
    bool compromised;
    bool no_backup; /* made with --no-backup: may become active without one */
    /* Nothing is wrapped under it any more, active or not: its database was put back, so nobody
     * knows what was wrapped since. Never taken back. */
    bool closed;
    int64_t created_ms, backed_up_ms, last_drill_ms, retired_ms; /* wall clock; 0: never */
    int64_t going_ms; /* since when its keys are being destroyed: no way back; 0: they are not */
    char share_set[37];
    struct canary canary;
    uint64_t wraps; /* reserved in blocks: never below what was really wrapped; not under the tag */
    uint64_t version;       /* of this row, for compare-and-swap */
    uint8_t tag[TAG_BYTES]; /* policy tag (common/policy.h) */
};

/* May anything be wrapped under it, were it active? SSO_GENERATION_COMPROMISED, SSO_WRAPS_EXHAUSTED
 * (closed). */
enum sso_code generation_may_wrap(const struct generation *generation, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A token as it is named in the database: by these attributes of a PKCS#11 URI and nothing else
 * (RFC 7512 §2.3). Trailing blanks are cut. Empty: any. */
struct token_identity {
    char token[33];
    char serial[17];
    char manufacturer[33];
    char model[17];
};

/* One row for each token that holds a generation. */
struct generation_token {
    uint32_t number;
    struct token_identity token;
    char node[65];
    char evidence[1024]; /* JSON of DESIGN §3.1, as taken when the key came into this token */
    bool weak;
    int64_t since_ms, destroyed_ms;
    uint64_t version;
    uint8_t tag[TAG_BYTES];
};

/* The end of a generation's life as people asked for it (DESIGN §8): one row from the first
 * `key destroy` on. */
#define DESTRUCTION_CONFIRM_MS ((int64_t)10 * 60 * 1000) /* for a second administrator */
struct destruction {
    uint32_t number;
    char asked_by[257];
    uint64_t asked_uid;
    int64_t asked_ms, grace_ms;
    bool for_ever;          /* without a backup that was drilled */
    bool older_backups;     /* before keys.retired_keep: database backups become unreadable */
    char confirmed_by[257]; /* "" where nobody did */
    int64_t confirmed_ms;   /* 0: not confirmed */
    int64_t destroying_ms;  /* when the grace began; 0: not yet */
    uint64_t version;       /* for compare-and-swap */
    uint8_t tag[TAG_BYTES];
};

/* Keys of the system itself that a generation wraps. */
#define PURPOSE_POLICY "policy"
#define SEALED_KEY_ID_BYTES 16

struct sealed_key {
    char purpose[33];
    uint8_t key_id[SEALED_KEY_ID_BYTES];
    uint32_t generation;
    uint32_t born;
    struct wrapped_key wrapped;
};

/* What every suite takes as the binding of a sealed key: SHA-256 over a label, system id, purpose,
 * key id, born. */
#define BINDING_BYTES 32
void sealed_key_binding(const uint8_t system_id[static SYSTEM_ID_BYTES],
                        const struct sealed_key *key, uint8_t out[static BINDING_BYTES]);

/* CKA_LABEL of a generation's key: sso-hsm:<system id>:<number>. */
#define GENERATION_LABEL_SIZE 64
void generation_label(const uint8_t system_id[static SYSTEM_ID_BYTES], uint32_t number,
                      char out[static GENERATION_LABEL_SIZE]);

bool token_identity_same(const struct token_identity *a, const struct token_identity *b);

/* "pkcs11:token=…;serial=…" with reserved characters percent-encoded (RFC 7512 §2.3). */
#define TOKEN_URI_SIZE 400
void token_identity_uri(const struct token_identity *token, char out[static TOKEN_URI_SIZE]);

#endif
