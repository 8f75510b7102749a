#include "cli/arguments.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 24
#define FIRST_OPTION 256 /* above every character, so that no short option exists */

bool argument_number(const char *text, uint64_t maximum, uint64_t *out)
{
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno != 0 || value == 0 || value > maximum)
        return false;
    *out = value;
    return true;
}

static enum sso_code take(const struct option_row *row, const char *value, bool seen,
                          struct sso_error *err)
{
    struct option_values *values = row->target;
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)row->target = true;
        return SSO_OK;
    case OPTION_TEXT:
        if (seen)
            return sso_fail(err, SSO_USAGE, "--%s is given twice", row->name);
        *(const char **)row->target = value;
        return SSO_OK;
    case OPTION_NUMBER:
        if (seen)
            return sso_fail(err, SSO_USAGE, "--%s is given twice", row->name);
        if (!argument_number(value, INT64_MAX, row->target))
            return sso_fail(err, SSO_USAGE, "--%s wants a number from 1 up", row->name);
        return SSO_OK;
    case OPTION_EACH:
        if (values->count == OPTION_VALUES_MAX)
            return sso_fail(err, SSO_USAGE, "--%s is given more than %d times", row->name,
                            OPTION_VALUES_MAX);
        values->value[values->count++] = value;
        return SSO_OK;
    case OPTION_LATER:
    case OPTION_LATER_VALUE:
        break;
    }
    return sso_fail(err, SSO_USAGE, "--%s is not available in this version%s%s", row->name,
                    row->why != NULL ? ": " : "", row->why != NULL ? row->why : "");
}

static enum sso_code misfit(int what, char **argv, struct sso_error *err)
{
    /* A value given to a flag (--flag=value) comes as '?' with the option's own number. */
    if (what == '?' && optopt >= FIRST_OPTION)
        return sso_fail(err, SSO_USAGE, "%s takes no value", argv[optind - 1]);
    if (what == ':')
        return sso_fail(err, SSO_USAGE, "%s wants a value", argv[optind - 1]);
    if (optopt != 0)
        return sso_fail(err, SSO_USAGE, "unknown option -%c", optopt);
    return sso_fail(err, SSO_USAGE, "unknown option %s", argv[optind - 1]);
}

enum sso_code arguments_parse(int argc, char **argv, const struct option_row *rows,
                              struct arguments *out, struct sso_error *err)
{
    struct option options[OPTIONS_MAX + 1] = {0};
    bool seen[OPTIONS_MAX] = {false};
    for (int i = 0; rows != NULL && rows[i].name != NULL && i < OPTIONS_MAX; i++) {
        bool bare = rows[i].kind == OPTION_FLAG || rows[i].kind == OPTION_LATER;
        options[i].name = rows[i].name;
        options[i].has_arg = bare ? no_argument : required_argument;
        options[i].val = FIRST_OPTION + i;
    }
    optind = 0; /* glibc: start anew, main has used it before */
    opterr = 0;
    for (int what; (what = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (what == '?' || what == ':')
            return misfit(what, argv, err);
        int i = what - FIRST_OPTION;
        enum sso_code rc = take(&rows[i], optarg, seen[i], err);
        if (rc != SSO_OK)
            return rc;
        seen[i] = true;
    }
    out->value = argv + optind;
    out->count = argc - optind;
    return SSO_OK;
}

enum sso_code arguments_expect(const struct arguments *arguments, int minimum, int maximum,
                               struct sso_error *err)
{
    if (arguments->count < minimum)
        return sso_fail(err, SSO_USAGE, "an argument is missing");
    if (arguments->count > maximum)
        return sso_fail(err, SSO_USAGE, "unexpected argument %s", arguments->value[maximum]);
    return SSO_OK;
}
