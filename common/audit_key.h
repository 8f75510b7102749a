/*
 * The audit signing key (DESIGN §11): ECDSA on P-256 with SHA-256 (FIPS 186-5), one in each token
 * in use, non-extractable, for signing only. It signs the heads of the audit chains, transcripts of
 * ceremonies and statements; its public part checks them without an HSM.
 *
 * What is signed is always the digest of a tagged, unambiguous form that begins with a label and
 * the system id, so that a signature over one kind of thing is none over another.
 */
#ifndef SSO_COMMON_AUDIT_KEY_H
#define SSO_COMMON_AUDIT_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit_head.h"
#include "common/generation.h"

#define AUDIT_KEY_ID_BYTES 16     /* CKA_ID */
#define AUDIT_PUBLIC_KEY_BYTES 65 /* uncompressed point (SEC 1, 2.3.3) */
#define AUDIT_SIGNATURE_BYTES 64  /* r ‖ s, as PKCS#11 gives it */
#define AUDIT_DIGEST_BYTES 32
#define AUDIT_HEADS_MAX 64
#define AUDIT_SIGNATURES_MAX ((uint64_t)1 << 53) /* numbers from here on are not ours */

/* The record that announces a key: its target is id and fingerprint, in hex. */
#define AUDIT_KEY_OPERATION "audit.key"
#define AUDIT_KEY_TARGET_SIZE 128

/* A row of the database: never changed once it is there. */
struct audit_key {
    uint8_t id[AUDIT_KEY_ID_BYTES];
    struct token_identity token; /* that holds it */
    char node[65];
    uint8_t public_key[AUDIT_PUBLIC_KEY_BYTES];
    int64_t since_ms;
    uint8_t tag[TAG_BYTES]; /* policy tag (common/policy.h) */
};

/* The heads of all chains at one moment, signed. */
struct audit_signature {
    uint64_t number; /* 1, 2, 3 … */
    int64_t time_ms;
    uint8_t key_id[AUDIT_KEY_ID_BYTES];
    struct audit_head head[AUDIT_HEADS_MAX]; /* by node */
    size_t head_count;
    uint8_t signature[AUDIT_SIGNATURE_BYTES];
};

/* CKA_LABEL: sso-hsm-audit:<system id>. */
#define AUDIT_KEY_LABEL_SIZE 64
void audit_key_label(const uint8_t system_id[static SYSTEM_ID_BYTES],
                     char out[static AUDIT_KEY_LABEL_SIZE]);

/* SHA-256 of the public point: what people compare and what stands in the record that announces
 * the key. */
void audit_key_fingerprint(const struct audit_key *key, uint8_t out[static AUDIT_DIGEST_BYTES]);

/* The target of that record. */
void audit_key_target(const struct audit_key *key, char out[static AUDIT_KEY_TARGET_SIZE]);

/* SubjectPublicKeyInfo (RFC 5480) in PEM, for openssl(1) and a backup file. */
#define AUDIT_KEY_PEM_SIZE 256
bool audit_key_pem(const struct audit_key *key, char out[static AUDIT_KEY_PEM_SIZE]);

/* Sets the public key, and nothing else of what was zero. False: it is no P-256 key in PEM. */
bool audit_key_from_pem(const char *pem, struct audit_key *out);

/* Is the signature over this digest of this key? */
bool audit_key_verifies(const struct audit_key *key,
                        const uint8_t digest[static AUDIT_DIGEST_BYTES],
                        const uint8_t signature[static AUDIT_SIGNATURE_BYTES]);

/* What is signed of the heads: everything but key and signature. */
void audit_signature_digest(const uint8_t system_id[static SYSTEM_ID_BYTES],
                            const struct audit_signature *signature,
                            uint8_t out[static AUDIT_DIGEST_BYTES]);

/* What is signed of a text; `kind` says what it is ("transcript", "statement", "database backup"):
 * SHA-256 over "sso-hsm signed text v1", system id, kind and text, each but the id with its length
 * (common/encode.h). */
void audit_text_digest(const uint8_t system_id[static SYSTEM_ID_BYTES], const char *kind,
                       const void *text, size_t bytes, uint8_t out[static AUDIT_DIGEST_BYTES]);

#endif
