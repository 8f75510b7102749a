#include "pkcs11/session_copy.h"

#include <openssl/crypto.h>
#include <time.h>

#include "pkcs11/canary.h"
#include "pkcs11/key.h"

#define OPENINGS 4
/* What a copy must be faster by to be worth having. */
#define TIMES_FASTER 3

static struct outcome copy_object(struct session *session, CK_OBJECT_HANDLE key,
                                  CK_OBJECT_HANDLE *out)
{
    /* Under its own label and id, or it would be found as a second master secret. */
    static char label[] = "sso-hsm session copy";
    static uint8_t id[] = {0};
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE template[] = {
        {CKA_LABEL, label, sizeof label - 1}, {CKA_ID, id, sizeof id},
        {CKA_TOKEN, &no, sizeof no},          {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},    {CKA_EXTRACTABLE, &no, sizeof no}};
    return CALL(session->token->module, CopyObject, session->handle, key, template,
                sizeof template / sizeof template[0], out);
}

static bool gives_its_value(struct session *session, CK_OBJECT_HANDLE copy)
{
    uint8_t *bytes = session->row_key;
    CK_ATTRIBUTE value = {CKA_VALUE, bytes, ROW_KEY_BYTES};
    struct outcome read =
        CALL(session->token->module, GetAttributeValue, session->handle, copy, &value, 1);
    OPENSSL_cleanse(bytes, ROW_KEY_BYTES);
    return read.rv == CKR_OK;
}

/* Microseconds of the fastest of a few openings of the canary; 0: it does not open. */
static int64_t measure(struct session *session, const struct session_key *key,
                       CK_OBJECT_HANDLE handle)
{
    int64_t best = INT64_MAX;
    for (int i = 0; i < OPENINGS; i++) {
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        if (canary_open(session, handle, key->suite, &key->generation, NULL) != SSO_OK)
            return 0;
        clock_gettime(CLOCK_MONOTONIC, &to);
        int64_t took =
            (to.tv_sec - from.tv_sec) * INT64_C(1000000) + (to.tv_nsec - from.tv_nsec) / 1000;
        best = took < best ? took : best;
    }
    return best > 0 ? best : 1;
}

/* It is what the master secret is, opens what that opens, and does so much faster. */
static bool is_worth_having(struct session *session, const struct session_key *key,
                            CK_OBJECT_HANDLE copy)
{
    if (key_attribute(session, copy, CKA_TOKEN) != 0 ||
        key_check(session, copy, key->suite, NULL) != SSO_OK || gives_its_value(session, copy))
        return false;
    int64_t with_copy = measure(session, key, copy);
    int64_t with_key = with_copy > 0 ? measure(session, key, key->handle) : 0;
    return with_copy > 0 && with_key / TIMES_FASTER >= with_copy;
}

static void destroy(struct session *session, CK_OBJECT_HANDLE copy)
{
    (void)CALL(session->token->module, DestroyObject, session->handle, copy);
}

CK_OBJECT_HANDLE session_copy_make(struct session *session, const struct session_key *key)
{
    CK_OBJECT_HANDLE copy = CK_INVALID_HANDLE;
    if (key_attribute(session, key->handle, CKA_COPYABLE) == 0 ||
        copy_object(session, key->handle, &copy).rv != CKR_OK)
        return CK_INVALID_HANDLE;
    if (is_worth_having(session, key, copy))
        return copy;
    destroy(session, copy);
    return CK_INVALID_HANDLE;
}

void session_copies_drop(struct session *session)
{
    for (size_t i = 0; i < session->key_count; i++) {
        struct session_key *key = &session->keys[i];
        if (key->is_copy)
            destroy(session, key->handle);
        key->is_copy = false;
    }
}
