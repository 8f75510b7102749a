#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "custodian/custodian.h"
#include "custodian/operations.h"
#include "custodian/supervision.h"

enum sso_code op_pin_reset(struct request *request, struct sso_error *err)
{
    static const char *const members[] = {"token", NULL};
    struct custodian *custodian = request->custodian;
    struct hsm *pool[CONFIG_HSM_MAX];
    const char *name = NULL;
    enum sso_code rc;
    if (request->body != NULL &&
        ((rc = json_only_members(request->body, members, err)) != SSO_OK ||
         (json_object_get(request->body, "token") != NULL &&
          (rc = json_get_text(request->body, "token", 64, &name, err)) != SSO_OK)))
        return rc;
    snprintf(request->audit.target, sizeof request->audit.target, "token %s",
             name != NULL ? name : "of every section");
    size_t count = custodian_pools(custodian, pool), reset = 0;
    for (size_t i = 0; i < count; i++) {
        if (name != NULL && strcmp(hsm_name(pool[i]), name) != 0)
            continue;
        if ((rc = hsm_pin_reset(pool[i], err)) != SSO_OK)
            return rc;
        reset++;
    }
    if (reset == 0)
        return sso_fail(err, SSO_NOT_FOUND, "no section [hsm %s] is open here",
                        name != NULL ? name : "");
    supervision_wake(custodian->supervision);
    request->reply = json_pack("{s:b}", "reset", 1);
    return request->reply != NULL ? SSO_OK
                                  : sso_fail(err, SSO_NO_MEMORY, "no memory for the reply");
}
