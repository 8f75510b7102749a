#include "cli/key_output.h"

#include <stdio.h>

#include "cli/output.h"
#include "common/generation.h"

static void print_evidence(const json_t *evidence)
{
    static const struct {
        const char *name, *meaning;
    } members[] = {
        {"sensitive", "CKA_SENSITIVE"},
        {"extractable", "CKA_EXTRACTABLE"},
        {"modifiable", "CKA_MODIFIABLE"},
        {"local", "CKA_LOCAL"},
        {"never_extractable", "CKA_NEVER_EXTRACTABLE"},
        {"always_sensitive", "CKA_ALWAYS_SENSITIVE"},
        {"read_value", "reading the value"},
        {"wrap", "wrapping it out"},
        {"copy", "copying it readable"},
        {"set_extractable", "making it extractable"},
        {"canary", "canary opens"},
    };
    char room[MEMBER_ROOM];
    printf("evidence    %s\n",
           json_is_true(json_object_get(evidence, "accepted")) ? "accepted" : "NOT ACCEPTED");
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        printf("            %-22s %s\n", members[i].meaning,
               member_text(evidence, members[i].name, room));
    size_t i;
    const json_t *item;
    printf("            %-22s", "usages");
    json_array_foreach(json_object_get(evidence, "usages"), i, item)
    {
        printf(" %s", json_string_value(item));
    }
    putchar('\n');
    json_array_foreach(json_object_get(evidence, "weak"), i, item)
    {
        printf("            WEAK: the token does not hold %s\n", json_string_value(item));
    }
}

void key_print(const json_t *key)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM], room3[MEMBER_ROOM];
    printf("generation  %s, %s, %s\n", member_text(key, "number", room),
           member_text(key, "state", room2), member_text(key, "suite", room3));
    printf("secret id   %s\n", member_text(key, "secret_id", room));
    printf("created     %s, backed up %s, rows %s\n", member_text(key, "created", room),
           member_text(key, "backed_up", room2), member_text(key, "rows", room3));
    size_t i;
    const json_t *token;
    json_array_foreach(json_object_get(key, "tokens"), i, token)
    {
        printf("token       %s\n", json_string_value(token));
    }
    print_evidence(json_object_get(key, "evidence"));
}

enum sso_code suite_option_check(const char *suite, struct sso_error *err)
{
    if (suite != NULL && suite_from_name(suite) == SUITE_NONE)
        return sso_fail(err, SSO_USAGE, "--suite wants aes256-kw or aes256-gcm");
    return SSO_OK;
}
