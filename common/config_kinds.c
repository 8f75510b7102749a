#include "common/config_kinds.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/address.h"
#include "common/config.h"
#include "common/encode.h"
#include "common/san.h"

static bool wanted(char expected[static CONFIG_EXPECTED_BYTES], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool wanted(char expected[static CONFIG_EXPECTED_BYTES], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(expected, CONFIG_EXPECTED_BYTES, format, arguments);
    va_end(arguments);
    return false;
}

static void release_text(void *member)
{
    free(*(char **)member);
    *(char **)member = NULL;
}

static bool set_text(const struct config_key *key, const char *text, void *member,
                     char expected[static CONFIG_EXPECTED_BYTES])
{
    size_t length = strlen(text);
    if (length < key->minimum || length > key->maximum || !text_is_clean_utf8(text, length))
        return wanted(expected, "%llu to %llu bytes of UTF-8 without control characters",
                      (unsigned long long)key->minimum, (unsigned long long)key->maximum);
    char *copy = strdup(text);
    if (copy == NULL)
        return wanted(expected, "memory, which has run out");
    release_text(member);
    *(char **)member = copy;
    return true;
}

static bool set_file_path(const struct config_key *key, const char *text, void *member,
                          char expected[static CONFIG_EXPECTED_BYTES])
{
    size_t length = strlen(text);
    if (length < key->minimum || length > key->maximum || (length > 0 && text[0] != '/'))
        return wanted(expected, "an absolute path of at most %llu bytes%s",
                      (unsigned long long)key->maximum, key->minimum == 0 ? ", or nothing" : "");
    return set_text(key, text, member, expected);
}

/* The place of `text` among words like "one|another", or -1. */
static int word_place(const char *words, const char *text)
{
    size_t length = strlen(text);
    int place = 0;
    for (const char *next = words;; place++) {
        size_t span = strcspn(next, "|");
        if (span == length && memcmp(next, text, length) == 0)
            return place;
        if (next[span] == '\0')
            return -1;
        next += span + 1;
    }
}

static bool set_word(const struct config_key *key, const char *text, void *member,
                     char expected[static CONFIG_EXPECTED_BYTES])
{
    if (word_place(key->words, text) < 0)
        return wanted(expected, "one of %s", key->words);
    release_text(member);
    *(char **)member = strdup(text);
    return *(char **)member != NULL || wanted(expected, "memory, which has run out");
}

static bool set_bool(const struct config_key *key, const char *text, void *member,
                     char expected[static CONFIG_EXPECTED_BYTES])
{
    int place = word_place(key->words, text);
    if (place < 0)
        return wanted(expected, "one of %s", key->words);
    *(bool *)member = place == 0;
    return true;
}

bool config_is_name(const char *text, size_t maximum)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789._-";
    size_t length = strlen(text);
    return length > 0 && length <= maximum && strspn(text, allowed) == length;
}

static bool set_node_name(const struct config_key *key, const char *text, void *member,
                          char expected[static CONFIG_EXPECTED_BYTES])
{
    if (text[0] != '\0' && !config_is_name(text, key->maximum))
        return wanted(expected, "a name of 1 to %llu letters, digits, '.', '_' and '-'",
                      (unsigned long long)key->maximum);
    return set_text(key, text, member, expected);
}

/* Attributes that a token's URI may not have here, and why (RFC 7512 §2.3, §2.4). */
static const struct {
    const char *name, *instead;
} refused_attributes[] = {
    {"pin-value", "a token's URI without pin-value: a PIN does not belong into this file; use "
                  "pin-source=file:PATH"},
    {"module-path", "a token's URI without module-path: the module stands in `module`"},
    {"module-name", "a token's URI without module-name: the module stands in `module`"},
    {"slot-id", "a token's URI without slot-id: slots change their numbers; use token, serial, "
                "manufacturer or model"},
};

static bool set_token(const struct config_key *key, const char *text, void *member,
                      char expected[static CONFIG_EXPECTED_BYTES])
{
    static const char scheme[] = "pkcs11:";
    if (text[0] == '\0')
        return set_text(key, text, member, expected);
    if (strncmp(text, scheme, sizeof scheme - 1) != 0)
        return wanted(expected, "a PKCS#11 URI such as "
                                "pkcs11:token=NAME?pin-source=file:/etc/sso-hsm/pin");
    for (const char *next = text + sizeof scheme - 1; *next != '\0';) {
        size_t name = strcspn(next, "=;?&");
        for (size_t i = 0; i < sizeof refused_attributes / sizeof refused_attributes[0]; i++)
            if (strlen(refused_attributes[i].name) == name &&
                strncasecmp(next, refused_attributes[i].name, name) == 0)
                return wanted(expected, "%s", refused_attributes[i].instead);
        next += strcspn(next, ";?&");
        next += *next != '\0';
    }
    return set_text(key, text, member, expected);
}

static bool set_database_url(const struct config_key *key, const char *text, void *member,
                             char expected[static CONFIG_EXPECTED_BYTES])
{
    if (strncmp(text, "sqlite:/", 8) != 0 && strncmp(text, "postgresql://", 13) != 0)
        return wanted(expected, "sqlite:/PATH or postgresql://HOST/DATABASE");
    return set_text(key, text, member, expected);
}

static void release_texts(void *member)
{
    struct config_list *list = member;
    for (size_t i = 0; i < list->count; i++)
        free(list->item[i]);
    free(list->item);
    *list = (struct config_list){0};
}

static bool list_add(struct config_list *list, const char *text, size_t length)
{
    char **larger = reallocarray(list->item, list->count + 1, sizeof *larger);
    if (larger == NULL)
        return false;
    list->item = larger;
    list->item[list->count] = strndup(text, length);
    if (list->item[list->count] == NULL)
        return false;
    list->count++;
    return true;
}

static bool set_texts(const struct config_key *key, const char *text, void *member,
                      char expected[static CONFIG_EXPECTED_BYTES])
{
    (void)key;
    struct config_list list = {0};
    if (!text_is_clean_utf8(text, strlen(text)))
        return wanted(expected, "a list in UTF-8 without control characters");
    for (const char *next = text; text[0] != '\0';) {
        next += strspn(next, " ");
        size_t span = strcspn(next, ","), length = span;
        while (length > 0 && next[length - 1] == ' ')
            length--;
        if (length == 0 || !list_add(&list, next, length)) {
            release_texts(&list);
            return wanted(expected, "a list with commas between its items and none empty");
        }
        if (next[span] == '\0')
            break;
        next += span + 1;
    }
    release_texts(member);
    *(struct config_list *)member = list;
    return true;
}

static bool set_groups(const struct config_key *key, const char *text, void *member,
                       char expected[static CONFIG_EXPECTED_BYTES])
{
    struct config_list list = {0};
    if (!set_texts(key, text, &list, expected))
        return false;
    for (size_t i = 0; i < list.count; i++) {
        if (san_is_pattern(list.item[i]) && !san_pattern_is_valid(list.item[i])) {
            release_texts(&list);
            return wanted(expected, "Unix groups, and certificates as san:DNS:NAME or san:URI:URI, "
                                    "where * stands for one whole label or segment");
        }
    }
    release_texts(member);
    *(struct config_list *)member = list;
    return true;
}

static bool set_listener(const struct config_key *key, const char *text, void *member,
                         char expected[static CONFIG_EXPECTED_BYTES])
{
    struct address address;
    if (text[0] != '\0' && !address_parse(text, &address))
        return wanted(expected, "HOST:PORT, such as 0.0.0.0:8443 or [::]:8443");
    return set_text(key, text, member, expected);
}

static bool set_https_url(const struct config_key *key, const char *text, void *member,
                          char expected[static CONFIG_EXPECTED_BYTES])
{
    struct address address;
    if (text[0] != '\0' && !address_parse_url(text, &address))
        return wanted(expected, "https://HOST:PORT");
    return set_text(key, text, member, expected);
}

static bool set_environment(const struct config_key *key, const char *text, void *member,
                            char expected[static CONFIG_EXPECTED_BYTES])
{
    for (const char *next = text; text[0] != '\0';) {
        next += strspn(next, " ");
        size_t name = strspn(next, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                   "0123456789_");
        if (name == 0 || isdigit((unsigned char)next[0]) || next[name] != '=')
            return wanted(expected, "NAME=VALUE, with commas between several");
        next += strcspn(next, ",");
        if (*next++ == '\0')
            break;
    }
    return set_text(key, text, member, expected);
}

static bool read_number(const struct config_key *key, const char *text, uint64_t *out)
{
    return text[strspn(text, "0123456789")] == '\0' && parse_size_bytes(text, out) &&
           *out >= key->minimum && *out <= key->maximum;
}

static bool set_number(const struct config_key *key, const char *text, void *member,
                       char expected[static CONFIG_EXPECTED_BYTES])
{
    uint64_t value;
    if (!read_number(key, text, &value))
        return wanted(expected, "a number from %llu to %llu", (unsigned long long)key->minimum,
                      (unsigned long long)key->maximum);
    *(unsigned *)member = (unsigned)value;
    return true;
}

static bool set_number_or_auto(const struct config_key *key, const char *text, void *member,
                               char expected[static CONFIG_EXPECTED_BYTES])
{
    if (strcmp(text, "auto") == 0) {
        *(unsigned *)member = CONFIG_AUTO;
        return true;
    }
    return set_number(key, text, member, expected) ||
           wanted(expected, "auto, or a number from %llu to %llu", (unsigned long long)key->minimum,
                  (unsigned long long)key->maximum);
}

static bool set_size(const struct config_key *key, const char *text, void *member,
                     char expected[static CONFIG_EXPECTED_BYTES])
{
    uint64_t value;
    if (!parse_size_bytes(text, &value) || value < key->minimum || value > key->maximum)
        return wanted(expected, "a size such as 64K, 256M or 1G, from %lluK to %lluM",
                      (unsigned long long)key->minimum >> 10,
                      (unsigned long long)key->maximum >> 20);
    *(uint64_t *)member = value;
    return true;
}

static bool set_duration64(const struct config_key *key, const char *text, void *member,
                           char expected[static CONFIG_EXPECTED_BYTES])
{
    uint64_t value;
    if (!parse_duration_ms(text, &value) || value < key->minimum || value > key->maximum) {
        char least[24], most[24];
        format_duration(key->minimum, least);
        format_duration(key->maximum, most);
        return wanted(expected, "a duration such as 250ms, 10s, 5m, 8h or 400d, from %s to %s",
                      least, most);
    }
    *(uint64_t *)member = value;
    return true;
}

static bool set_duration32(const struct config_key *key, const char *text, void *member,
                           char expected[static CONFIG_EXPECTED_BYTES])
{
    uint64_t value;
    if (!set_duration64(key, text, &value, expected))
        return false;
    *(unsigned *)member = (unsigned)value;
    return true;
}

const struct config_kind config_text = {set_text, release_text};
const struct config_kind config_file_path = {set_file_path, release_text};
const struct config_kind config_word = {set_word, release_text};
const struct config_kind config_node_name = {set_node_name, release_text};
const struct config_kind config_token = {set_token, release_text};
const struct config_kind config_environment = {set_environment, release_text};
const struct config_kind config_database_url = {set_database_url, release_text};
const struct config_kind config_texts = {set_texts, release_texts};
const struct config_kind config_groups = {set_groups, release_texts};
const struct config_kind config_listener = {set_listener, release_text};
const struct config_kind config_https_url = {set_https_url, release_text};
const struct config_kind config_bool = {set_bool, NULL};
const struct config_kind config_number = {set_number, NULL};
const struct config_kind config_number_or_auto = {set_number_or_auto, NULL};
const struct config_kind config_size = {set_size, NULL};
const struct config_kind config_duration32 = {set_duration32, NULL};
const struct config_kind config_duration64 = {set_duration64, NULL};
