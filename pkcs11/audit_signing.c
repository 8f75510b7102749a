#include "pkcs11/audit_signing.h"

#include <string.h>

#include "pkcs11/ckr.h"
#include "pkcs11/key.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define POINT_BYTES_MAX 96 /* the point, perhaps in an OCTET STRING */

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS class_private = CKO_PRIVATE_KEY;
static CK_KEY_TYPE type_ec = CKK_EC;
/* OBJECT IDENTIFIER prime256v1 (RFC 5480 §2.1.1.1). */
static CK_BYTE curve[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};

static enum sso_code find(struct session *session, const uint8_t id[static AUDIT_KEY_ID_BYTES],
                          CK_OBJECT_HANDLE *out, struct sso_error *err)
{
    struct module *module = session->token->module;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class_private, sizeof class_private},
                               {CKA_KEY_TYPE, &type_ec, sizeof type_ec},
                               {CKA_TOKEN, &yes, sizeof yes},
                               {CKA_ID, (void *)id, AUDIT_KEY_ID_BYTES}};
    CK_OBJECT_HANDLE found[2];
    CK_ULONG count = 0;
    struct outcome call = CALL(module, FindObjectsInit, session->handle, template, COUNT(template));
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, "looking for the audit signing key");
    call = CALL(module, FindObjects, session->handle, found, COUNT(found), &count);
    struct outcome end = CALL(module, FindObjectsFinal, session->handle);
    if (call.rv != CKR_OK || end.rv != CKR_OK)
        return ckr_fail(err, call.rv != CKR_OK ? call : end, "looking for the audit signing key");
    if (count != 1)
        return sso_fail(err, SSO_NOT_FOUND, "token \"%s\" holds %lu of this audit signing key",
                        session->token->identity.token, count);
    *out = found[0];
    return SSO_OK;
}

/* 04 ‖ X ‖ Y, as some give it, or that in an OCTET STRING (PKCS#11 v2.40 §2.3.3). */
static bool read_point(struct session *session, CK_OBJECT_HANDLE key,
                       uint8_t out[static AUDIT_PUBLIC_KEY_BYTES], struct outcome *call)
{
    uint8_t bytes[POINT_BYTES_MAX];
    CK_ATTRIBUTE attribute = {CKA_EC_POINT, bytes, sizeof bytes};
    *call = CALL(session->token->module, GetAttributeValue, session->handle, key, &attribute, 1);
    if (call->rv != CKR_OK)
        return false;
    const uint8_t *point = bytes;
    CK_ULONG length = attribute.ulValueLen;
    if (length == AUDIT_PUBLIC_KEY_BYTES + 2 && bytes[0] == 0x04 &&
        bytes[1] == AUDIT_PUBLIC_KEY_BYTES) {
        point += 2;
        length -= 2;
    }
    if (length != AUDIT_PUBLIC_KEY_BYTES || point[0] != 0x04)
        return false;
    memcpy(out, point, AUDIT_PUBLIC_KEY_BYTES);
    return true;
}

/* What a token makes of a template is not taken for granted. */
static enum sso_code check(struct session *session, CK_OBJECT_HANDLE key, struct sso_error *err)
{
    static const CK_ATTRIBUTE_TYPE others[] = {CKA_DECRYPT, CKA_UNWRAP, CKA_DERIVE,
                                               CKA_SIGN_RECOVER};
    bool fine = key_attribute(session, key, CKA_SENSITIVE) == 1 &&
                key_attribute(session, key, CKA_EXTRACTABLE) == 0 &&
                key_attribute(session, key, CKA_SIGN) == 1;
    for (size_t i = 0; i < COUNT(others); i++)
        fine = fine && key_attribute(session, key, others[i]) != 1;
    return fine ? SSO_OK
                : sso_fail(err, SSO_KEY_NOT_ACCEPTABLE,
                           "token \"%s\" makes no signing key that stays in it and only signs",
                           session->token->identity.token);
}

struct pair {
    CK_OBJECT_HANDLE public, private;
};

/* The private part stays in the token where `keep` says so. */
static struct outcome generate(struct session *session, const struct audit_key *key,
                               const char *label, CK_BBOOL *keep, struct pair *out)
{
    CK_MECHANISM mechanism = {.mechanism = CKM_EC_KEY_PAIR_GEN};
    CK_ATTRIBUTE public_template[] = {{CKA_EC_PARAMS, curve, sizeof curve},
                                      {CKA_TOKEN, &no, sizeof no},
                                      {CKA_PRIVATE, &no, sizeof no},
                                      {CKA_VERIFY, &yes, sizeof yes}};
    CK_ATTRIBUTE private_template[] = {{CKA_TOKEN, keep, sizeof *keep},
                                       {CKA_PRIVATE, &yes, sizeof yes},
                                       {CKA_SENSITIVE, &yes, sizeof yes},
                                       {CKA_EXTRACTABLE, &no, sizeof no},
                                       {CKA_ID, (void *)key->id, sizeof key->id},
                                       {CKA_LABEL, (void *)label, strlen(label)},
                                       {CKA_SIGN, &yes, sizeof yes},
                                       {CKA_SIGN_RECOVER, &no, sizeof no},
                                       {CKA_DECRYPT, &no, sizeof no},
                                       {CKA_UNWRAP, &no, sizeof no},
                                       {CKA_DERIVE, &no, sizeof no}};
    return CALL(session->token->module, GenerateKeyPair, session->handle, &mechanism,
                public_template, COUNT(public_template), private_template, COUNT(private_template),
                &out->public, &out->private);
}

static enum sso_code check_mechanisms(struct token *token, struct sso_error *err)
{
    if (token_has(token, CKM_EC_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR) &&
        token_has(token, CKM_ECDSA, CKF_SIGN))
        return SSO_OK;
    return sso_fail(err, SSO_TOKEN_NOT_SUITABLE,
                    "token \"%s\" cannot do CKM_EC_KEY_PAIR_GEN and CKM_ECDSA",
                    token->identity.token);
}

enum sso_code audit_signing_make(struct session *session,
                                 const uint8_t system_id[static SYSTEM_ID_BYTES],
                                 struct audit_key *key, struct sso_error *err)
{
    struct token *token = session->token;
    struct pair pair = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    char label[AUDIT_KEY_LABEL_SIZE];
    enum sso_code code = check_mechanisms(token, err);
    if (code != SSO_OK)
        return code;
    audit_key_label(system_id, label);
    struct outcome call = generate(session, key, label, &yes, &pair);
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, "making the audit signing key");
    code = check(session, pair.private, err);
    if (code == SSO_OK && !read_point(session, pair.public, key->public_key, &call))
        code = call.rv != CKR_OK
                   ? ckr_fail(err, call, "reading the public part of the audit signing key")
                   : sso_fail(err, SSO_TOKEN_NOT_SUITABLE,
                              "token \"%s\" gives a public key that is no point of P-256",
                              token->identity.token);
    (void)CALL(token->module, DestroyObject, session->handle, pair.public);
    if (code != SSO_OK)
        (void)CALL(token->module, DestroyObject, session->handle, pair.private);
    key->token = token->identity;
    return code;
}

static enum sso_code sign(struct session *session, CK_OBJECT_HANDLE key,
                          const uint8_t digest[static AUDIT_DIGEST_BYTES],
                          uint8_t signature[static AUDIT_SIGNATURE_BYTES], struct sso_error *err)
{
    CK_MECHANISM mechanism = {.mechanism = CKM_ECDSA};
    CK_ULONG length = AUDIT_SIGNATURE_BYTES;
    struct module *module = session->token->module;
    struct outcome call = CALL(module, SignInit, session->handle, &mechanism, key);
    if (call.rv == CKR_OK)
        call = CALL(module, Sign, session->handle, (CK_BYTE_PTR)digest, AUDIT_DIGEST_BYTES,
                    signature, &length);
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, "signing with the audit signing key");
    return length == AUDIT_SIGNATURE_BYTES
               ? SSO_OK
               : sso_fail(err, SSO_TOKEN_NOT_SUITABLE, "an ECDSA signature of %lu bytes", length);
}

enum sso_code audit_signing_sign(struct session *session,
                                 const uint8_t id[static AUDIT_KEY_ID_BYTES],
                                 const uint8_t digest[static AUDIT_DIGEST_BYTES],
                                 uint8_t signature[static AUDIT_SIGNATURE_BYTES],
                                 struct sso_error *err)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    enum sso_code code = find(session, id, &key, err);
    return code == SSO_OK ? sign(session, key, digest, signature, err) : code;
}

enum sso_code audit_signing_try(struct session *session, struct sso_error *err)
{
    const struct audit_key key = {.id = {1}};
    const uint8_t digest[AUDIT_DIGEST_BYTES] = {1};
    uint8_t signature[AUDIT_SIGNATURE_BYTES];
    struct module *module = session->token->module;
    struct pair pair = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    enum sso_code code = check_mechanisms(session->token, err);
    if (code != SSO_OK)
        return code;
    struct outcome call = generate(session, &key, "sso-hsm trial", &no, &pair);
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, "making a signing key");
    code = check(session, pair.private, err);
    if (code == SSO_OK)
        code = sign(session, pair.private, digest, signature, err);
    (void)CALL(module, DestroyObject, session->handle, pair.public);
    (void)CALL(module, DestroyObject, session->handle, pair.private);
    return code;
}

enum sso_code audit_signing_destroy(struct session *session,
                                    const uint8_t id[static AUDIT_KEY_ID_BYTES],
                                    struct sso_error *err)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    enum sso_code code = find(session, id, &key, err);
    if (code != SSO_OK)
        return code;
    struct outcome call = CALL(session->token->module, DestroyObject, session->handle, key);
    return call.rv == CKR_OK ? SSO_OK : ckr_fail(err, call, "destroying an audit signing key");
}
