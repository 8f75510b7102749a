#include "faulty.h"

#include <string.h>

bool template_says(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ATTRIBUTE_TYPE type,
                   CK_BBOOL value)
{
    for (CK_ULONG i = 0; i < count; i++)
        if (template[i].type == type && template[i].ulValueLen == sizeof value &&
            *(CK_BBOOL *)template[i].pValue == value)
            return true;
    return false;
}

CK_RV template_refuse(struct call *call)
{
    CK_RV rv = CKR_OK;
    const CK_ATTRIBUTE *template = call->template;
    CK_ULONG count = call->template_count;
    if (call->settings.refuse_non_sensitive &&
        template_says(template, count, CKA_SENSITIVE, CK_FALSE))
        rv = CKR_ATTRIBUTE_VALUE_INVALID;
    for (CK_ULONG i = 0; i < count && call->settings.refuse_copyable; i++)
        if (template[i].type == CKA_COPYABLE)
            rv = CKR_ATTRIBUTE_TYPE_INVALID;
    bool lacks = call->settings.want_unwrap_length && call->function == FN_UnwrapKey;
    for (CK_ULONG i = 0; i < count && lacks; i++)
        lacks = template[i].type != CKA_VALUE_LEN;
    if (lacks)
        rv = CKR_TEMPLATE_INCOMPLETE;
    CK_OBJECT_CLASS secret = CKO_SECRET_KEY;
    for (CK_ULONG i = 0; i < count && call->settings.refuse_plaintext; i++)
        if (call->function == FN_CreateObject && template[i].type == CKA_CLASS &&
            memcmp(template[i].pValue, &secret, sizeof secret) == 0)
            rv = CKR_ATTRIBUTE_VALUE_INVALID;
    call->fault = call->fault || rv != CKR_OK;
    return rv;
}

/* SoftHSM refuses what a token with want-unwrap-length wants. */
CK_ULONG template_without_length(CK_ATTRIBUTE *template, CK_ULONG count, CK_ATTRIBUTE *out)
{
    CK_ULONG kept = 0;
    for (CK_ULONG i = 0; i < count; i++)
        if (template[i].type != CKA_VALUE_LEN)
            out[kept++] = template[i];
    return kept;
}
