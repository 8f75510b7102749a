/*
 * Where tokens differ in how they do a thing, the way of this one (DESIGN §3.2). Never assumed and
 * never configured: a worker finds each out by doing it with session keys of its own, once, before
 * the first use.
 */
#ifndef SSO_PKCS11_WAYS_H
#define SSO_PKCS11_WAYS_H

#include <openssl/types.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* How a row key leaves the token under aes256-kw, and how one enters it. */
enum release_way {
    RELEASE_UNKNOWN,
    RELEASE_READ,      /* as a session object that is not sensitive: its value is read */
    RELEASE_TRANSPORT, /* under a transport key (transport.h) */
};

/* Whose initialisation vector aes256-gcm gets, and where it is found. */
enum gcm_iv {
    GCM_IV_UNKNOWN,
    GCM_IV_CALLER,    /* the worker's, random */
    GCM_IV_PARAMETER, /* the token's, written over the one in the mechanism's parameter */
    GCM_IV_FRONT,     /* the token's, in front of what C_Encrypt returns */
    GCM_IV_APPENDED,  /* the token's, behind it */
};

struct gcm_way {
    enum gcm_iv iv;
    size_t iv_bytes;      /* 12 or 16 */
    size_t given_bytes;   /* of the vector that C_EncryptInit is given: zeros unless it is ours */
    bool decrypts_within; /* C_Decrypt wants it where C_Encrypt put it, not in the parameter */
};

struct ways {
    pthread_mutex_t mutex; /* held by the session that finds a way out */
    _Atomic int release;   /* enum release_way */
    /* Some tokens want CKA_VALUE_LEN in the template of C_UnwrapKey, others refuse it. */
    _Atomic bool unwrap_names_length;
    _Atomic bool gcm_known;
    struct gcm_way gcm; /* written before gcm_known is set */
    pthread_mutex_t pair_mutex;
    EVP_PKEY *pair; /* the worker's RSA key for transport; NULL until it is needed */
};

#endif
