/* Prints the operation table, one line each: method, path, name, roles. tests/custodian holds
 * docs/openapi.yaml against it. */
#include <stdio.h>

#include "custodian/operations.h"

static const char *const role_names[] = {
    "sso_admin", "affiliate_admin", "app_admin", "app_user", "app_user_own",
    "reader",    "auditor",         "node",      "own",      "any"};

int main(void)
{
    for (size_t i = 0; i < operation_count; i++) {
        const struct operation *operation = &operations[i];
        printf("%s %s %s ", operation->method, operation->path, operation->name);
        const char *comma = "";
        for (size_t bit = 0; bit < sizeof role_names / sizeof role_names[0]; bit++) {
            if (operation->roles & 1u << bit) {
                printf("%s%s", comma, role_names[bit]);
                comma = ",";
            }
        }
        putchar('\n');
    }
    return 0;
}
