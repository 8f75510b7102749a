/* The master secret as an object in the token: found, checked, made, destroyed. */
#ifndef SSO_PKCS11_KEY_H
#define SSO_PKCS11_KEY_H

#include "pkcs11/session.h"
#include "pkcs11/suite.h"

/* The usage attributes, in the order in which people read them. */
struct key_usage {
    CK_ATTRIBUTE_TYPE type;
    const char *name; /* "wrap" */
};
#define KEY_USAGES 7
extern const struct key_usage key_usages[KEY_USAGES];
/* Shall the master secret of this suite have the usage? */
bool key_usage_wanted(const struct suite *suite, CK_ATTRIBUTE_TYPE usage);

/* By secret id, label, class and type: one must fit. SSO_NO_MASTER_SECRET has the count. */
enum sso_code key_find(struct session *session, const struct generation_key *generation,
                       CK_OBJECT_HANDLE *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* *absent: nothing of this secret id, label, class and type is there. More than one is not none. */
enum sso_code key_is_absent(struct session *session, const struct generation_key *generation,
                            bool *absent, struct sso_error *err)
    __attribute__((warn_unused_result));

/* SSO_KEY_NOT_ACCEPTABLE names each attribute that a master secret of this suite must not have. */
enum sso_code key_check(struct session *session, CK_OBJECT_HANDLE key, const struct suite *suite,
                        struct sso_error *err) __attribute__((warn_unused_result));

/* C_GenerateKey with every attribute named. SSO_ALREADY_EXISTS: the label or the id is taken. */
enum sso_code key_generate(struct session *session, const struct generation_key *generation,
                           CK_OBJECT_HANDLE *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* The same as a session object, for probing a token. */
enum sso_code key_generate_trial(struct session *session, const struct generation_key *generation,
                                 CK_OBJECT_HANDLE *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A master secret wrapped by CKM_AES_KEY_WRAP (RFC 3394) under a key that is in the session. */
struct key_backup {
    CK_OBJECT_HANDLE wrapping_key;
    struct wrapped_key wrapped;
};

/* As key_generate, but the key is what the backup holds. */
enum sso_code key_install(struct session *session, const struct key_backup *backup,
                          const struct generation_key *generation, CK_OBJECT_HANDLE *out,
                          struct sso_error *err) __attribute__((warn_unused_result));
/* The same as a session object. SSO_BACKUP_TAMPERED: it does not open. */
enum sso_code key_install_trial(struct session *session, const struct key_backup *backup,
                                const struct generation_key *generation, CK_OBJECT_HANDLE *out,
                                struct sso_error *err) __attribute__((warn_unused_result));

/* The key in a backup as an extractable session object that may be wrapped and do nothing else. */
struct outcome key_unwrap_extractable(struct session *session, const struct key_backup *backup,
                                      CK_OBJECT_HANDLE *out);

enum sso_code key_destroy(struct session *session, CK_OBJECT_HANDLE key, struct sso_error *err)
    __attribute__((warn_unused_result));

/* 1, 0, or -1 where the token does not say. */
int key_attribute(struct session *session, CK_OBJECT_HANDLE key, CK_ATTRIBUTE_TYPE type);

/* An extractable AES-256 session key that is destroyed with the session. `usage` is the pair it may
 * be used for: CKA_WRAP or CKA_ENCRYPT; 0: none. */
struct outcome key_generate_session(struct session *session, CK_ATTRIBUTE_TYPE usage,
                                    CK_OBJECT_HANDLE *out);

#endif
