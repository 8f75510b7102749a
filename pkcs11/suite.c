#include "pkcs11/suite.h"

static const struct suite *const suites[] = {
    &suite_aes256_kw,
    &suite_aes256_gcm,
};

const struct suite *suite_at(size_t n)
{
    return n < sizeof suites / sizeof suites[0] ? suites[n] : NULL;
}

const struct suite *suite_by_id(enum suite_id id)
{
    for (size_t n = 0; n < sizeof suites / sizeof suites[0]; n++)
        if (suites[n]->id == id)
            return suites[n];
    return NULL;
}
