#include "custodian/identity.h"

#include <stdio.h>

bool identity_matches(const struct identity *identity, const char *pattern)
{
    for (unsigned i = 0; i < identity->name_count; i++) {
        if (san_matches(pattern, identity->name[i]))
            return true;
    }
    return false;
}

void identity_of_name(const char *name, struct identity *out)
{
    *out = (struct identity){.uid = NO_UID, .name_count = 1};
    snprintf(out->name[0], sizeof out->name[0], "%s", name);
}
