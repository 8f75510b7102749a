/*
 * A PKCS#11 module around a real one (WRAPPED_MODULE), for faults that a real token does not show
 * on demand. It obeys files in WRAPPED_FOLDER:
 *
 *   logins   gets one byte for each C_Login
 *   poison   a wrapped key over which C_UnwrapKey kills its process, every time
 *   hang     the next C_UnwrapKey takes the file away and never returns
 *   fail     a number: what the next C_UnwrapKey returns, once
 *   gone     while it exists C_UnwrapKey, C_OpenSession and C_FindObjectsInit say
 *            CKR_DEVICE_REMOVED
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static CK_FUNCTION_LIST wrapped, *real;

static int open_control(const char *name, int flags)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv("WRAPPED_FOLDER"), name);
    return open(path, flags, 0600);
}

static bool take_away(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv("WRAPPED_FOLDER"), name);
    return unlink(path) == 0;
}

static ssize_t read_control(const char *name, void *out, size_t size)
{
    int fd = open_control(name, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, out, size) : -1;
    if (fd >= 0)
        close(fd);
    return n;
}

static bool gone(void)
{
    char byte;
    return read_control("gone", &byte, 1) >= 0;
}

static CK_RV login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG size)
{
    int fd = open_control("logins", O_WRONLY | O_CREAT | O_APPEND);
    if (fd < 0 || write(fd, "x", 1) != 1 || close(fd) != 0)
        abort();
    return real->C_Login(session, user, pin, size);
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                          CK_SESSION_HANDLE *session)
{
    return gone() ? CKR_DEVICE_REMOVED
                  : real->C_OpenSession(slot, flags, application, notify, session);
}

static CK_RV find_objects_init(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count)
{
    return gone() ? CKR_DEVICE_REMOVED : real->C_FindObjectsInit(session, template, count);
}

static CK_RV unwrap_key(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key,
                        CK_BYTE_PTR in, CK_ULONG size, CK_ATTRIBUTE *template, CK_ULONG count,
                        CK_OBJECT_HANDLE *out)
{
    unsigned char poison[128];
    char number[32] = "";
    ssize_t n = read_control("poison", poison, sizeof poison);
    if (n == (ssize_t)size && memcmp(poison, in, size) == 0)
        _exit(9);
    if (take_away("hang"))
        for (;;)
            pause();
    if (read_control("fail", number, sizeof number - 1) > 0 && take_away("fail"))
        return strtoul(number, NULL, 0);
    if (gone())
        return CKR_DEVICE_REMOVED;
    return real->C_UnwrapKey(session, mechanism, key, in, size, template, count, out);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out);

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    CK_C_GetFunctionList get = NULL;
    void *library = dlopen(getenv("WRAPPED_MODULE"), RTLD_NOW);
    void *symbol = library != NULL ? dlsym(library, "C_GetFunctionList") : NULL;
    memcpy(&get, &symbol, sizeof get);
    if (get == NULL || get(&real) != CKR_OK)
        return CKR_GENERAL_ERROR;
    wrapped = *real;
    wrapped.C_GetFunctionList = C_GetFunctionList;
    wrapped.C_Login = login;
    wrapped.C_OpenSession = open_session;
    wrapped.C_FindObjectsInit = find_objects_init;
    wrapped.C_UnwrapKey = unwrap_key;
    *out = &wrapped;
    return CKR_OK;
}
