/* The keys of the configuration file: one table, from which parsing, defaults and freeing come.
 * For common/config*.c, common/settings.c and tests only. */
#ifndef SSO_COMMON_CONFIG_KEYS_H
#define SSO_COMMON_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_EXPECTED_BYTES 256

struct config_key;
struct config_kind {
    /* Writes the value at `member`, or what was expected to `expected`. */
    bool (*set)(const struct config_key *key, const char *text, void *member,
                char expected[static CONFIG_EXPECTED_BYTES]);
    void (*release)(void *member); /* NULL: nothing to free */
};

struct config_key {
    const char *section, *name;
    const struct config_kind *kind;
    size_t offset; /* in struct config; of section "hsm": in struct config_hsm */
    const char *default_text;
    const char *words;         /* for kinds of words: "one|another"; of a bool the first is true */
    uint64_t minimum, maximum; /* for numbers; of a text its bytes */
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

/* NULL where there is none. */
const struct config_key *config_key_find(const char *section, const char *name);
bool config_section_exists(const char *section);

#endif
