#include "common/config_file.h"

#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_keys.h"
#include "common/config_kinds.h"

/* Room for a line with its newline. inih's own 200 cannot take the URI of a token with all its
 * attributes. */
#define LINE_BYTES 1024
#define SECTION_BYTES 48 /* inih cuts at 50 */
#define HSM_NAME_BYTES 32
#define KEYS_MAX 64

struct parser {
    FILE *stream;
    const char *file;
    unsigned line;
    struct config *config;
    struct config_hsm *hsm; /* where the section is one of [hsm] */
    char section[SECTION_BYTES];
    bool seen[CONFIG_HSM_MAX + 1][KEYS_MAX]; /* per [hsm] section, last: all other sections */
    unsigned hsm_line[CONFIG_HSM_MAX];
    enum sso_code code;
    struct sso_error *err;
};

static int refuse(struct parser *parser, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Returns 0: inih's word for "stop". */
static int refuse(struct parser *parser, const char *format, ...)
{
    char text[SSO_ERROR_DETAIL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    parser->code =
        sso_fail(parser->err, SSO_CONFIG_ERROR, "%s:%u: %s", parser->file, parser->line, text);
    return 0;
}

bool config_set_defaults(const char *section, void *base)
{
    char expected[CONFIG_EXPECTED_BYTES];
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (strcmp(key->section, section) == 0 &&
            !key->kind->set(key, key->default_text, (char *)base + key->offset, expected))
            return false;
    }
    return true;
}

/* The section [hsm] has the empty name. */
static int begin_hsm(struct parser *parser, const char *name)
{
    struct config *config = parser->config;
    for (size_t i = 0; i < config->hsm_count; i++)
        if (strcmp(config->hsm[i].name, name) == 0) {
            parser->hsm = &config->hsm[i];
            return 1;
        }
    if (config->hsm_count == CONFIG_HSM_MAX)
        return refuse(parser, "more than %d [hsm] sections", CONFIG_HSM_MAX);
    parser->hsm = &config->hsm[config->hsm_count];
    parser->hsm_line[config->hsm_count++] = parser->line;
    parser->hsm->name = strdup(name);
    if (parser->hsm->name == NULL || !config_set_defaults("hsm", parser->hsm))
        return refuse(parser, "memory has run out");
    return 1;
}

static int begin_section(struct parser *parser, const char *name)
{
    static const char named_hsm[] = "hsm ";
    parser->hsm = NULL;
    if (strcmp(name, "hsm") == 0)
        return begin_hsm(parser, "");
    if (strncmp(name, named_hsm, sizeof named_hsm - 1) == 0) {
        const char *own = name + sizeof named_hsm - 1;
        return config_is_name(own, HSM_NAME_BYTES)
                   ? begin_hsm(parser, own)
                   : refuse(parser,
                            "wanted [hsm NAME] with a name of 1 to %d letters, digits, '.', '_' "
                            "and '-'",
                            HSM_NAME_BYTES);
    }
    if (!config_section_exists(name))
        return refuse(parser, "unknown section; wanted one of system, hsm, hsm NAME, database, "
                              "listen, tls, client, roles, cluster, cache, audit, keys, limits");
    return 1;
}

/* One line into `out`: false at the end of the file and for a line that is refused. */
static bool read_line(struct parser *parser, char *out, size_t size)
{
    size_t length = 0;
    int byte;
    parser->line++;
    while ((byte = getc(parser->stream)) != EOF) {
        if (byte == '\0')
            return refuse(parser, "wanted text, found a NUL byte");
        if (length + 1 >= size)
            return refuse(parser, "wanted a line of at most %zu bytes", size - 2);
        out[length++] = (char)byte;
        if (byte == '\n')
            break;
    }
    out[length] = '\0';
    return length > 0;
}

/* inih tells its handler nothing about a section without keys, cuts long names, and takes an
 * indented line as one more value of the key above: so lines are looked at before it does. */
static bool check_line(struct parser *parser, const char *line)
{
    const char *first = line + strspn(line, " \t\r\n\v\f");
    if (*first == '\0' || *first == ';' || *first == '#')
        return true;
    if (first != line)
        return refuse(parser, "wanted a section, a key or a comment at the start of the line, "
                              "found blanks before it");
    if (parser->line == 1 && strncmp(line, "\xef\xbb\xbf", 3) == 0)
        return refuse(parser, "wanted UTF-8 without a byte order mark");
    if (*line != '[')
        return true;
    size_t length = strcspn(line + 1, "]");
    const char *rest = line + 1 + length;
    if (*rest != ']' || length == 0 || length >= sizeof parser->section)
        return refuse(parser, "wanted [SECTION], of at most %zu bytes", sizeof parser->section - 1);
    rest++;
    rest += strspn(rest, " \t\r\n");
    if (*rest != '\0' && *rest != ';' && *rest != '#')
        return refuse(parser, "wanted nothing but a comment behind [SECTION]");
    memcpy(parser->section, line + 1, length);
    parser->section[length] = '\0';
    return begin_section(parser, parser->section);
}

static char *next_line(char *out, int size, void *context)
{
    struct parser *parser = context;
    if (parser->code != SSO_OK || !read_line(parser, out, (size_t)size) || !check_line(parser, out))
        return NULL;
    return out;
}

static int take_value(void *context, const char *section, const char *name, const char *value)
{
    struct parser *parser = context;
    struct config *config = parser->config;
    (void)section; /* parser->section is the same, uncut */
    if (parser->section[0] == '\0')
        return refuse(parser, "wanted a [SECTION] before the first key");
    const struct config_key *key =
        config_key_find(parser->hsm != NULL ? "hsm" : parser->section, name);
    if (key == NULL)
        return refuse(parser, "unknown key %s in [%s]; docs/custodian.conf.sample has all keys",
                      config_is_name(name, 64) ? name : "(not a name)", parser->section);
    size_t group = parser->hsm != NULL ? (size_t)(parser->hsm - config->hsm) : CONFIG_HSM_MAX;
    bool *seen = &parser->seen[group][key - config_keys];
    if (*seen)
        return refuse(parser, "[%s] %s is given twice; wanted it once", parser->section, key->name);
    *seen = true;

    char expected[CONFIG_EXPECTED_BYTES] = "";
    void *base = parser->hsm != NULL ? (void *)parser->hsm : (void *)config;
    if (!key->kind->set(key, value, (char *)base + key->offset, expected))
        return refuse(parser, "[%s] %s: wanted %s", parser->section, key->name, expected);
    return 1;
}

/* [hsm] is hsm[0] wherever it stands in the file. */
static void put_main_hsm_first(struct parser *parser)
{
    struct config *config = parser->config;
    for (size_t i = 1; i < config->hsm_count; i++) {
        if (config->hsm[i].name[0] != '\0')
            continue;
        struct config_hsm first = config->hsm[0];
        unsigned first_line = parser->hsm_line[0];
        config->hsm[0] = config->hsm[i];
        config->hsm[i] = first;
        parser->hsm_line[0] = parser->hsm_line[i];
        parser->hsm_line[i] = first_line;
    }
}

static void check_hsm_sections(struct parser *parser)
{
    const struct config *config = parser->config;
    put_main_hsm_first(parser);
    for (size_t i = 0; i < config->hsm_count && parser->code == SSO_OK; i++) {
        parser->line = parser->hsm_line[i];
        if (config->hsm[0].name[0] != '\0')
            refuse(parser, "wanted a section [hsm] beside [hsm %s]", config->hsm[0].name);
        else if (config->hsm[i].token[0] == '\0')
            refuse(parser, "the section names no token; wanted token = pkcs11:token=NAME");
    }
}

enum sso_code config_file_read(FILE *stream, const char *file, struct config *config,
                               struct sso_error *err)
{
    struct parser *parser = calloc(1, sizeof *parser);
    if (parser == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "memory for the configuration has run out");
    parser->stream = stream;
    parser->file = file;
    parser->config = config;
    parser->err = err;

    ini_use_stack = false;
    ini_initial_alloc = LINE_BYTES;
    ini_max_line = LINE_BYTES;
    ini_stop_on_first_error = true;
    int bad_line = ini_parse_stream(next_line, parser, take_value, parser);
    if (parser->code == SSO_OK && ferror(stream))
        parser->code = sso_fail(err, SSO_CONFIG_ERROR, "%s: cannot be read", file);
    if (parser->code == SSO_OK && bad_line < 0)
        parser->code = sso_fail(err, SSO_NO_MEMORY, "memory for the configuration has run out");
    if (parser->code == SSO_OK && bad_line > 0)
        refuse(parser, "wanted [SECTION], KEY = VALUE or a comment");
    if (parser->code == SSO_OK)
        check_hsm_sections(parser);
    enum sso_code code = parser->code;
    free(parser);
    return code;
}
