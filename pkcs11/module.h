/*
 * A loaded PKCS#11 module, and the one door to it: every call goes through CALL(), which counts it
 * and refuses it in a child of fork(), with the code that PKCS#11 has for that.
 * Only the worker program has one.
 */
#ifndef SSO_PKCS11_MODULE_H
#define SSO_PKCS11_MODULE_H

#include <p11-kit/pkcs11.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

/* The functions of PKCS#11 that we use. */
#define MODULE_FUNCTIONS(X)                                                                        \
    X(Initialize)                                                                                  \
    X(Finalize)                                                                                    \
    X(GetInfo)                                                                                     \
    X(GetSlotList)                                                                                 \
    X(GetTokenInfo)                                                                                \
    X(GetMechanismInfo)                                                                            \
    X(OpenSession)                                                                                 \
    X(CloseSession)                                                                                \
    X(GetSessionInfo)                                                                              \
    X(Login)                                                                                       \
    X(FindObjectsInit)                                                                             \
    X(FindObjects)                                                                                 \
    X(FindObjectsFinal)                                                                            \
    X(GetAttributeValue)                                                                           \
    X(SetAttributeValue)                                                                           \
    X(CreateObject)                                                                                \
    X(CopyObject)                                                                                  \
    X(DestroyObject)                                                                               \
    X(GenerateKey)                                                                                 \
    X(GenerateKeyPair)                                                                             \
    X(GenerateRandom)                                                                              \
    X(WrapKey)                                                                                     \
    X(UnwrapKey)                                                                                   \
    X(DeriveKey)                                                                                   \
    X(EncryptInit)                                                                                 \
    X(Encrypt)                                                                                     \
    X(DecryptInit)                                                                                 \
    X(Decrypt)                                                                                     \
    X(SignInit)                                                                                    \
    X(Sign)                                                                                        \
    X(VerifyInit)

enum module_function {
#define X(name) FN_##name,
    MODULE_FUNCTIONS(X)
#undef X
        FN_COUNT
};

struct module {
    CK_FUNCTION_LIST *functions;
    char *path;
    char *init_args; /* NULL where there are none; NSS keeps the pointer */
    bool inherited;  /* this process was forked from the one that loaded it */
    _Atomic uint64_t calls[FN_COUNT];
};

/* What a function said: a code means nothing without the function (ckr.h). */
struct outcome {
    enum module_function function;
    CK_RV rv;
    bool own; /* it was about a key of the worker's own: no row is to blame */
};

/* Loads `path` and initialises it with `init_args` (NULL or "": none) as NSS wants them. One module
 * in a process's life. SSO_CONFIG_ERROR names path and reason. */
enum sso_code module_load(const char *path, const char *init_args, struct module **out,
                          struct sso_error *err) __attribute__((warn_unused_result));
/* C_Finalize. The library stays mapped: some crash in their destructors. */
void module_finalize(struct module *module);

const char *module_function_name(enum module_function function); /* "C_WrapKey" */

/* False: the module is another process's, and what it did with its state would be done to that. */
static inline bool module_enter(struct module *module, enum module_function function)
{
    atomic_fetch_add_explicit(&module->calls[function], 1, memory_order_relaxed);
    return !module->inherited;
}

#define CALL(module, name, ...)                                                                    \
    ((struct outcome){FN_##name,                                                                   \
                      module_enter((module), FN_##name)                                            \
                          ? (module)->functions->C_##name(__VA_ARGS__)                             \
                          : CKR_CRYPTOKI_NOT_INITIALIZED,                                          \
                      false})

#endif
