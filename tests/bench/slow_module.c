/*
 * A PKCS#11 module around a real one, whose row operations take a fixed time more, as on a token
 * that is reached over a network. SLOW_MODULE names the real one, SLOW_MICROSECONDS the time. (The
 * module of tests/pkcs11/faulty can do that too, but has a lock that all processes share.)
 */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

static CK_FUNCTION_LIST slow;
static CK_FUNCTION_LIST *real;
static long delay_ns;

/* The time is meant to be exact: 50 µs of slack, the default of the kernel, would be a twentieth.
 */
static void wait_a_while(void)
{
    struct timespec pause = {delay_ns / 1000000000, delay_ns % 1000000000};
    prctl(PR_SET_TIMERSLACK, 1);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

#define SLOW(name, parameters, arguments)                                                          \
    static CK_RV slow_##name parameters                                                            \
    {                                                                                              \
        wait_a_while();                                                                            \
        return real->C_##name arguments;                                                           \
    }

SLOW(UnwrapKey,
     (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k, CK_BYTE *w, CK_ULONG n,
      CK_ATTRIBUTE *t, CK_ULONG c, CK_OBJECT_HANDLE *o),
     (s, m, k, w, n, t, c, o))
SLOW(WrapKey,
     (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE w, CK_OBJECT_HANDLE k, CK_BYTE *o,
      CK_ULONG *n),
     (s, m, w, k, o, n))
SLOW(DestroyObject, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o), (s, o))
SLOW(EncryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k), (s, m, k))
SLOW(DecryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k), (s, m, k))
SLOW(Encrypt, (CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *m),
     (s, in, n, out, m))
SLOW(Decrypt, (CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *m),
     (s, in, n, out, m))

static CK_RV load(void)
{
    const char *path = getenv("SLOW_MODULE"), *time = getenv("SLOW_MICROSECONDS");
    void *module = path != NULL && time != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_C_GetFunctionList get = NULL;
    if (module != NULL)
        *(void **)&get = dlsym(module, "C_GetFunctionList");
    if (get == NULL) {
        fputs("slow-module: SLOW_MODULE and SLOW_MICROSECONDS are not right\n", stderr);
        return CKR_GENERAL_ERROR;
    }
    delay_ns = atol(time) * 1000;
    return get(&real);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    CK_RV rv = real == NULL ? load() : CKR_OK;
    if (rv != CKR_OK)
        return rv;
    slow = *real;
    slow.C_GetFunctionList = C_GetFunctionList;
    slow.C_UnwrapKey = slow_UnwrapKey;
    slow.C_WrapKey = slow_WrapKey;
    slow.C_DestroyObject = slow_DestroyObject;
    slow.C_EncryptInit = slow_EncryptInit;
    slow.C_DecryptInit = slow_DecryptInit;
    slow.C_Encrypt = slow_Encrypt;
    slow.C_Decrypt = slow_Decrypt;
    *out = &slow;
    return CKR_OK;
}
