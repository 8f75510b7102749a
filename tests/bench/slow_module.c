/*
 * A PKCS#11 module around a real one, whose row operations take a fixed time, as on a token that is
 * reached over a network and computes elsewhere. SLOW_MODULE names the real one, SLOW_MICROSECONDS
 * the time. (The module of tests/pkcs11/faulty can do that too, but has a lock that all processes
 * share.)
 *
 * What the real token computes is within that time. So that it costs this machine little, each
 * session works with copies of the keys of the token, where that gives them: NSS softoken reads a
 * token object from its database at every use.
 */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

static CK_FUNCTION_LIST slow;
static CK_FUNCTION_LIST *real;
static long delay_ns;

/* A copy of `key` for `session`; or the key itself, where there is none to be had. */
struct copy {
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE key, copy;
};
#define COPIES_MAX 512
static struct copy copies[COPIES_MAX];
static size_t copy_count;
static pthread_mutex_t copies_lock = PTHREAD_MUTEX_INITIALIZER;

static bool find_copy(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, CK_OBJECT_HANDLE *out)
{
    bool found = false;
    pthread_mutex_lock(&copies_lock);
    for (size_t i = 0; i < copy_count && !found; i++) {
        found = copies[i].session == session && copies[i].key == key;
        if (found)
            *out = copies[i].copy;
    }
    pthread_mutex_unlock(&copies_lock);
    return found;
}

static void keep_copy(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, CK_OBJECT_HANDLE copy)
{
    pthread_mutex_lock(&copies_lock);
    if (copy_count < COPIES_MAX)
        copies[copy_count++] = (struct copy){session, key, copy};
    pthread_mutex_unlock(&copies_lock);
}

/* All of a session that is closed, or of a key that is destroyed. */
static void forget_copies(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    pthread_mutex_lock(&copies_lock);
    for (size_t i = copy_count; i-- > 0;)
        if (copies[i].session == session || copies[i].key == key)
            copies[i] = copies[--copy_count];
    pthread_mutex_unlock(&copies_lock);
}

static CK_OBJECT_HANDLE at_hand(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    static char label[] = "slow module's copy";
    CK_BBOOL no = CK_FALSE, token = CK_FALSE;
    CK_ATTRIBUTE on_token = {CKA_TOKEN, &token, sizeof token};
    CK_ATTRIBUTE template[] = {{CKA_TOKEN, &no, sizeof no}, {CKA_LABEL, label, sizeof label - 1}};
    CK_OBJECT_HANDLE copy = key;
    if (find_copy(session, key, &copy))
        return copy;
    if (real->C_GetAttributeValue(session, key, &on_token, 1) != CKR_OK || !token)
        return key;
    if (real->C_CopyObject(session, key, template, 2, &copy) != CKR_OK)
        copy = key;
    keep_copy(session, key, copy);
    return copy;
}

/* The time is meant to be exact: 50 µs of slack, the default of the kernel, would be a twentieth.
 */
static void wait_since(const struct timespec *begun)
{
    struct timespec until = {begun->tv_sec, begun->tv_nsec + delay_ns};
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    prctl(PR_SET_TIMERSLACK, 1);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

#define SLOW(name, parameters, arguments)                                                          \
    static CK_RV slow_##name parameters                                                            \
    {                                                                                              \
        struct timespec begun;                                                                     \
        clock_gettime(CLOCK_MONOTONIC, &begun);                                                    \
        CK_RV rv = real->C_##name arguments;                                                       \
        wait_since(&begun);                                                                        \
        return rv;                                                                                 \
    }

SLOW(UnwrapKey,
     (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k, CK_BYTE *w, CK_ULONG n,
      CK_ATTRIBUTE *t, CK_ULONG c, CK_OBJECT_HANDLE *o),
     (s, m, at_hand(s, k), w, n, t, c, o))
SLOW(WrapKey,
     (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE w, CK_OBJECT_HANDLE k, CK_BYTE *o,
      CK_ULONG *n),
     (s, m, at_hand(s, w), k, o, n))
SLOW(DestroyObject, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o),
     (s, (forget_copies(CK_INVALID_HANDLE, o), o)))
SLOW(EncryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k), (s, m, at_hand(s, k)))
SLOW(DecryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k), (s, m, at_hand(s, k)))
SLOW(Encrypt, (CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *m),
     (s, in, n, out, m))
SLOW(Decrypt, (CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *m),
     (s, in, n, out, m))

static CK_RV close_session(CK_SESSION_HANDLE session)
{
    forget_copies(session, CK_INVALID_HANDLE);
    return real->C_CloseSession(session);
}

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
    slow.C_CloseSession = close_session;
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
