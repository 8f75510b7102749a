/*
 * faulty-module: a PKCS#11 module around a real one, for what a real token does not show on demand.
 * A test may change its mind while the module runs.
 *
 *   FAULTY_MODULE   the real module
 *   FAULTY_FOLDER   a folder that the worker may write to. The module keeps in it:
 *     control       what to obey, see below; read anew whenever it was changed (write it under
 *                   another name and rename it). No file: a faultless token
 *     calls         the log of calls, where the control file says `log`
 *     fired         one byte for each time a rule acted
 *     logins        one byte for each C_Login that came
 *     state         counts that all processes share: calls, tries of the PIN, sessions
 *
 * control: a line is a setting or a rule; `#` begins a comment. What cannot be read ends the
 * process with a line on standard error: no fault is left out in silence.
 *
 *   log                       log every call
 *   gone                      the token is not there; its sessions and its login are gone for good
 *   serial TEXT               the token shows another serial: another token with the same label
 *   emptied                   no object is found
 *   sessions N [CODE]         so many sessions over all processes, above it CODE (default
 *                             CKR_SESSION_COUNT); N is also what C_GetTokenInfo says
 *   hide-session-limit        C_GetTokenInfo does not say it
 *   pin-tries N               after N wrong PINs in a row the PIN is locked; the flags of the token
 *                             say CKF_USER_PIN_COUNT_LOW, FINAL_TRY, LOCKED on the way
 *   gcm-iv MODE               C_Encrypt with CKM_AES_GCM takes an IV of the token's own. MODE:
 *       param                   it is written into the parameter
 *       zeros                   so it is, and the caller must give twelve zeros (CloudHSM)
 *       front                   it stands in front of the ciphertext, and goes back to C_Decrypt in
 *                               the parameter
 *       within                  it stands in front of the ciphertext for both; the parameter must
 *                               have none (CKM_CLOUDHSM_AES_GCM)
 *       appended                it has 16 bytes and stands behind the ciphertext; C_Encrypt must be
 *                               given none, C_Decrypt wants it in the parameter (Luna)
 *   refuse-non-sensitive      CKA_SENSITIVE false in a template: CKR_ATTRIBUTE_VALUE_INVALID
 *   refuse-plaintext          C_CreateObject of a secret key: CKR_ATTRIBUTE_VALUE_INVALID
 *   refuse-copyable           CKA_COPYABLE in a template: CKR_ATTRIBUTE_TYPE_INVALID
 *   want-unwrap-length        no CKA_VALUE_LEN in the template of C_UnwrapKey:
 *                             CKR_TEMPLATE_INCOMPLETE
 *   hide-foreign              a token object that another process made after this one began is not
 *                             found here (of the last 1024 that were made)
 *
 *   FUNCTION [at N|from N|rate P] [times M] [data HEX] [after] ACTION
 *
 * FUNCTION is C_…, or * for all. `at` and `from` count the calls of FUNCTION by all processes since
 * the control file was written; rate is a chance from 0 to 1; `times` bounds how often the rule
 * acts, over all processes; `data` compares with what C_UnwrapKey or C_Decrypt gets to open;
 * `after` lets the real module do it first. Of two rules that fit, the first acts (delay and grow
 * let later ones act too). ACTION:
 *
 *   return CODE               CODE is a name (CKR_DEVICE_ERROR) or a number
 *   delay MICROSECONDS[..MICROSECONDS]
 *   hang SECONDS
 *   crash                     as by SIGKILL
 *   grow BYTES                memory that never comes back
 *   break-session CODE        this session says CODE to everything from now on
 *   break-process CODE        so does this process, to everything
 *   remove                    from this call on as `gone`, until the control file is written anew
 *
 * A line of the log: MICROSECONDS PID C_FUNCTION session=S objects=H,H rv=CODE [fault] [stale]
 *                    [attributes=TYPE:VALUE,…] [public=TYPE:VALUE,…] [made=H,H]
 * `stale`: an object handle was used in another session than the one that it came from. Handles
 * are given out with a number of their session in the upper half, so that none is ever the same.
 * `attributes`: of C_GetAttributeValue what was asked for, VALUE is how many bytes came out (-1:
 * none); else of the template, VALUE is a flag's or a number's and `*` for all that is longer. No
 * byte of a key is ever written. `public` is the template of the public half, `made` are the
 * handles that came out, the public one first.
 */
#ifndef SSO_TESTS_FAULTY_H
#define SSO_TESTS_FAULTY_H

#include <p11-kit/pkcs11.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUNCTIONS(X)                                                                               \
    X(Initialize)                                                                                  \
    X(Finalize)                                                                                    \
    X(GetInfo)                                                                                     \
    X(GetSlotList)                                                                                 \
    X(GetSlotInfo)                                                                                 \
    X(GetTokenInfo)                                                                                \
    X(GetMechanismList)                                                                            \
    X(GetMechanismInfo)                                                                            \
    X(OpenSession)                                                                                 \
    X(CloseSession)                                                                                \
    X(GetSessionInfo)                                                                              \
    X(Login)                                                                                       \
    X(Logout)                                                                                      \
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
    X(WrapKey)                                                                                     \
    X(UnwrapKey)                                                                                   \
    X(DeriveKey)                                                                                   \
    X(EncryptInit)                                                                                 \
    X(Encrypt)                                                                                     \
    X(DecryptInit)                                                                                 \
    X(Decrypt)                                                                                     \
    X(SignInit)                                                                                    \
    X(Sign)                                                                                        \
    X(VerifyInit)                                                                                  \
    X(Verify)                                                                                      \
    X(GenerateRandom)

enum function {
#define X(name) FN_##name,
    FUNCTIONS(X)
#undef X
        FN_COUNT
};

enum action {
    ACTION_RETURN,
    ACTION_DELAY,
    ACTION_HANG,
    ACTION_CRASH,
    ACTION_GROW,
    ACTION_BREAK_SESSION,
    ACTION_BREAK_PROCESS,
    ACTION_REMOVE
};

enum when { WHEN_ALWAYS, WHEN_AT, WHEN_FROM, WHEN_RATE };

#define RULES_MAX 64
#define RULE_DATA_BYTES 128

struct rule {
    enum function function; /* FN_COUNT: all */
    enum when when;
    unsigned long number; /* at, from */
    double rate;
    unsigned long times; /* 0: no bound */
    bool after;
    uint8_t data[RULE_DATA_BYTES];
    size_t data_size; /* 0: any */
    enum action action;
    CK_RV code;
    unsigned long low, high; /* delay in µs, hang in s, bytes to grow */
};

enum gcm_iv {
    GCM_IV_CALLER,
    GCM_IV_PARAM,
    GCM_IV_ZEROS,
    GCM_IV_FRONT,
    GCM_IV_WITHIN,
    GCM_IV_APPENDED
};
#define GCM_IV_BYTES_MAX 16

struct settings {
    bool log, gone, emptied, hide_session_limit, refuse_non_sensitive, refuse_plaintext,
        refuse_copyable, hide_foreign, want_unwrap_length;
    char serial[17];
    unsigned sessions; /* 0: no limit */
    CK_RV sessions_code;
    unsigned pin_tries; /* 0: no lock */
    enum gcm_iv gcm_iv;
};

struct control {
    struct settings settings;
    struct rule rule[RULES_MAX];
    unsigned rule_count;
};

/* control.c */
/* Reads the file at `path`; where there is none *out is a faultless token. */
void control_read(const char *path, struct control *out);
const char *function_name(enum function function);

/* state.c: what all processes around one token share. */
#define PROCESSES_MAX 128
#define OBJECTS_MAX 1024

struct shared {
    uint64_t edition[2]; /* inode and time of the control file that the counts below are of */
    uint64_t calls[FN_COUNT], fired[RULES_MAX];
    uint64_t removals; /* how often the token went */
    bool is_gone;
    unsigned wrong_pins;
    struct {
        int pid;
        unsigned sessions;
    } process[PROCESSES_MAX];
    struct {
        uint8_t id[16];
        int pid;
        int64_t made_us;
    } object[OBJECTS_MAX];
    unsigned objects_made;
};

int64_t now_us(void);
/* Between these two nobody else, of any process, has it. */
struct shared *state_lock(void);
void state_unlock(void);
/* Appends to a file of the folder. */
void state_append(const char *name, const void *bytes, size_t size);
/* The control file as it is now, with the shared counts begun anew if it was changed. Locked. */
const struct control *state_control(struct shared *shared);
/* Sessions of all processes that live. Locked. */
unsigned state_sessions(struct shared *shared);
void state_count_session(struct shared *shared, int change);
void state_note_object(struct shared *shared, const uint8_t id[static 16]);
/* Was it made by another process since this one began? Locked. */
bool state_is_foreign(struct shared *shared, const uint8_t id[static 16]);
/* What is not to be seen by others of a process: it begins now. */
void state_begin_process(void);

/* gcm.c: what a mode of IVs makes of the four functions. */
CK_RV gcm_encrypt_init(enum gcm_iv mode, CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session,
                       const CK_GCM_PARAMS *given, CK_OBJECT_HANDLE key);
CK_RV gcm_encrypt(CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG size,
                  CK_BYTE *out, CK_ULONG *length);
CK_RV gcm_decrypt_init(CK_SESSION_HANDLE session, const CK_GCM_PARAMS *given, CK_OBJECT_HANDLE key);
CK_RV gcm_decrypt(CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_BYTE *in, CK_ULONG size,
                  CK_BYTE *out, CK_ULONG *length);

/* log.c: appends one line to the log. `end`: how the call ended where it has no result, or NULL. */
struct call;
void log_call(const struct call *call, const char *end);

/* call.c: what comes before and after each call. */
struct call {
    enum function function;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE object[2]; /* as the caller has them */
    CK_ATTRIBUTE *template, *public;
    CK_ULONG template_count, public_count;
    CK_OBJECT_HANDLE made[2]; /* as the caller gets them */
    const uint8_t *data;
    size_t data_size;
    bool decided; /* the real module is not asked */
    bool fault, stale;
    CK_RV rv;
    struct settings settings; /* as they were when the call began */
};

/* template.c */
bool template_says(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ATTRIBUTE_TYPE type,
                   CK_BBOOL value);
/* What a token with its own opinion says to a template; CKR_OK: nothing. */
CK_RV template_refuse(struct call *call);
/* Copies all but CKA_VALUE_LEN; how many. */
CK_ULONG template_without_length(CK_ATTRIBUTE *template, CK_ULONG count, CK_ATTRIBUTE *out);

/* True: go on to the real module. */
bool call_begin(struct call *call);
CK_RV call_end(struct call *call, CK_RV rv);
/* Handles, the caller's way and the real module's. */
CK_OBJECT_HANDLE handle_real(CK_OBJECT_HANDLE handle);
CK_OBJECT_HANDLE handle_given(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE handle);
void session_opened(CK_SESSION_HANDLE session);
void session_closed(CK_SESSION_HANDLE session);
void sessions_closed(void); /* all */
void process_logged_in(void);
bool process_lost_login(void);

#endif
