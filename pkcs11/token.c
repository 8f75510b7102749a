#include "pkcs11/token.h"

#include <p11-kit/p11-kit.h>
#include <p11-kit/uri.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pkcs11/ckr.h"

#define SLOTS_MAX 256

/* Texts of PKCS#11 are padded with blanks and have no NUL. */
static void unpad(const CK_UTF8CHAR *from, size_t size, char *out)
{
    while (size > 0 && (from[size - 1] == ' ' || from[size - 1] == '\0'))
        size--;
    memcpy(out, from, size);
    out[size] = '\0';
}

static void identify(const CK_TOKEN_INFO *info, struct token_identity *out)
{
    unpad(info->label, sizeof info->label, out->token);
    unpad(info->serialNumber, sizeof info->serialNumber, out->serial);
    unpad(info->manufacturerID, sizeof info->manufacturerID, out->manufacturer);
    unpad(info->model, sizeof info->model, out->model);
}

static enum sso_code check_uri(P11KitUri *uri, const char *text, struct sso_error *err)
{
    CK_ULONG attributes = 0;
    p11_kit_uri_get_attributes(uri, &attributes);
    const char *surplus = NULL;
    if (p11_kit_uri_get_pin_value(uri) != NULL)
        return sso_fail(
            err, SSO_CONFIG_ERROR,
            "[hsm] token has a pin-value: put the PIN into a file of mode 0400 and name "
            "it with pin-source=file:/path");
    if (p11_kit_uri_get_module_path(uri) != NULL || p11_kit_uri_get_module_name(uri) != NULL)
        surplus = "a module (set [hsm] module)";
    else if (p11_kit_uri_get_slot_id(uri) != (CK_SLOT_ID)-1)
        surplus = "a slot-id (slot numbers change: name the token by token and serial)";
    else if (attributes > 0)
        surplus = "an object (only the token is named here)";
    else if (p11_kit_uri_any_unrecognized(uri))
        surplus = "an attribute that is not known";
    if (surplus != NULL)
        return sso_fail(err, SSO_CONFIG_ERROR, "[hsm] token %s names %s", text, surplus);
    return SSO_OK;
}

static enum sso_code parse_uri(const char *text, P11KitUri **out, struct sso_error *err)
{
    P11KitUri *uri = p11_kit_uri_new();
    if (uri == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to read a token's URI");
    int rc = p11_kit_uri_parse(text, P11_KIT_URI_FOR_ANY, uri);
    /* The text may hold a pin-value and is quoted only once it has been ruled out. */
    enum sso_code code =
        rc == P11_KIT_URI_OK
            ? check_uri(uri, text, err)
            : sso_fail(err, SSO_CONFIG_ERROR,
                       "[hsm] token is not a PKCS#11 URI: %s; expected something like "
                       "pkcs11:token=NAME?pin-source=file:/path",
                       p11_kit_uri_message(rc));
    if (code != SSO_OK)
        p11_kit_uri_free(uri);
    else
        *out = uri;
    return code;
}

/* A list for people of the tokens seen, cut where it grows too long. */
struct list {
    char text[400];
    size_t length;
    unsigned count;
};

static void list_add(struct list *list, const struct token_identity *token)
{
    int n = snprintf(list->text + list->length, sizeof list->text - list->length,
                     "%s\"%s\" (serial %s)", list->count++ > 0 ? ", " : "", token->token,
                     token->serial);
    if (n > 0 && list->length + (size_t)n < sizeof list->text)
        list->length += (size_t)n;
    else
        list->text[list->length] = '\0';
}

static enum sso_code token_info(struct module *module, CK_SLOT_ID slot, CK_TOKEN_INFO *out,
                                struct sso_error *err)
{
    struct outcome call = CALL(module, GetTokenInfo, slot, out);
    return call.rv == CKR_OK ? SSO_OK : ckr_fail(err, call, "asking a token who it is");
}

/* Of both counts the lower one; a token may say of each that it is infinite or unknown. */
static uint32_t sessions_max(const CK_TOKEN_INFO *info)
{
    const CK_ULONG says[] = {info->ulMaxSessionCount, info->ulMaxRwSessionCount};
    CK_ULONG least = CK_UNAVAILABLE_INFORMATION;
    for (size_t i = 0; i < 2; i++)
        if (says[i] != CK_EFFECTIVELY_INFINITE && says[i] < least)
            least = says[i];
    return least <= UINT32_MAX ? (uint32_t)least : 0;
}

static enum sso_code match(struct module *module, P11KitUri *uri, struct token *out,
                           struct sso_error *err)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;
    struct outcome call = CALL(module, GetSlotList, CK_TRUE, slots, &count);
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, "listing the tokens");
    struct list all = {0}, fitting = {0};
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        struct token_identity identity;
        if (token_info(module, slots[i], &info, NULL) != SSO_OK ||
            (info.flags & CKF_TOKEN_INITIALIZED) == 0)
            continue;
        identify(&info, &identity);
        list_add(&all, &identity);
        if (p11_kit_uri_match_token_info(uri, &info) != 1)
            continue;
        list_add(&fitting, &identity);
        out->slot = slots[i];
        out->flags = info.flags;
        out->identity = identity;
        out->sessions_max = sessions_max(&info);
        snprintf(out->firmware, sizeof out->firmware, "%u.%u", info.firmwareVersion.major,
                 info.firmwareVersion.minor);
    }
    const char *name = module->path;
    if (fitting.count == 0)
        return sso_fail(err, SSO_TOKEN_NOT_FOUND, "no token of %s fits; it has %s", name,
                        all.count > 0 ? all.text : "no token that is initialised");
    if (fitting.count > 1)
        return sso_fail(err, SSO_TOKEN_AMBIGUOUS,
                        "%u tokens of %s fit: %s; add serial=… to [hsm] token", fitting.count, name,
                        fitting.text);
    return SSO_OK;
}

enum sso_code token_find(struct module *module, const char *text, struct token *out,
                         struct sso_error *err)
{
    P11KitUri *uri = NULL;
    enum sso_code code = parse_uri(text, &uri, err);
    if (code != SSO_OK)
        return code;
    *out = (struct token){.module = module};
    pthread_mutex_init(&out->ways.mutex, NULL);
    pthread_mutex_init(&out->ways.pair_mutex, NULL);
    const char *source = p11_kit_uri_get_pin_source(uri);
    if (source != NULL && (out->pin_source = strdup(source)) == NULL)
        code = sso_fail(err, SSO_NO_MEMORY, "no memory to find a token");
    if (code == SSO_OK)
        code = match(module, uri, out, err);
    p11_kit_uri_free(uri);
    return code;
}

bool token_wants_login(const struct token *token)
{
    return (token->flags & CKF_LOGIN_REQUIRED) != 0;
}

static enum sso_code refuse_pin(struct token *token, struct outcome call, struct sso_error *err)
{
    char name[CKR_NAME_SIZE];
    return sso_fail(err, SSO_PIN_REFUSED,
                    "token \"%s\" refused the PIN from %s (%s); it is not tried again until that "
                    "source changes or after sso-hsm pin reset",
                    token->identity.token, token->pin_source, ckr_name(call.rv, name));
}

enum sso_code token_login(struct token *token, const struct secret *pin, struct sso_error *err)
{
    struct outcome call = CALL(token->module, OpenSession, token->slot,
                               CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &token->login);
    if (call.rv != CKR_OK) {
        token->no_session = ckr_class(call) == CKR_CLASS_RETRY;
        return ckr_fail(err, call, "opening the first session");
    }
    if (!token_wants_login(token))
        return SSO_OK;
    call =
        CALL(token->module, Login, token->login, CKU_USER, pin->data, (CK_ULONG)pin->length_bytes);
    if (call.rv == CKR_USER_ALREADY_LOGGED_IN) {
        CK_SESSION_INFO info;
        struct outcome asked = CALL(token->module, GetSessionInfo, token->login, &info);
        if (asked.rv == CKR_OK && info.state == CKS_RW_USER_FUNCTIONS)
            return SSO_OK;
    }
    if (call.rv == CKR_OK)
        return SSO_OK;
    if (ckr_class(call) == CKR_CLASS_PIN)
        return refuse_pin(token, call, err);
    token->login_doubtful = true;
    return ckr_fail(err, call, "logging in");
}

bool token_has(struct token *token, CK_MECHANISM_TYPE mechanism, CK_FLAGS flags)
{
    CK_MECHANISM_INFO info;
    return CALL(token->module, GetMechanismInfo, token->slot, mechanism, &info).rv == CKR_OK &&
           (info.flags & flags) == flags;
}
