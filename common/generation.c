#include "common/generation.h"

#include <stdio.h>
#include <string.h>

#include "common/digest.h"
#include "common/encode.h"

static const char *const suite_names[] = {
    [SUITE_AES256_KW] = "aes256-kw",
    [SUITE_AES256_GCM] = "aes256-gcm",
};

static const char *const state_names[] = {
    [GENERATION_PENDING] = "pending",       [GENERATION_ACTIVE] = "active",
    [GENERATION_RETIRING] = "retiring",     [GENERATION_RETIRED] = "retired",
    [GENERATION_DESTROYING] = "destroying", [GENERATION_DESTROYED] = "destroyed",
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const char *name_of(const char *const *names, size_t count, unsigned number)
{
    return number < count && names[number] != NULL ? names[number] : "unknown";
}

static unsigned number_of(const char *const *names, size_t count, const char *name)
{
    for (unsigned i = 1; name != NULL && i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return 0;
}

const char *suite_name(enum suite_id suite)
{
    return name_of(suite_names, COUNT(suite_names), suite);
}

enum suite_id suite_from_name(const char *name)
{
    return (enum suite_id)number_of(suite_names, COUNT(suite_names), name);
}

bool suite_wrapped_fits(enum suite_id suite, size_t length_bytes)
{
    if (suite == SUITE_AES256_KW)
        return length_bytes == 40;
    return suite == SUITE_AES256_GCM && (length_bytes == 60 || length_bytes == 64);
}

const char *generation_state_name(enum generation_state state)
{
    return name_of(state_names, COUNT(state_names), state);
}

enum generation_state generation_state_from_name(const char *name)
{
    return (enum generation_state)number_of(state_names, COUNT(state_names), name);
}

void sealed_key_binding(const uint8_t system_id[static SYSTEM_ID_BYTES],
                        const struct sealed_key *key, uint8_t out[static BINDING_BYTES])
{
    uint8_t buffer[160];
    struct encoder binding = {.data = buffer, .capacity_bytes = sizeof buffer, .fixed = true};
    encode_text(&binding, "sso-hsm sealed key v1");
    encode_fixed(&binding, system_id, SYSTEM_ID_BYTES);
    encode_text(&binding, key->purpose);
    encode_fixed(&binding, key->key_id, SEALED_KEY_ID_BYTES);
    encode_u32(&binding, key->born);
    digest_sha256(binding.data, binding.length_bytes, out);
}

enum sso_code generation_may_wrap(const struct generation *generation, struct sso_error *err)
{
    if (generation->compromised)
        return sso_fail(err, SSO_GENERATION_COMPROMISED,
                        "generation %u is marked compromised: nothing is wrapped under it; make "
                        "another with sso-hsm key generate, and rotate to it",
                        generation->number);
    if (generation->closed)
        return sso_fail(err, SSO_WRAPS_EXHAUSTED,
                        "generation %u is closed, since its database was put back: nothing is "
                        "wrapped under it; rotate to a new one with sso-hsm rotate",
                        generation->number);
    return SSO_OK;
}

void generation_label(const uint8_t system_id[static SYSTEM_ID_BYTES], uint32_t number,
                      char out[static GENERATION_LABEL_SIZE])
{
    char system[2 * SYSTEM_ID_BYTES + 1];
    hex_encode(system_id, SYSTEM_ID_BYTES, system);
    snprintf(out, GENERATION_LABEL_SIZE, "sso-hsm:%s:%u", system, number);
}

/* RFC 7512 §2.3: unreserved characters of RFC 3986 and a few more stand for themselves in a path
 * attribute; all else is percent-encoded. */
static size_t put_attribute(char *out, size_t size, const char *name, const char *value)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                "-._~";
    size_t used = (size_t)snprintf(out, size, "%s=", name);
    for (const unsigned char *next = (const unsigned char *)value; *next != '\0'; next++)
        used += (size_t)snprintf(out + used, size - used,
                                 strchr(plain, *next) != NULL ? "%c" : "%%%02X", *next);
    return used;
}

void token_identity_uri(const struct token_identity *token, char out[static TOKEN_URI_SIZE])
{
    const struct {
        const char *name, *value;
    } attributes[] = {{"token", token->token},
                      {"serial", token->serial},
                      {"manufacturer", token->manufacturer},
                      {"model", token->model}};
    _Static_assert(TOKEN_URI_SIZE > sizeof "pkcs11:token=;serial=;manufacturer=;model=" +
                                        3 * (32 + 16 + 32 + 16),
                   "a URI of four full attributes fits");

    size_t used = (size_t)snprintf(out, TOKEN_URI_SIZE, "pkcs11:");
    const char *separator = "";
    for (size_t i = 0; i < COUNT(attributes); i++) {
        if (attributes[i].value[0] == '\0')
            continue;
        used += (size_t)snprintf(out + used, TOKEN_URI_SIZE - used, "%s", separator);
        used += put_attribute(out + used, TOKEN_URI_SIZE - used, attributes[i].name,
                              attributes[i].value);
        separator = ";";
    }
}

bool token_identity_same(const struct token_identity *a, const struct token_identity *b)
{
    return strcmp(a->token, b->token) == 0 && strcmp(a->serial, b->serial) == 0 &&
           strcmp(a->manufacturer, b->manufacturer) == 0 && strcmp(a->model, b->model) == 0;
}
