#include "pkcs11/canary.h"

#include <openssl/crypto.h>
#include <string.h>

#include "common/digest.h"
#include "common/encode.h"
#include "pkcs11/ckr.h"

/* system id ‖ number ‖ secret id ‖ suite */
#define FACTS_BYTES (SYSTEM_ID_BYTES + 4 + SECRET_ID_BYTES + 1)
static const char binding_label[] = "sso-hsm canary v1";

static void facts(const struct generation_key *generation, uint8_t out[static FACTS_BYTES])
{
    struct encoder encoder = {.data = out, .capacity_bytes = FACTS_BYTES, .fixed = true};
    encode_fixed(&encoder, generation->system_id, SYSTEM_ID_BYTES);
    encode_u32(&encoder, generation->number);
    encode_fixed(&encoder, generation->secret_id, SECRET_ID_BYTES);
    encode_u8(&encoder, (uint8_t)generation->suite);
}

static void binding_of(const struct generation_key *generation, uint8_t out[static BINDING_BYTES])
{
    uint8_t bytes[sizeof binding_label + FACTS_BYTES];
    memcpy(bytes, binding_label, sizeof binding_label);
    facts(generation, bytes + sizeof binding_label);
    digest_sha256(bytes, sizeof bytes, out);
}

static void mac(const struct generation_key *generation, const uint8_t *key,
                uint8_t out[static TAG_BYTES])
{
    uint8_t bytes[FACTS_BYTES];
    facts(generation, bytes);
    digest_hmac_sha256(key, ROW_KEY_BYTES, bytes, sizeof bytes, out);
}

enum sso_code canary_make(struct session *session, CK_OBJECT_HANDLE key, const struct suite *suite,
                          struct generation_key *generation, struct sso_error *err)
{
    uint8_t binding[BINDING_BYTES];
    binding_of(generation, binding);
    struct outcome call =
        suite->make(session, key, binding, session->row_key, &generation->canary.wrapped);
    if (call.rv == CKR_OK)
        mac(generation, session->row_key, generation->canary.mac);
    OPENSSL_cleanse(session->row_key, ROW_KEY_BYTES);
    return call.rv == CKR_OK ? SSO_OK : ckr_fail(err, call, "making the canary");
}

static enum sso_code wrong_key(struct session *session, const struct generation_key *generation,
                               const char *why, struct sso_error *err)
{
    return sso_fail(err, SSO_WRONG_MASTER_SECRET,
                    "the key in token \"%s\" is not the master secret of generation %u: its canary "
                    "does not open (%s); check [hsm] token and the database",
                    session->token->identity.token, generation->number, why);
}

enum sso_code canary_open(struct session *session, CK_OBJECT_HANDLE key, const struct suite *suite,
                          const struct generation_key *generation, struct sso_error *err)
{
    uint8_t binding[BINDING_BYTES], expected[TAG_BYTES];
    binding_of(generation, binding);
    if (!suite_wrapped_fits(suite->id, generation->canary.wrapped.length_bytes))
        return wrong_key(session, generation, "it has another length", err);
    struct outcome call =
        suite->unwrap(session, key, binding, &generation->canary.wrapped, session->row_key);
    if (call.rv == CKR_OK)
        mac(generation, session->row_key, expected);
    OPENSSL_cleanse(session->row_key, ROW_KEY_BYTES);
    if (call.rv == CKR_OK && CRYPTO_memcmp(expected, generation->canary.mac, TAG_BYTES) == 0)
        return SSO_OK;
    enum ckr_class class = ckr_class(call);
    if (class != CKR_CLASS_OK && class != CKR_CLASS_ITEM && class != CKR_CLASS_DOUBTFUL &&
        class != CKR_CLASS_CONFIGURATION)
        return ckr_fail(err, call, "opening the canary");
    char name[CKR_NAME_SIZE];
    return wrong_key(session, generation,
                     call.rv == CKR_OK ? "its MAC is another" : ckr_name(call.rv, name), err);
}
