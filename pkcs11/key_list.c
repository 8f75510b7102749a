#include "pkcs11/key_list.h"

#include <stdlib.h>
#include <string.h>

#include "pkcs11/ckr.h"
#include "pkcs11/key.h"

#define AT_ONCE 64

static bool read_bytes(struct session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                       void *out, CK_ULONG size, CK_ULONG *length)
{
    CK_ATTRIBUTE attribute = {type, out, size};
    struct outcome call =
        CALL(session->token->module, GetAttributeValue, session->handle, object, &attribute, 1);
    *length = attribute.ulValueLen;
    return call.rv == CKR_OK && attribute.ulValueLen <= size;
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

static void look_at(struct session *session, const uint8_t *system_id, CK_OBJECT_HANDLE object,
                    struct token_key *out)
{
    char label[GENERATION_LABEL_SIZE] = "";
    CK_ULONG length = 0;
    *out = (struct token_key){0};
    if (!read_bytes(session, object, CKA_LABEL, label, sizeof label - 1, &length))
        return;
    label[length] = '\0';
    out->number = number_of(system_id, label);
    if (out->number != 0 &&
        read_bytes(session, object, CKA_ID, out->secret_id, sizeof out->secret_id, &length) &&
        length == sizeof out->secret_id)
        out->suite = suite_of(session, object);
}

enum sso_code key_list(struct session *session, const uint8_t system_id[static SYSTEM_ID_BYTES],
                       struct token_key *out, size_t maximum, size_t *count, struct sso_error *err)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}, {CKA_TOKEN, &yes, sizeof yes}};
    CK_OBJECT_HANDLE *found = NULL;
    size_t have = 0;
    struct module *module = session->token->module;
    struct outcome call = CALL(module, FindObjectsInit, session->handle, template, 2);
    *count = 0;
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, "listing the keys");
    for (CK_ULONG n = AT_ONCE; n > 0; have += n) {
        CK_OBJECT_HANDLE *grown = reallocarray(found, have + AT_ONCE, sizeof *grown);
        n = 0;
        if (grown == NULL)
            break;
        found = grown;
        call = CALL(module, FindObjects, session->handle, found + have, AT_ONCE, &n);
        if (call.rv != CKR_OK)
            break;
    }
    struct outcome end = CALL(module, FindObjectsFinal, session->handle);
    enum sso_code code = SSO_OK;
    if (call.rv != CKR_OK || end.rv != CKR_OK)
        code = ckr_fail(err, call.rv != CKR_OK ? call : end, "listing the keys");
    for (size_t i = 0; code == SSO_OK && i < have && *count < maximum; i++) {
        look_at(session, system_id, found[i], &out[*count]);
        *count += out[*count].number != 0;
    }
    free(found);
    return code;
}
