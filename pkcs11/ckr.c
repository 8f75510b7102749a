#include "pkcs11/ckr.h"

#include <stdio.h>

#define CKR_NAMES(X)                                                                                                         \
    X(CKR_OK)                                                                                                                \
    X(CKR_CANCEL)                                                                                                            \
    X(CKR_HOST_MEMORY)                                                                                                       \
    X(CKR_SLOT_ID_INVALID) X(CKR_GENERAL_ERROR) X(CKR_FUNCTION_FAILED) X(CKR_ARGUMENTS_BAD) X(                               \
        CKR_NO_EVENT) X(CKR_NEED_TO_CREATE_THREADS) X(CKR_CANT_LOCK) X(CKR_ATTRIBUTE_READ_ONLY)                              \
        X(CKR_ATTRIBUTE_SENSITIVE) X(CKR_ATTRIBUTE_TYPE_INVALID) X(CKR_ATTRIBUTE_VALUE_INVALID) X(                           \
            CKR_ACTION_PROHIBITED) X(CKR_DATA_INVALID) X(CKR_DATA_LEN_RANGE) X(CKR_DEVICE_ERROR) X(CKR_DEVICE_MEMORY)        \
            X(CKR_DEVICE_REMOVED) X(CKR_ENCRYPTED_DATA_INVALID) X(CKR_ENCRYPTED_DATA_LEN_RANGE) X(                           \
                CKR_FUNCTION_CANCELED) X(CKR_FUNCTION_NOT_PARALLEL) X(CKR_FUNCTION_NOT_SUPPORTED)                            \
                X(CKR_KEY_HANDLE_INVALID) X(CKR_KEY_SIZE_RANGE) X(CKR_KEY_TYPE_INCONSISTENT) X(                              \
                    CKR_KEY_NOT_NEEDED) X(CKR_KEY_CHANGED) X(CKR_KEY_NEEDED) X(CKR_KEY_INDIGESTIBLE)                         \
                    X(CKR_KEY_FUNCTION_NOT_PERMITTED) X(CKR_KEY_NOT_WRAPPABLE) X(CKR_KEY_UNEXTRACTABLE) X(                   \
                        CKR_MECHANISM_INVALID) X(CKR_MECHANISM_PARAM_INVALID) X(CKR_OBJECT_HANDLE_INVALID)                   \
                        X(CKR_OPERATION_ACTIVE) X(CKR_OPERATION_NOT_INITIALIZED) X(CKR_PIN_INCORRECT) X(                     \
                            CKR_PIN_INVALID) X(CKR_PIN_LEN_RANGE) X(CKR_PIN_EXPIRED) X(CKR_PIN_LOCKED)                       \
                            X(CKR_SESSION_CLOSED) X(CKR_SESSION_COUNT) X(CKR_SESSION_HANDLE_INVALID) X(                      \
                                CKR_SESSION_PARALLEL_NOT_SUPPORTED) X(CKR_SESSION_READ_ONLY)                                 \
                                X(CKR_SESSION_EXISTS) X(CKR_SESSION_READ_ONLY_EXISTS) X(                                     \
                                    CKR_SESSION_READ_WRITE_SO_EXISTS) X(CKR_SIGNATURE_INVALID)                               \
                                    X(CKR_SIGNATURE_LEN_RANGE) X(CKR_TEMPLATE_INCOMPLETE) X(                                 \
                                        CKR_TEMPLATE_INCONSISTENT) X(CKR_TOKEN_NOT_PRESENT)                                  \
                                        X(CKR_TOKEN_NOT_RECOGNIZED) X(CKR_TOKEN_WRITE_PROTECTED) X(                          \
                                            CKR_UNWRAPPING_KEY_SIZE_RANGE) X(CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT)           \
                                            X(CKR_USER_ALREADY_LOGGED_IN) X(CKR_USER_NOT_LOGGED_IN) X(                       \
                                                CKR_USER_PIN_NOT_INITIALIZED) X(CKR_USER_TYPE_INVALID)                       \
                                                X(CKR_USER_ANOTHER_ALREADY_LOGGED_IN) X(                                     \
                                                    CKR_USER_TOO_MANY_TYPES) X(CKR_WRAPPED_KEY_INVALID)                      \
                                                    X(CKR_WRAPPED_KEY_LEN_RANGE) X(                                          \
                                                        CKR_WRAPPING_KEY_HANDLE_INVALID) X(CKR_WRAPPING_KEY_SIZE_RANGE)      \
                                                        X(CKR_WRAPPING_KEY_TYPE_INCONSISTENT) X(                             \
                                                            CKR_RANDOM_SEED_NOT_SUPPORTED) X(CKR_RANDOM_NO_RNG)              \
                                                            X(CKR_DOMAIN_PARAMS_INVALID) X(                                  \
                                                                CKR_CURVE_NOT_SUPPORTED) X(CKR_BUFFER_TOO_SMALL)             \
                                                                X(CKR_SAVED_STATE_INVALID) X(                                \
                                                                    CKR_INFORMATION_SENSITIVE) X(CKR_STATE_UNSAVEABLE)       \
                                                                    X(CKR_CRYPTOKI_NOT_INITIALIZED) X(                       \
                                                                        CKR_CRYPTOKI_ALREADY_INITIALIZED)                    \
                                                                        X(CKR_MUTEX_BAD) X(                                  \
                                                                            CKR_MUTEX_NOT_LOCKED)                            \
                                                                            X(CKR_NEW_PIN_MODE) X(                           \
                                                                                CKR_NEXT_OTP) X(CKR_EXCEEDED_MAX_ITERATIONS) \
                                                                                X(CKR_FIPS_SELF_TEST_FAILED) X(              \
                                                                                    CKR_LIBRARY_LOAD_FAILED)                 \
                                                                                    X(CKR_PIN_TOO_WEAK)                      \
                                                                                        X(CKR_PUBLIC_KEY_INVALID)            \
                                                                                            X(CKR_FUNCTION_REJECTED)

const char *ckr_name(CK_RV rv, char out[static CKR_NAME_SIZE])
{
    const char *name = NULL;
    switch (rv) {
#define X(code)                                                                                    \
    case code:                                                                                     \
        name = #code;                                                                              \
        break;
        CKR_NAMES(X)
#undef X
    default:
        break;
    }
    if (name != NULL)
        snprintf(out, CKR_NAME_SIZE, "%s", name);
    else
        snprintf(out, CKR_NAME_SIZE, "CKR_0x%lx", rv);
    return out;
}

/* One row says what a code means. `function` FN_COUNT: for every function that has no row of its
 * own above. */
struct meaning {
    CK_RV rv;
    enum module_function function;
    enum ckr_class class;
};

#define ANY FN_COUNT

static const struct meaning meanings[] = {
    /* What reads a wrapped row key, and may therefore blame it. */
    {CKR_WRAPPED_KEY_INVALID, ANY, CKR_CLASS_ITEM}, /* NSS, for a damaged key */
    {CKR_WRAPPED_KEY_LEN_RANGE, ANY, CKR_CLASS_ITEM},
    {CKR_ENCRYPTED_DATA_INVALID, ANY, CKR_CLASS_ITEM},
    {CKR_ENCRYPTED_DATA_LEN_RANGE, ANY, CKR_CLASS_ITEM},
    {CKR_SIGNATURE_INVALID, FN_Decrypt, CKR_CLASS_ITEM},   /* a GCM tag, to some */
    {CKR_GENERAL_ERROR, FN_UnwrapKey, CKR_CLASS_DOUBTFUL}, /* SoftHSM, for a damaged key */
    {CKR_FUNCTION_FAILED, FN_UnwrapKey, CKR_CLASS_DOUBTFUL},
    {CKR_DEVICE_ERROR, FN_UnwrapKey, CKR_CLASS_DOUBTFUL},
    {CKR_ARGUMENTS_BAD, FN_UnwrapKey, CKR_CLASS_DOUBTFUL},
    {CKR_DATA_INVALID, FN_UnwrapKey, CKR_CLASS_DOUBTFUL},
    {CKR_DATA_LEN_RANGE, FN_UnwrapKey, CKR_CLASS_DOUBTFUL},
    {CKR_KEY_SIZE_RANGE, FN_UnwrapKey, CKR_CLASS_DOUBTFUL},
    {CKR_TEMPLATE_INCONSISTENT, FN_UnwrapKey, CKR_CLASS_DOUBTFUL},
    {CKR_ATTRIBUTE_VALUE_INVALID, FN_UnwrapKey, CKR_CLASS_DOUBTFUL},
    {CKR_GENERAL_ERROR, FN_Decrypt, CKR_CLASS_DOUBTFUL},
    {CKR_FUNCTION_FAILED, FN_Decrypt, CKR_CLASS_DOUBTFUL},
    {CKR_DEVICE_ERROR, FN_Decrypt, CKR_CLASS_DOUBTFUL},
    {CKR_ARGUMENTS_BAD, FN_Decrypt, CKR_CLASS_DOUBTFUL},
    {CKR_DATA_INVALID, FN_Decrypt, CKR_CLASS_DOUBTFUL},
    {CKR_DATA_LEN_RANGE, FN_Decrypt, CKR_CLASS_DOUBTFUL},
    /* CloudHSM says so when it has no session left. */
    {CKR_ARGUMENTS_BAD, FN_OpenSession, CKR_CLASS_RETRY},
    {CKR_SESSION_COUNT, ANY, CKR_CLASS_RETRY},
    {CKR_DEVICE_MEMORY, ANY, CKR_CLASS_RETRY},
    {CKR_FUNCTION_CANCELED, ANY, CKR_CLASS_RETRY},
    {CKR_FUNCTION_REJECTED, ANY, CKR_CLASS_RETRY},
    {CKR_OPERATION_ACTIVE, ANY, CKR_CLASS_SESSION},
    {CKR_OPERATION_NOT_INITIALIZED, ANY, CKR_CLASS_SESSION},
    {CKR_SESSION_CLOSED, ANY, CKR_CLASS_SESSION},
    {CKR_SESSION_HANDLE_INVALID, ANY, CKR_CLASS_SESSION},
    {CKR_OBJECT_HANDLE_INVALID, ANY, CKR_CLASS_SESSION},
    {CKR_KEY_HANDLE_INVALID, ANY, CKR_CLASS_SESSION},
    {CKR_WRAPPING_KEY_HANDLE_INVALID, ANY, CKR_CLASS_SESSION},
    {CKR_UNWRAPPING_KEY_HANDLE_INVALID, ANY, CKR_CLASS_SESSION},
    {CKR_KEY_CHANGED, ANY, CKR_CLASS_SESSION},
    {CKR_USER_NOT_LOGGED_IN, ANY, CKR_CLASS_WORKER},
    {CKR_CRYPTOKI_NOT_INITIALIZED, ANY, CKR_CLASS_WORKER},
    {CKR_HOST_MEMORY, ANY, CKR_CLASS_WORKER},
    {CKR_CANT_LOCK, ANY, CKR_CLASS_WORKER},
    {CKR_MUTEX_BAD, ANY, CKR_CLASS_WORKER},
    {CKR_TOKEN_NOT_PRESENT, ANY, CKR_CLASS_TOKEN_GONE},
    {CKR_TOKEN_NOT_RECOGNIZED, ANY, CKR_CLASS_TOKEN_GONE},
    {CKR_DEVICE_REMOVED, ANY, CKR_CLASS_TOKEN_GONE},
    {CKR_SLOT_ID_INVALID, ANY, CKR_CLASS_TOKEN_GONE},
    {CKR_PIN_INCORRECT, FN_Login, CKR_CLASS_PIN},
    {CKR_PIN_INVALID, FN_Login, CKR_CLASS_PIN},
    {CKR_PIN_LEN_RANGE, FN_Login, CKR_CLASS_PIN},
    {CKR_PIN_LOCKED, FN_Login, CKR_CLASS_PIN},
    {CKR_PIN_EXPIRED, FN_Login, CKR_CLASS_PIN},
    {CKR_USER_PIN_NOT_INITIALIZED, FN_Login, CKR_CLASS_CONFIGURATION},
    {CKR_MECHANISM_INVALID, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_MECHANISM_PARAM_INVALID, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_FUNCTION_NOT_SUPPORTED, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_KEY_FUNCTION_NOT_PERMITTED, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_KEY_UNEXTRACTABLE, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_KEY_NOT_WRAPPABLE, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_KEY_TYPE_INCONSISTENT, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_ATTRIBUTE_SENSITIVE, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_ATTRIBUTE_READ_ONLY, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_ATTRIBUTE_TYPE_INVALID, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_ATTRIBUTE_VALUE_INVALID, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_TEMPLATE_INCOMPLETE, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_TEMPLATE_INCONSISTENT, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_TOKEN_WRITE_PROTECTED, ANY, CKR_CLASS_CONFIGURATION},
    {CKR_SESSION_READ_ONLY, ANY, CKR_CLASS_CONFIGURATION},
};

enum ckr_class ckr_class(struct outcome outcome)
{
    if (outcome.rv == CKR_OK)
        return CKR_CLASS_OK;
    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++)
        if (meanings[i].rv == outcome.rv &&
            (meanings[i].function == outcome.function || meanings[i].function == ANY))
            return meanings[i].class;
    /* A vendor's own code, or one that fits nothing: the ladder starts at the session. */
    return outcome.function == FN_UnwrapKey || outcome.function == FN_Decrypt ? CKR_CLASS_DOUBTFUL
                                                                              : CKR_CLASS_SESSION;
}

enum sso_code ckr_fail(struct sso_error *err, struct outcome outcome, const char *doing)
{
    enum sso_code code = SSO_HSM_UNAVAILABLE;
    const char *advice = "";
    switch (ckr_class(outcome)) {
    case CKR_CLASS_ITEM:
        code = SSO_ROW_CORRUPT;
        break;
    case CKR_CLASS_PIN:
        code = SSO_PIN_REFUSED;
        break;
    case CKR_CLASS_CONFIGURATION:
        code = SSO_TOKEN_NOT_SUITABLE;
        advice = "; sso-hsm doctor shows what this token can do";
        break;
    default:
        break;
    }
    char name[CKR_NAME_SIZE];
    return sso_fail(err, code, "%s: %s says %s%s", doing, module_function_name(outcome.function),
                    ckr_name(outcome.rv, name), advice);
}
