#include "cli/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/secret.h"

static enum sso_code write_all(const char *bytes, size_t count, struct sso_error *err)
{
    if (fflush(stdout) != 0)
        return sso_fail_errno(err, SSO_INTERNAL, errno, "standard output");
    while (count > 0) {
        ssize_t done = write(STDOUT_FILENO, bytes, count);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return sso_fail_errno(err, SSO_INTERNAL, errno, "standard output");
        bytes += done;
        count -= (size_t)done;
    }
    return SSO_OK;
}

enum sso_code output_secret_line(const char *value, size_t value_bytes, struct sso_error *err)
{
    enum sso_code rc = write_all(value, value_bytes, err);
    return rc == SSO_OK ? write_all("\n", 1, err) : rc;
}

enum sso_code output_json(const json_t *value, struct sso_error *err)
{
    char *line = json_line(value);
    if (line == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the output");
    size_t length = strlen(line);
    char *ended = wiping_realloc(line, length + 2);
    if (ended == NULL) {
        wiping_free(line);
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the output");
    }
    memcpy(ended + length, "\n", 2);
    enum sso_code rc = write_all(ended, length + 1, err);
    wiping_free(ended);
    return rc;
}

static bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

enum sso_code output_secret_field(const char *label, const char *value, size_t value_bytes,
                                  struct sso_error *err)
{
    static const char hex[] = "0123456789abcdef";
    char *line = wiping_malloc(strlen(label) + 4 + 4 * value_bytes);
    if (line == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the output");
    char *next = stpcpy(stpcpy(line, label), ": ");
    for (size_t i = 0; i < value_bytes; i++) {
        unsigned char c = (unsigned char)value[i];
        if (is_control(c)) {
            *next++ = '\\';
            *next++ = 'x';
            *next++ = hex[c >> 4];
            *next++ = hex[c & 15];
        } else {
            *next++ = (char)c;
        }
    }
    *next++ = '\n';
    enum sso_code rc = write_all(line, (size_t)(next - line), err);
    wiping_free(line);
    return rc;
}

void output_clean(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (is_control(*c))
            printf("\\x%02x", *c);
        else
            putchar(*c);
    }
}

void output_error(const struct sso_error *error, bool json)
{
    fflush(stdout);
    const struct sso_code_facts *facts = sso_code_facts(error->code);
    json_t *problem = json ? json_problem(error->code, error->detail, NULL) : NULL;
    char *line = problem != NULL ? json_line(problem) : NULL;
    if (line != NULL)
        fprintf(stderr, "%s\n", line);
    else
        fprintf(stderr, "sso-hsm: %s: %s\n", facts->name, error->detail);
    wiping_free(line);
    json_decref(problem);
}

const char *member_text(const json_t *object, const char *name, char room[static MEMBER_ROOM])
{
    const json_t *member = json_object_get(object, name);
    if (json_is_string(member))
        return json_string_value(member);
    if (json_is_boolean(member))
        return json_is_true(member) ? "yes" : "no";
    if (json_is_integer(member))
        snprintf(room, MEMBER_ROOM, "%" JSON_INTEGER_FORMAT, json_integer_value(member));
    else if (json_is_real(member))
        snprintf(room, MEMBER_ROOM, "%.0f", json_real_value(member));
    else
        snprintf(room, MEMBER_ROOM, "-");
    return room;
}

json_int_t member_number(const json_t *object, const char *name)
{
    const json_t *member = json_object_get(object, name);
    return json_is_real(member) ? (json_int_t)json_real_value(member) : json_integer_value(member);
}

enum sso_code output_finish(struct sso_error *err)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return SSO_OK;
    return sso_fail_errno(err, SSO_INTERNAL, errno != 0 ? errno : EIO, "standard output");
}
