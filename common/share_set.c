#include "common/share_set.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <string.h>

#include "common/digest.h"
#include "common/encode.h"

static const char fingerprint_label[] = "sso-hsm share v1 ";
static const char verifier_label[] = "sso-hsm share set v1";

size_t share_text(const struct slip39_share *share, char *out)
{
    struct slip39_mnemonic *mnemonic = secret_alloc(sizeof *mnemonic);
    size_t used = 0;
    if (mnemonic == NULL)
        return 0;
    slip39_mnemonic_write(share, mnemonic);
    for (size_t i = 0; i < mnemonic->count; i++) {
        const char *word = slip39_word(mnemonic->word[i]);
        size_t length = strlen(word);
        if (i > 0)
            out[used++] = ' ';
        memcpy(out + used, word, length);
        used += length;
    }
    secret_dealloc(mnemonic);
    return used;
}

enum sso_code share_fingerprint(const struct slip39_share *share,
                                uint8_t out[static SHARE_FINGERPRINT_BYTES], struct sso_error *err)
{
    const size_t label = sizeof fingerprint_label - 1;
    uint8_t digest[DIGEST_BYTES];
    char *text = secret_alloc(label + SLIP39_MNEMONIC_BYTES_MAX);
    if (text == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for a share");
    memcpy(text, fingerprint_label, label);
    digest_sha256(text, label + share_text(share, text + label), digest);
    memcpy(out, digest, SHARE_FINGERPRINT_BYTES);
    secret_dealloc(text);
    return SSO_OK;
}

enum sso_code backup_secret_expand(const struct secret *secret, const void *info, size_t info_bytes,
                                   uint8_t *out, size_t bytes)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret->data, secret->length_bytes),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, info_bytes),
        OSSL_PARAM_construct_end(),
    };
    bool done = context != NULL && EVP_KDF_derive(context, out, bytes, parameters) == 1;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return done ? SSO_OK : SSO_INTERNAL;
}

enum sso_code share_set_verifier(const struct secret *secret,
                                 const uint8_t system_id[static SYSTEM_ID_BYTES], const char *id,
                                 uint8_t out[static SHARE_SET_VERIFIER_BYTES],
                                 struct sso_error *err)
{
    uint8_t info[128];
    struct encoder encoder = {.data = info, .capacity_bytes = sizeof info, .fixed = true};
    encode_fixed(&encoder, verifier_label, sizeof verifier_label - 1);
    encode_fixed(&encoder, system_id, SYSTEM_ID_BYTES);
    encode_fixed(&encoder, id, strlen(id));
    if (encoder.failed || backup_secret_expand(secret, info, encoder.length_bytes, out,
                                               SHARE_SET_VERIFIER_BYTES) != SSO_OK)
        return sso_fail(err, SSO_INTERNAL, "HKDF failed");
    return SSO_OK;
}
