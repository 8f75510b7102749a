#include "common/json.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/encode.h"
#include "common/secret.h"

json_t *json_parse(const char *text, size_t count, struct sso_error *err)
{
    json_error_t fault;
    json_t *value = json_loadb(text, count, JSON_REJECT_DUPLICATES, &fault);
    if (value == NULL)
        sso_fail(err, SSO_BAD_REQUEST, "not well-formed JSON at line %d, column %d", fault.line,
                 fault.column);
    return value;
}

/* A value is the first, or the first after a bracket, or stands after a comma. */
size_t json_value_bound(const char *text, size_t count)
{
    size_t values = 1;
    bool quoted = false;
    for (size_t i = 0; i < count; i++) {
        char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '[' || c == '{' || c == ','))
            values++;
    }
    return values;
}

/* jansson allocates by wiping_malloc (common/secret.h). */
char *json_line(const json_t *value)
{
    return json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
}

json_t *json_time(int64_t wall_ms)
{
    char text[RFC3339_SIZE];
    return json_text_or_null(rfc3339(wall_ms, text));
}

json_t *json_hex(const uint8_t *bytes, size_t count)
{
    char *text = wiping_malloc(2 * count + 1);
    if (text == NULL)
        return NULL;
    hex_encode(bytes, count, text);
    json_t *value = json_stringn_nocheck(text, 2 * count);
    wiping_free(text);
    return value;
}

json_t *json_text_or_null(const char *text)
{
    return text != NULL && text[0] != '\0' ? json_string(text) : json_null();
}

/* Texts of errors may quote what is no UTF-8 (a file's name, a damaged row); JSON takes none of
 * it. */
static json_t *json_any_text(const char *text)
{
    json_t *value = json_string(text);
    if (value != NULL)
        return value;
    char ascii[SSO_ERROR_DETAIL_BYTES];
    snprintf(ascii, sizeof ascii, "%s", text);
    for (char *next = ascii; *next != '\0'; next++)
        if ((unsigned char)*next >= 0x80)
            *next = '?';
    return json_string(ascii);
}

json_t *json_problem(enum sso_code code, const char *detail,
                     const uint8_t request_id[REQUEST_ID_BYTES])
{
    const struct sso_code_facts *facts = sso_code_facts(code);
    char type[80];
    snprintf(type, sizeof type, "urn:sso-hsm:%s", facts->name);
    return json_pack(
        "{s:s, s:s, s:o, s:s, s:o, s:o}", "type", type, "title", facts->title, "status",
        facts->http_status != 0 ? json_integer(facts->http_status) : json_null(), "code",
        facts->name, "detail",
        json_any_text(detail != NULL && detail[0] != '\0' ? detail : facts->title), "request_id",
        request_id != NULL ? json_hex(request_id, REQUEST_ID_BYTES) : json_null());
}

enum sso_code json_problem_read(const json_t *problem, struct sso_error *err)
{
    const char *name = json_string_value(json_object_get(problem, "code"));
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    if (name == NULL)
        return sso_fail(err, SSO_INTERNAL, "the answer is neither a result nor a problem object");
    enum sso_code code = sso_code_from_name(name);
    if (code == SSO_OK || strcmp(sso_code_facts(code)->name, name) != 0)
        return sso_fail(err, SSO_INTERNAL, "%s: %s", name, detail != NULL ? detail : "no detail");
    return sso_fail(err, code, "%s", detail != NULL ? detail : sso_code_facts(code)->title);
}

static json_t *tokens_of(uint32_t number, const struct generation_token *tokens, size_t token_count)
{
    json_t *uris = json_array();
    for (size_t i = 0; uris != NULL && i < token_count; i++) {
        char uri[TOKEN_URI_SIZE];
        if (tokens[i].number != number || tokens[i].destroyed_ms != 0)
            continue;
        token_identity_uri(&tokens[i].token, uri);
        json_array_append_new(uris, json_string(uri));
    }
    return uris;
}

json_t *json_generation(const struct generation *generation, const struct generation_token *tokens,
                        size_t token_count, int64_t rows)
{
    return json_pack(
        "{s:I, s:o, s:o, s:s, s:s, s:b, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:I}", "number",
        (json_int_t)generation->number, "secret_id",
        json_hex(generation->secret_id, SECRET_ID_BYTES), "tokens",
        tokens_of(generation->number, tokens, token_count), "suite", suite_name(generation->suite),
        "state", generation->state != 0 ? generation_state_name(generation->state) : "damaged",
        "compromised", (int)generation->compromised, "no_backup", (int)generation->no_backup,
        "closed", (int)generation->closed, "created", json_time(generation->created_ms),
        "backed_up", json_time(generation->backed_up_ms), "last_drill",
        json_time(generation->last_drill_ms), "share_set", json_text_or_null(generation->share_set),
        "rows", rows >= 0 ? json_integer(rows) : json_null(), "wraps",
        (json_int_t)generation->wraps);
}

/* A name that somebody sent, as far as it may stand in a text for people. */
static const char *presentable(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= 64 && text_is_clean_utf8(name, length) ? name : "(not a name)";
}

enum sso_code json_only_members(const json_t *object, const char *const *allowed,
                                struct sso_error *err)
{
    if (!json_is_object(object))
        return sso_fail(err, SSO_BAD_REQUEST, "a JSON object is wanted");
    /* jansson's iteration takes no const object, and changes nothing. */
    json_t *members = (json_t *)(uintptr_t)object;
    const char *name;
    json_t *value;
    json_object_foreach(members, name, value)
    {
        const char *const *known = allowed;
        while (*known != NULL && strcmp(*known, name) != 0)
            known++;
        if (*known == NULL)
            return sso_fail(err, SSO_BAD_REQUEST, "the member \"%s\" is not known here",
                            presentable(name));
    }
    return SSO_OK;
}

enum sso_code json_get_text(const json_t *object, const char *name, size_t maximum_bytes,
                            const char **out, struct sso_error *err)
{
    const json_t *member = json_object_get(object, name);
    if (member == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "the member \"%s\" is missing", name);
    if (!json_is_string(member))
        return sso_fail(err, SSO_BAD_REQUEST, "the member \"%s\" is not a string", name);
    size_t length = json_string_length(member);
    if (length == 0 || length > maximum_bytes)
        return sso_fail(err, SSO_BAD_REQUEST, "the member \"%s\" has %zu bytes, not 1 to %zu", name,
                        length, maximum_bytes);
    if (!text_is_clean_utf8(json_string_value(member), length))
        return sso_fail(err, SSO_BAD_REQUEST, "the member \"%s\" has control characters", name);
    *out = json_string_value(member);
    return SSO_OK;
}
