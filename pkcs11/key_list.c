#include "pkcs11/key_list.h"

#include <stdlib.h>
#include <string.h>

#include "pkcs11/ckr.h"
#include "pkcs11/key.h"

#define AT_ONCE 64

static const char doing[] = "listing the keys";

static struct outcome read_bytes(struct session *session, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE_TYPE type, void *out, CK_ULONG *length)
{
    CK_ATTRIBUTE attribute = {type, out, *length};
    struct outcome call =
        CALL(session->token->module, GetAttributeValue, session->handle, object, &attribute, 1);
    *length = attribute.ulValueLen;
    return call;
}

/* What is longer than any of ours, or is not there at all, is not ours. Everything else may be one
 * of ours that could not be looked at. */
static bool is_of_others(struct outcome call)
{
    return call.rv == CKR_BUFFER_TOO_SMALL || call.rv == CKR_ATTRIBUTE_TYPE_INVALID;
}

/* The number behind the system's prefix, written as we write it; 0: it is no label of ours. */
static uint32_t number_of(const uint8_t *system_id, const char *label)
{
    char wanted[GENERATION_LABEL_SIZE];
    const char *colon = strrchr(label, ':');
    unsigned long number = colon != NULL ? strtoul(colon + 1, NULL, 10) : 0;
    if (number == 0 || number > UINT32_MAX)
        return 0;
    generation_label(system_id, (uint32_t)number, wanted);
    return strcmp(label, wanted) == 0 ? (uint32_t)number : 0;
}

static enum suite_id suite_of(struct session *session, CK_OBJECT_HANDLE object)
{
    static const enum suite_id suites[] = {SUITE_AES256_KW, SUITE_AES256_GCM};
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++)
        if (key_check(session, object, suite_by_id(suites[i]), NULL) == SSO_OK)
            return suites[i];
    return SUITE_NONE;
}

static struct outcome look_at(struct session *session, const uint8_t *system_id,
                              CK_OBJECT_HANDLE object, struct token_key *out)
{
    char label[GENERATION_LABEL_SIZE] = "";
    CK_ULONG length = sizeof label - 1;
    *out = (struct token_key){0};
    struct outcome call = read_bytes(session, object, CKA_LABEL, label, &length);
    if (call.rv == CKR_OK)
        out->number = number_of(system_id, label);
    if (out->number == 0)
        return call;
    length = sizeof out->secret_id;
    call = read_bytes(session, object, CKA_ID, out->secret_id, &length);
    if (call.rv == CKR_OK && length == sizeof out->secret_id)
        out->suite = suite_of(session, object);
    return call;
}

/* The handles of all secret keys of the token; malloc. */
static enum sso_code find_all(struct session *session, CK_OBJECT_HANDLE **found, size_t *count,
                              struct sso_error *err)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}, {CKA_TOKEN, &yes, sizeof yes}};
    struct module *module = session->token->module;
    struct outcome call = CALL(module, FindObjectsInit, session->handle, template, 2);
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, doing);
    enum sso_code code = SSO_OK;
    for (CK_ULONG n = AT_ONCE; code == SSO_OK && n > 0; *count += n) {
        CK_OBJECT_HANDLE *grown = reallocarray(*found, *count + AT_ONCE, sizeof *grown);
        n = 0;
        if (grown == NULL) {
            code = sso_fail(err, SSO_NO_MEMORY, "no memory for a list of keys");
            break;
        }
        *found = grown;
        call = CALL(module, FindObjects, session->handle, grown + *count, AT_ONCE, &n);
        if (call.rv != CKR_OK)
            code = ckr_fail(err, call, doing);
    }
    call = CALL(module, FindObjectsFinal, session->handle);
    return code == SSO_OK && call.rv != CKR_OK ? ckr_fail(err, call, doing) : code;
}

enum sso_code key_list(struct session *session, const uint8_t system_id[static SYSTEM_ID_BYTES],
                       struct token_key *out, size_t maximum, size_t *count, struct sso_error *err)
{
    CK_OBJECT_HANDLE *found = NULL;
    size_t found_count = 0;
    enum sso_code code = find_all(session, &found, &found_count, err);
    *count = 0;
    for (size_t i = 0; code == SSO_OK && i < found_count; i++) {
        struct token_key key;
        struct outcome call = look_at(session, system_id, found[i], &key);
        if (call.rv != CKR_OK && !is_of_others(call))
            code = ckr_fail(err, call, doing);
        else if (key.number != 0 && *count == maximum)
            code = sso_fail(err, SSO_TOKEN_NOT_SUITABLE,
                            "the token holds more than %zu keys with a label of this system: "
                            "destroy those that no generation needs",
                            maximum);
        else if (key.number != 0)
            out[(*count)++] = key;
    }
    free(found);
    return code;
}
