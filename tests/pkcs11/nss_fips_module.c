/*
 * NSS softoken in FIPS mode as a module like any other: softoken offers that mode under another
 * name, FC_GetFunctionList, and everybody loads C_GetFunctionList. NSS_SOFTOKEN names the library
 * where it is not where Debian has it.
 */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdlib.h>
#include <string.h>

#define SOFTOKEN "/usr/lib/x86_64-linux-gnu/libsoftokn3.so"

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out);

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    const char *path = getenv("NSS_SOFTOKEN");
    void *library = dlopen(path != NULL ? path : SOFTOKEN, RTLD_NOW);
    void *symbol = library != NULL ? dlsym(library, "FC_GetFunctionList") : NULL;
    CK_C_GetFunctionList get = NULL;
    memcpy(&get, &symbol, sizeof get);
    return get != NULL ? get(out) : CKR_GENERAL_ERROR;
}
