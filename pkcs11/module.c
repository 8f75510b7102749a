#include "pkcs11/module.h"

#include <p11-kit/p11-kit.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pkcs11/ckr.h"

/* NSS reads its parameters from the reserved member, and one member past the end of the standard's
 * struct, which must be NULL. */
struct initialize_args {
    CK_C_INITIALIZE_ARGS standard;
    void *past_the_end;
};

const char *module_function_name(enum module_function function)
{
    static const char *const names[] = {
#define X(name) "C_" #name,
        MODULE_FUNCTIONS(X)
#undef X
    };
    return function < FN_COUNT ? names[function] : "C_?";
}

/* The one of this process, once it is initialised. */
static struct module *loaded;

static void forked(void)
{
    if (loaded != NULL)
        loaded->inherited = true;
}

static enum sso_code initialize(struct module *module, const char *init_args, struct sso_error *err)
{
    if (init_args != NULL && init_args[0] != '\0' &&
        (module->init_args = strdup(init_args)) == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to load module %s", module->path);
    struct initialize_args args = {
        .standard = {.flags = CKF_OS_LOCKING_OK, .pReserved = module->init_args}};
    struct outcome call = CALL(module, Initialize, &args);
    if (call.rv == CKR_OK || call.rv == CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return SSO_OK;
    char name[CKR_NAME_SIZE];
    return sso_fail(err, SSO_CONFIG_ERROR,
                    "module %s loads but does not start: C_Initialize says %s; check init_args and "
                    "environment of its [hsm] section and the module's own configuration",
                    module->path, ckr_name(call.rv, name));
}

enum sso_code module_load(const char *path, const char *init_args, struct module **out,
                          struct sso_error *err)
{
    if (path == NULL || path[0] == '\0')
        return sso_fail(err, SSO_CONFIG_ERROR, "[hsm] module is not set");
    struct module *module = calloc(1, sizeof *module);
    if (module == NULL || (module->path = strdup(path)) == NULL) {
        free(module);
        return sso_fail(err, SSO_NO_MEMORY, "no memory to load module %s", path);
    }
    static bool watches_forks;
    if (!watches_forks && pthread_atfork(NULL, NULL, forked) == 0)
        watches_forks = true;
    /* Unmanaged: p11-kit's own bookkeeping of sessions costs time on every call, and it would start
     * the module with arguments of its own. */
    module->functions = p11_kit_module_load(path, P11_KIT_MODULE_UNMANAGED);
    enum sso_code code;
    if (module->functions == NULL) {
        const char *why = p11_kit_message();
        code = sso_fail(err, SSO_CONFIG_ERROR, "module %s does not load: %s", path,
                        why != NULL ? why : "it is no PKCS#11 module");
    } else {
        code = initialize(module, init_args, err);
    }
    if (code != SSO_OK) {
        free(module->init_args);
        free(module->path);
        free(module);
        return code;
    }
    *out = loaded = module;
    return SSO_OK;
}

void module_finalize(struct module *module)
{
    if (module != NULL)
        (void)CALL(module, Finalize, NULL);
}
