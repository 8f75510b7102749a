/* The functions of the module; faulty.h says what it is and what it obeys. */
#include "faulty.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEMPLATE_MAX 64

static CK_FUNCTION_LIST list, *real;

#define BEGIN(name, ...)                                                                           \
    struct call call = {.function = FN_##name, __VA_ARGS__};                                       \
    if (!call_begin(&call))                                                                        \
    return call_end(&call, call.rv)
#define END(rv) return call_end(&call, (rv))
#define TEMPLATE .template = template, .template_count = count

static CK_RV faulty_Initialize(void *args)
{
    BEGIN(Initialize, .session = 0);
    state_begin_process();
    srand((unsigned)getpid());
    END(real->C_Initialize(args));
}

static CK_RV faulty_Finalize(void *reserved)
{
    BEGIN(Finalize, .session = 0);
    CK_RV rv = real->C_Finalize(reserved);
    if (rv == CKR_OK)
        sessions_closed();
    END(rv);
}

static CK_RV faulty_GetInfo(CK_INFO *info)
{
    BEGIN(GetInfo, .session = 0);
    END(real->C_GetInfo(info));
}

static CK_RV faulty_GetSlotList(CK_BBOOL present, CK_SLOT_ID *slots, CK_ULONG *count)
{
    BEGIN(GetSlotList, .session = 0);
    if (call.settings.gone && present) {
        *count = 0;
        END(CKR_OK);
    }
    END(real->C_GetSlotList(present, slots, count));
}

static CK_RV faulty_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    BEGIN(GetSlotInfo, .session = 0);
    CK_RV rv = real->C_GetSlotInfo(slot, info);
    if (rv == CKR_OK && call.settings.gone)
        info->flags &= ~(CK_FLAGS)CKF_TOKEN_PRESENT;
    END(rv);
}

static void show_tries(const struct settings *settings, CK_TOKEN_INFO *info)
{
    struct shared *shared = state_lock();
    unsigned wrong = shared->wrong_pins;
    state_unlock();
    info->flags &=
        ~(CK_FLAGS)(CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED);
    if (wrong > 0)
        info->flags |= CKF_USER_PIN_COUNT_LOW;
    if (wrong + 1 == settings->pin_tries)
        info->flags |= CKF_USER_PIN_FINAL_TRY;
    if (wrong >= settings->pin_tries)
        info->flags |= CKF_USER_PIN_LOCKED;
}

static CK_RV faulty_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    BEGIN(GetTokenInfo, .session = 0);
    CK_RV rv = real->C_GetTokenInfo(slot, info);
    const struct settings *settings = &call.settings;
    if (rv == CKR_OK && settings->serial[0] != '\0') {
        memset(info->serialNumber, ' ', sizeof info->serialNumber);
        memcpy(info->serialNumber, settings->serial, strlen(settings->serial));
    }
    if (rv == CKR_OK && settings->sessions > 0 && !settings->hide_session_limit)
        info->ulMaxSessionCount = info->ulMaxRwSessionCount = settings->sessions;
    if (rv == CKR_OK && settings->pin_tries > 0)
        show_tries(settings, info);
    END(rv);
}

static CK_RV faulty_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE *out, CK_ULONG *count)
{
    BEGIN(GetMechanismList, .session = 0);
    END(real->C_GetMechanismList(slot, out, count));
}

static CK_RV faulty_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type,
                                     CK_MECHANISM_INFO *info)
{
    BEGIN(GetMechanismInfo, .session = 0);
    END(real->C_GetMechanismInfo(slot, type, info));
}

/* Counted before it is opened, so that two processes cannot pass the limit together. */
static CK_RV faulty_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application,
                                CK_NOTIFY notify, CK_SESSION_HANDLE *session)
{
    BEGIN(OpenSession, .session = 0);
    struct shared *shared = state_lock();
    bool full = call.settings.sessions > 0 && state_sessions(shared) >= call.settings.sessions;
    if (!full)
        state_count_session(shared, 1);
    state_unlock();
    if (full) {
        call.fault = true;
        END(call.settings.sessions_code);
    }
    CK_RV rv = real->C_OpenSession(slot, flags, application, notify, session);
    if (rv == CKR_OK) {
        session_opened(*session);
        call.session = *session;
    } else {
        state_count_session(state_lock(), -1);
        state_unlock();
    }
    END(rv);
}

/* The session is closed whatever a rule or the token's absence says. */
static CK_RV faulty_CloseSession(CK_SESSION_HANDLE session)
{
    struct call call = {.function = FN_CloseSession, .session = session};
    bool goes_on = call_begin(&call);
    CK_RV rv = real->C_CloseSession(session);
    session_closed(session);
    if (rv == CKR_OK) {
        state_count_session(state_lock(), -1);
        state_unlock();
    }
    END(goes_on ? rv : call.rv);
}

static CK_RV faulty_GetSessionInfo(CK_SESSION_HANDLE session, CK_SESSION_INFO *info)
{
    BEGIN(GetSessionInfo, .session = session);
    END(real->C_GetSessionInfo(session, info));
}

/* A wrong PIN counts, and a locked one is not asked. */
static CK_RV login_counted(const struct settings *settings, CK_SESSION_HANDLE session,
                           CK_USER_TYPE user, CK_UTF8CHAR *pin, CK_ULONG size)
{
    unsigned tries = settings->pin_tries;
    bool locked = tries > 0 && state_lock()->wrong_pins >= tries;
    if (tries > 0)
        state_unlock();
    CK_RV rv = locked ? CKR_PIN_LOCKED : real->C_Login(session, user, pin, size);
    struct shared *shared = state_lock();
    if (rv == CKR_OK)
        shared->wrong_pins = 0;
    else if (rv == CKR_PIN_INCORRECT)
        shared->wrong_pins++;
    state_unlock();
    return rv;
}

static CK_RV faulty_Login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR *pin,
                          CK_ULONG size)
{
    state_append("logins", "x", 1);
    BEGIN(Login, .session = session);
    CK_RV rv = login_counted(&call.settings, session, user, pin, size);
    if (rv == CKR_USER_ALREADY_LOGGED_IN && process_lost_login())
        rv = CKR_OK; /* the token came back without it */
    if (rv == CKR_OK)
        process_logged_in();
    END(rv);
}

static CK_RV faulty_Logout(CK_SESSION_HANDLE session)
{
    BEGIN(Logout, .session = session);
    END(real->C_Logout(session));
}

static CK_RV faulty_FindObjectsInit(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template,
                                    CK_ULONG count)
{
    BEGIN(FindObjectsInit, .session = session, TEMPLATE);
    END(real->C_FindObjectsInit(session, template, count));
}

static bool read_id(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, uint8_t id[static 16])
{
    CK_ATTRIBUTE wanted = {CKA_ID, id, 16};
    memset(id, 0, 16);
    return real->C_GetAttributeValue(session, object, &wanted, 1) == CKR_OK;
}

static bool is_hidden(const struct settings *settings, CK_SESSION_HANDLE session,
                      CK_OBJECT_HANDLE object)
{
    uint8_t id[16];
    if (settings->emptied)
        return true;
    if (!settings->hide_foreign || !read_id(session, object, id))
        return false;
    bool foreign = state_is_foreign(state_lock(), id);
    state_unlock();
    return foreign;
}

static CK_RV faulty_FindObjects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *found,
                                CK_ULONG maximum, CK_ULONG *count)
{
    BEGIN(FindObjects, .session = session);
    CK_RV rv;
    do {
        CK_ULONG kept = 0;
        rv = real->C_FindObjects(session, found, maximum, count);
        if (rv != CKR_OK || *count == 0)
            break;
        for (CK_ULONG i = 0; i < *count; i++)
            if (!is_hidden(&call.settings, session, found[i]))
                found[kept++] = handle_given(session, found[i]);
        *count = kept;
    } while (*count == 0);
    END(rv);
}

static CK_RV faulty_FindObjectsFinal(CK_SESSION_HANDLE session)
{
    BEGIN(FindObjectsFinal, .session = session);
    END(real->C_FindObjectsFinal(session));
}

static CK_RV faulty_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                      CK_ATTRIBUTE *template, CK_ULONG count)
{
    BEGIN(GetAttributeValue, .session = session, .object[0] = object, TEMPLATE);
    END(real->C_GetAttributeValue(session, handle_real(object), template, count));
}

static CK_RV faulty_SetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                      CK_ATTRIBUTE *template, CK_ULONG count)
{
    BEGIN(SetAttributeValue, .session = session, .object[0] = object, TEMPLATE);
    END(real->C_SetAttributeValue(session, handle_real(object), template, count));
}

/* A new object: noted where it is a token's, and its handle made ours. */
static CK_RV made(struct call *call, CK_RV rv, CK_OBJECT_HANDLE *out)
{
    uint8_t id[16];
    if (rv != CKR_OK)
        return rv;
    if (template_says(call->template, call->template_count, CKA_TOKEN, CK_TRUE) &&
        read_id(call->session, *out, id)) {
        state_note_object(state_lock(), id);
        state_unlock();
    }
    *out = handle_given(call->session, *out);
    call->made[call->made[0] != 0] = *out;
    return rv;
}

static CK_RV faulty_CreateObject(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count,
                                 CK_OBJECT_HANDLE *out)
{
    BEGIN(CreateObject, .session = session, TEMPLATE);
    CK_RV rv = template_refuse(&call);
    if (rv == CKR_OK)
        rv = made(&call, real->C_CreateObject(session, template, count, out), out);
    END(rv);
}

static CK_RV faulty_CopyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                               CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *out)
{
    BEGIN(CopyObject, .session = session, .object[0] = object, TEMPLATE);
    CK_RV rv = template_refuse(&call);
    if (rv == CKR_OK)
        rv = made(&call, real->C_CopyObject(session, handle_real(object), template, count, out),
                  out);
    END(rv);
}

static CK_RV faulty_DestroyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
    BEGIN(DestroyObject, .session = session, .object[0] = object);
    END(real->C_DestroyObject(session, handle_real(object)));
}

static CK_RV faulty_GenerateKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *out)
{
    BEGIN(GenerateKey, .session = session, TEMPLATE);
    CK_RV rv = template_refuse(&call);
    if (rv == CKR_OK)
        rv = made(&call, real->C_GenerateKey(session, mechanism, template, count, out), out);
    END(rv);
}

static CK_RV faulty_GenerateKeyPair(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                    CK_ATTRIBUTE *public, CK_ULONG public_count,
                                    CK_ATTRIBUTE *private, CK_ULONG private_count,
                                    CK_OBJECT_HANDLE *out_public, CK_OBJECT_HANDLE *out_private)
{
    BEGIN(GenerateKeyPair, .session = session, .public = public, .public_count = public_count,
          .template = private, .template_count = private_count);
    CK_RV rv = template_refuse(&call);
    if (rv == CKR_OK)
        rv = real->C_GenerateKeyPair(session, mechanism, public, public_count, private,
                                     private_count, out_public, out_private);
    if (rv == CKR_OK)
        call.made[0] = *out_public = handle_given(session, *out_public);
    END(made(&call, rv, out_private));
}

static CK_RV faulty_WrapKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE by,
                            CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *length)
{
    BEGIN(WrapKey, .session = session, .object = {by, key});
    END(real->C_WrapKey(session, mechanism, handle_real(by), handle_real(key), out, length));
}

static CK_RV faulty_UnwrapKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                              CK_OBJECT_HANDLE key, CK_BYTE *in, CK_ULONG size,
                              CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *out)
{
    BEGIN(UnwrapKey, .session = session, .object[0] = key, .data = in, .data_size = size, TEMPLATE);
    CK_RV rv = template_refuse(&call);
    CK_ATTRIBUTE kept[TEMPLATE_MAX];
    if (rv == CKR_OK && call.settings.want_unwrap_length && count <= TEMPLATE_MAX) {
        count = template_without_length(template, count, kept);
        template = kept;
    }
    if (rv == CKR_OK)
        rv = made(
            &call,
            real->C_UnwrapKey(session, mechanism, handle_real(key), in, size, template, count, out),
            out);
    END(rv);
}

static CK_RV faulty_DeriveKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                              CK_OBJECT_HANDLE key, CK_ATTRIBUTE *template, CK_ULONG count,
                              CK_OBJECT_HANDLE *out)
{
    BEGIN(DeriveKey, .session = session, .object[0] = key, TEMPLATE);
    CK_RV rv = template_refuse(&call);
    if (rv == CKR_OK)
        rv = made(&call,
                  real->C_DeriveKey(session, mechanism, handle_real(key), template, count, out),
                  out);
    END(rv);
}

/* The parameters of CKM_AES_GCM where the token has an IV of its own, else NULL. */
static const CK_GCM_PARAMS *gcm_of(const struct call *call, const CK_MECHANISM *mechanism)
{
    bool own = mechanism->mechanism == CKM_AES_GCM && call->settings.gcm_iv != GCM_IV_CALLER;
    return own ? mechanism->pParameter : NULL;
}

static CK_RV faulty_EncryptInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                CK_OBJECT_HANDLE key)
{
    BEGIN(EncryptInit, .session = session, .object[0] = key);
    const CK_GCM_PARAMS *gcm = gcm_of(&call, mechanism);
    if (gcm != NULL)
        END(gcm_encrypt_init(call.settings.gcm_iv, real, session, gcm, handle_real(key)));
    END(real->C_EncryptInit(session, mechanism, handle_real(key)));
}

static CK_RV faulty_Encrypt(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG size, CK_BYTE *out,
                            CK_ULONG *length)
{
    BEGIN(Encrypt, .session = session);
    END(gcm_encrypt(real, session, in, size, out, length));
}

static CK_RV faulty_DecryptInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                CK_OBJECT_HANDLE key)
{
    BEGIN(DecryptInit, .session = session, .object[0] = key);
    const CK_GCM_PARAMS *gcm = gcm_of(&call, mechanism);
    if (gcm != NULL && call.settings.gcm_iv == GCM_IV_WITHIN)
        END(gcm_decrypt_init(session, gcm, handle_real(key)));
    END(real->C_DecryptInit(session, mechanism, handle_real(key)));
}

static CK_RV faulty_Decrypt(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG size, CK_BYTE *out,
                            CK_ULONG *length)
{
    BEGIN(Decrypt, .session = session, .data = in, .data_size = size);
    END(gcm_decrypt(real, session, in, size, out, length));
}

static CK_RV faulty_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                             CK_OBJECT_HANDLE key)
{
    BEGIN(SignInit, .session = session, .object[0] = key);
    END(real->C_SignInit(session, mechanism, handle_real(key)));
}

static CK_RV faulty_Sign(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG size, CK_BYTE *out,
                         CK_ULONG *length)
{
    BEGIN(Sign, .session = session);
    END(real->C_Sign(session, in, size, out, length));
}

static CK_RV faulty_VerifyInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                               CK_OBJECT_HANDLE key)
{
    BEGIN(VerifyInit, .session = session, .object[0] = key);
    END(real->C_VerifyInit(session, mechanism, handle_real(key)));
}

static CK_RV faulty_Verify(CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG size,
                           CK_BYTE *signature, CK_ULONG length)
{
    BEGIN(Verify, .session = session);
    END(real->C_Verify(session, in, size, signature, length));
}

static CK_RV faulty_GenerateRandom(CK_SESSION_HANDLE session, CK_BYTE *out, CK_ULONG size)
{
    BEGIN(GenerateRandom, .session = session);
    END(real->C_GenerateRandom(session, out, size));
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out);

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    CK_C_GetFunctionList get = NULL;
    const char *path = getenv("FAULTY_MODULE");
    void *library = path != NULL ? dlopen(path, RTLD_NOW) : NULL;
    void *symbol = library != NULL ? dlsym(library, "C_GetFunctionList") : NULL;
    memcpy(&get, &symbol, sizeof get);
    if (get == NULL || get(&real) != CKR_OK) {
        fprintf(stderr, "faulty-module: FAULTY_MODULE does not load: %s\n", dlerror());
        return CKR_GENERAL_ERROR;
    }
    list = *real;
    list.C_GetFunctionList = C_GetFunctionList;
#define X(name) list.C_##name = faulty_##name;
    FUNCTIONS(X)
#undef X
    *out = &list;
    return CKR_OK;
}
