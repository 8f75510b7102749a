#include "pkcs11/key.h"

#include <stdio.h>
#include <string.h>

#include "pkcs11/ckr.h"

#define MATCHES_MAX 16
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS class_secret = CKO_SECRET_KEY;
static CK_KEY_TYPE type_aes = CKK_AES;
static CK_ULONG aes256_bytes = 32;

const struct key_usage key_usages[KEY_USAGES] = {
    {CKA_WRAP, "wrap"}, {CKA_UNWRAP, "unwrap"}, {CKA_ENCRYPT, "encrypt"}, {CKA_DECRYPT, "decrypt"},
    {CKA_SIGN, "sign"}, {CKA_VERIFY, "verify"}, {CKA_DERIVE, "derive"},
};

bool key_usage_wanted(const struct suite *suite, CK_ATTRIBUTE_TYPE usage)
{
    return suite->wraps ? usage == CKA_WRAP || usage == CKA_UNWRAP
                        : usage == CKA_ENCRYPT || usage == CKA_DECRYPT;
}

/* How many objects fit; the first of them in *out. */
static enum sso_code count_objects(struct session *session, CK_ATTRIBUTE *template, CK_ULONG size,
                                   CK_ULONG *count, CK_OBJECT_HANDLE *out, struct sso_error *err)
{
    struct module *module = session->token->module;
    CK_OBJECT_HANDLE found[MATCHES_MAX];
    struct outcome call = CALL(module, FindObjectsInit, session->handle, template, size);
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, "looking for a key");
    *count = 0;
    for (CK_ULONG n = 1; n > 0 && *count < MATCHES_MAX; *count += n) {
        call = CALL(module, FindObjects, session->handle, found + *count, MATCHES_MAX - *count, &n);
        if (call.rv != CKR_OK)
            break;
    }
    struct outcome end = CALL(module, FindObjectsFinal, session->handle);
    if (call.rv != CKR_OK || end.rv != CKR_OK)
        return ckr_fail(err, call.rv != CKR_OK ? call : end, "looking for a key");
    if (*count > 0)
        *out = found[0];
    return SSO_OK;
}

static enum sso_code count_keys(struct session *session, const struct generation_key *generation,
                                CK_ULONG *count, CK_OBJECT_HANDLE *out, struct sso_error *err)
{
    char label[GENERATION_LABEL_SIZE];
    generation_label(generation->system_id, generation->number, label);
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class_secret, sizeof class_secret},
        {CKA_KEY_TYPE, &type_aes, sizeof type_aes},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_ID, (void *)generation->secret_id, SECRET_ID_BYTES},
        {CKA_LABEL, label, strlen(label)},
    };
    return count_objects(session, template, COUNT(template), count, out, err);
}

enum sso_code key_find(struct session *session, const struct generation_key *generation,
                       CK_OBJECT_HANDLE *out, struct sso_error *err)
{
    char label[GENERATION_LABEL_SIZE];
    CK_ULONG count = 0;
    enum sso_code code = count_keys(session, generation, &count, out, err);
    if (code != SSO_OK || count == 1)
        return code;
    generation_label(generation->system_id, generation->number, label);
    return sso_fail(err, SSO_NO_MASTER_SECRET,
                    "token \"%s\" holds %lu keys for generation %u (label %s), exactly 1 is wanted",
                    session->token->identity.token, count, generation->number, label);
}

enum sso_code key_is_absent(struct session *session, const struct generation_key *generation,
                            bool *absent, struct sso_error *err)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    CK_ULONG count = 0;
    enum sso_code code = count_keys(session, generation, &count, &key, err);
    *absent = code == SSO_OK && count == 0;
    return code;
}

int key_attribute(struct session *session, CK_OBJECT_HANDLE key, CK_ATTRIBUTE_TYPE type)
{
    CK_BBOOL value = CK_FALSE;
    CK_ATTRIBUTE attribute = {type, &value, sizeof value};
    struct outcome call =
        CALL(session->token->module, GetAttributeValue, session->handle, key, &attribute, 1);
    if (call.rv != CKR_OK || attribute.ulValueLen != sizeof value)
        return -1;
    return value != CK_FALSE;
}

enum sso_code key_check(struct session *session, CK_OBJECT_HANDLE key, const struct suite *suite,
                        struct sso_error *err)
{
    char wrong[256] = "";
    size_t length = 0;
    if (key_attribute(session, key, CKA_SENSITIVE) != 1)
        length += (size_t)snprintf(wrong + length, sizeof wrong - length, ", not sensitive");
    if (key_attribute(session, key, CKA_EXTRACTABLE) != 0)
        length += (size_t)snprintf(wrong + length, sizeof wrong - length, ", extractable");
    for (size_t i = 0; i < KEY_USAGES; i++) {
        bool wanted = key_usage_wanted(suite, key_usages[i].type);
        if ((key_attribute(session, key, key_usages[i].type) == 1) != wanted)
            length += (size_t)snprintf(wrong + length, sizeof wrong - length, ", usage %s is %s",
                                       key_usages[i].name, wanted ? "missing" : "allowed");
    }
    if (length == 0)
        return SSO_OK;
    return sso_fail(err, SSO_KEY_NOT_ACCEPTABLE,
                    "the key in token \"%s\" is no master secret for %s: %s; make another with "
                    "sso-hsm key generate",
                    session->token->identity.token, suite_name(suite->id), wrong + 2);
}

static enum sso_code check_free(struct session *session, CK_ATTRIBUTE_TYPE type, const void *value,
                                size_t bytes, struct sso_error *err)
{
    CK_ATTRIBUTE template[] = {{type, (void *)value, bytes}};
    CK_ULONG count = 0;
    CK_OBJECT_HANDLE object;
    enum sso_code code = count_objects(session, template, COUNT(template), &count, &object, err);
    if (code != SSO_OK || count == 0)
        return code;
    return sso_fail(err, SSO_ALREADY_EXISTS, "token \"%s\" already has an object with this %s",
                    session->token->identity.token, type == CKA_LABEL ? "label" : "id");
}

struct master_template {
    CK_ATTRIBUTE attribute[32];
    CK_ULONG count;
};

static void add(struct master_template *template, CK_ATTRIBUTE_TYPE type, const void *value,
                size_t bytes)
{
    template->attribute[template->count++] = (CK_ATTRIBUTE){type, (void *)value, bytes};
}

static void master_template(struct master_template *out, const struct generation_key *generation,
                            const char *label, bool token_object)
{
    const struct suite *suite = suite_by_id(generation->suite);
    out->count = 0;
    add(out, CKA_CLASS, &class_secret, sizeof class_secret);
    add(out, CKA_KEY_TYPE, &type_aes, sizeof type_aes);
    add(out, CKA_ID, generation->secret_id, SECRET_ID_BYTES);
    add(out, CKA_LABEL, label, strlen(label));
    add(out, CKA_TOKEN, token_object ? &yes : &no, sizeof yes);
    add(out, CKA_PRIVATE, &yes, sizeof yes);
    add(out, CKA_SENSITIVE, &yes, sizeof yes);
    add(out, CKA_EXTRACTABLE, &no, sizeof no);
    for (size_t i = 0; i < KEY_USAGES; i++)
        add(out, key_usages[i].type, key_usage_wanted(suite, key_usages[i].type) ? &yes : &no,
            sizeof yes);
}

static enum sso_code generate(struct session *session, const struct generation_key *generation,
                              bool token_object, CK_OBJECT_HANDLE *out, struct sso_error *err)
{
    char label[GENERATION_LABEL_SIZE];
    generation_label(generation->system_id, generation->number, label);
    struct master_template template;
    master_template(&template, generation, label, token_object);
    add(&template, CKA_VALUE_LEN, &aes256_bytes, sizeof aes256_bytes);
    CK_ULONG required = template.count;
    add(&template, CKA_MODIFIABLE, &no, sizeof no);
    add(&template, CKA_COPYABLE, &no, sizeof no);
    CK_MECHANISM mechanism = {.mechanism = CKM_AES_KEY_GEN};
    struct outcome call;
    /* Tokens refuse the two that we would like and do not rely on: one, or both; SoftHSM takes
     * both, NSS says CKR_GENERAL_ERROR to COPYABLE. */
    for (;; template.count--) {
        call = CALL(session->token->module, GenerateKey, session->handle, &mechanism,
                    template.attribute, template.count, out);
        if (call.rv == CKR_OK || template.count == required)
            break;
    }
    return call.rv == CKR_OK ? SSO_OK : ckr_fail(err, call, "making the master secret");
}

static enum sso_code check_name_free(struct session *session,
                                     const struct generation_key *generation, struct sso_error *err)
{
    char label[GENERATION_LABEL_SIZE];
    generation_label(generation->system_id, generation->number, label);
    enum sso_code code = check_free(session, CKA_LABEL, label, strlen(label), err);
    return code == SSO_OK ? check_free(session, CKA_ID, generation->secret_id, SECRET_ID_BYTES, err)
                          : code;
}

/* The key that was just made is looked for by its name: there must be it alone, and nothing left of
 * a try that the token refused half-way. A failure leaves no key, or names it. */
static enum sso_code find_made(struct session *session, const struct generation_key *generation,
                               CK_OBJECT_HANDLE made, CK_OBJECT_HANDLE *out, struct sso_error *err)
{
    char label[GENERATION_LABEL_SIZE];
    struct sso_error left = {0};
    enum sso_code code = key_find(session, generation, out, err);
    if (code == SSO_OK || key_destroy(session, made, &left) == SSO_OK)
        return code;
    generation_label(generation->system_id, generation->number, label);
    sso_error_context(err, "the key %s is left in the token (%s)", label, left.detail);
    return code;
}

enum sso_code key_generate(struct session *session, const struct generation_key *generation,
                           CK_OBJECT_HANDLE *out, struct sso_error *err)
{
    CK_OBJECT_HANDLE made;
    enum sso_code code = check_name_free(session, generation, err);
    if (code == SSO_OK)
        code = generate(session, generation, true, &made, err);
    return code == SSO_OK ? find_made(session, generation, made, out, err) : code;
}

enum sso_code key_generate_trial(struct session *session, const struct generation_key *generation,
                                 CK_OBJECT_HANDLE *out, struct sso_error *err)
{
    return generate(session, generation, false, out, err);
}

static struct outcome unwrap_backup(struct session *session, const struct key_backup *backup,
                                    CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *out)
{
    CK_MECHANISM mechanism = {.mechanism = CKM_AES_KEY_WRAP};
    return CALL(session->token->module, UnwrapKey, session->handle, &mechanism,
                backup->wrapping_key, (CK_BYTE_PTR)backup->wrapped.bytes,
                backup->wrapped.length_bytes, template, count, out);
}

/* The backup holds what a key is, the template what it may do. Most tokens refuse the length in the
 * template, some refuse its lack (Luna before firmware 7.9.3). */
static struct outcome install(struct session *session, const struct key_backup *backup,
                              const struct generation_key *generation, bool token_object,
                              CK_OBJECT_HANDLE *out)
{
    char label[GENERATION_LABEL_SIZE];
    generation_label(generation->system_id, generation->number, label);
    struct master_template template;
    master_template(&template, generation, label, token_object);
    const CK_ULONG required = template.count;
    struct outcome plain = {FN_UnwrapKey, CKR_OK};
    for (unsigned attempt = 0; attempt < 3; attempt++) {
        template.count = required;
        if (attempt == 0)
            add(&template, CKA_MODIFIABLE, &no, sizeof no);
        if (attempt == 2)
            add(&template, CKA_VALUE_LEN, &aes256_bytes, sizeof aes256_bytes);
        struct outcome call =
            unwrap_backup(session, backup, template.attribute, template.count, out);
        if (call.rv == CKR_OK)
            return call;
        if (attempt == 1 || (attempt == 2 && ckr_class(plain) == CKR_CLASS_CONFIGURATION))
            plain = call; /* what says more: not that a template was wrong */
    }
    return plain;
}

enum sso_code key_install(struct session *session, const struct key_backup *backup,
                          const struct generation_key *generation, CK_OBJECT_HANDLE *out,
                          struct sso_error *err)
{
    enum sso_code code = check_name_free(session, generation, err);
    if (code != SSO_OK)
        return code;
    CK_OBJECT_HANDLE made;
    struct outcome call = install(session, backup, generation, true, &made);
    if (call.rv != CKR_OK)
        return ckr_fail(err, call, "installing the master secret from its backup");
    return find_made(session, generation, made, out, err);
}

enum sso_code key_install_trial(struct session *session, const struct key_backup *backup,
                                const struct generation_key *generation, CK_OBJECT_HANDLE *out,
                                struct sso_error *err)
{
    struct outcome call = install(session, backup, generation, false, out);
    if (call.rv == CKR_OK)
        return SSO_OK;
    enum ckr_class class = ckr_class(call);
    char name[CKR_NAME_SIZE];
    if (class == CKR_CLASS_ITEM || class == CKR_CLASS_DOUBTFUL)
        return sso_fail(err, SSO_BACKUP_TAMPERED,
                        "the wrapped key in the backup does not open under its wrapping key (%s)",
                        ckr_name(call.rv, name));
    return ckr_fail(err, call, "opening the backup of the master secret");
}

struct outcome key_unwrap_extractable(struct session *session, const struct key_backup *backup,
                                      CK_OBJECT_HANDLE *out)
{
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class_secret, sizeof class_secret},
        {CKA_KEY_TYPE, &type_aes, sizeof type_aes},
        {CKA_TOKEN, &no, sizeof no},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &yes, sizeof yes},
        {CKA_WRAP, &no, sizeof no},
        {CKA_UNWRAP, &no, sizeof no},
        {CKA_ENCRYPT, &no, sizeof no},
        {CKA_DECRYPT, &no, sizeof no},
        {CKA_SIGN, &no, sizeof no},
        {CKA_VERIFY, &no, sizeof no},
        {CKA_DERIVE, &no, sizeof no},
        {CKA_VALUE_LEN, &aes256_bytes, sizeof aes256_bytes},
    };
    struct outcome plain = unwrap_backup(session, backup, template, COUNT(template) - 1, out);
    if (plain.rv == CKR_OK)
        return plain;
    struct outcome call = unwrap_backup(session, backup, template, COUNT(template), out);
    return call.rv == CKR_OK || ckr_class(plain) == CKR_CLASS_CONFIGURATION ? call : plain;
}

enum sso_code key_destroy(struct session *session, CK_OBJECT_HANDLE key, struct sso_error *err)
{
    struct outcome call = CALL(session->token->module, DestroyObject, session->handle, key);
    return call.rv == CKR_OK ? SSO_OK : ckr_fail(err, call, "destroying a master secret");
}

struct outcome key_generate_session(struct session *session, CK_ATTRIBUTE_TYPE usage,
                                    CK_OBJECT_HANDLE *out)
{
    CK_BBOOL *wraps = usage == CKA_WRAP ? &yes : &no, *encrypts = usage == CKA_ENCRYPT ? &yes : &no;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class_secret, sizeof class_secret},
        {CKA_KEY_TYPE, &type_aes, sizeof type_aes},
        {CKA_VALUE_LEN, &aes256_bytes, sizeof aes256_bytes},
        {CKA_TOKEN, &no, sizeof no},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &yes, sizeof yes},
        {CKA_WRAP, wraps, sizeof yes},
        {CKA_UNWRAP, wraps, sizeof yes},
        {CKA_ENCRYPT, encrypts, sizeof yes},
        {CKA_DECRYPT, encrypts, sizeof yes},
        {CKA_SIGN, &no, sizeof no},
        {CKA_VERIFY, &no, sizeof no},
        {CKA_DERIVE, &no, sizeof no},
    };
    CK_MECHANISM generate = {.mechanism = CKM_AES_KEY_GEN};
    return CALL(session->token->module, GenerateKey, session->handle, &generate, template,
                COUNT(template), out);
}
