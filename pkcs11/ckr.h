/* What a PKCS#11 return code means for us: by function and code, in one place (DESIGN §4.2). */
#ifndef SSO_PKCS11_CKR_H
#define SSO_PKCS11_CKR_H

#include <p11-kit/pkcs11.h>

#include "common/error.h"
#include "pkcs11/module.h"

enum ckr_class {
    CKR_CLASS_OK,
    CKR_CLASS_ITEM,          /* this row's wrapped key is bad */
    CKR_CLASS_DOUBTFUL,      /* the row or the token: opening the canary decides */
    CKR_CLASS_RETRY,         /* the token is busy or short of something for a moment */
    CKR_CLASS_SESSION,       /* close the session and open another */
    CKR_CLASS_WORKER,        /* only another process helps */
    CKR_CLASS_TOKEN_GONE,    /* the token does not answer or is not there */
    CKR_CLASS_PIN,           /* the token refused the PIN */
    CKR_CLASS_CONFIGURATION, /* the token cannot or may not do this at all */
};

enum ckr_class ckr_class(struct outcome outcome);

/* Would the same call fail the same way tomorrow? Then it is how the token is, not how it does. */
bool ckr_is_refusal(struct outcome outcome);

#define CKR_NAME_SIZE 48
/* "CKR_DEVICE_ERROR", or "CKR_0x80000001" for one that has no name here. Returns out. */
const char *ckr_name(CK_RV rv, char out[static CKR_NAME_SIZE]);

/* The code that stands for a class, with a text of `doing`, the function and the code's name. */
enum sso_code ckr_fail(struct sso_error *err, struct outcome outcome, const char *doing);

#endif
