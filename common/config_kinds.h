/* What a value of the configuration file can be. For common/config*.c and common/settings.c only.
 */
#ifndef SSO_COMMON_CONFIG_KINDS_H
#define SSO_COMMON_CONFIG_KINDS_H

#include "common/config_keys.h"

extern const struct config_kind config_text;         /* char * */
extern const struct config_kind config_file_path;    /* char *, absolute or empty */
extern const struct config_kind config_word;         /* char *, one of key->words */
extern const struct config_kind config_node_name;    /* char * */
extern const struct config_kind config_token;        /* char *, a PKCS#11 URI */
extern const struct config_kind config_environment;  /* char *, NAME=VALUE,… */
extern const struct config_kind config_database_url; /* char * */
extern const struct config_kind config_texts;        /* struct config_list */
extern const struct config_kind config_groups;    /* the same, of Unix groups and san: patterns */
extern const struct config_kind config_listener;  /* char *, HOST:PORT or empty */
extern const struct config_kind config_https_url; /* char *, https://HOST:PORT or empty */
extern const struct config_kind config_bool;
extern const struct config_kind config_number;         /* unsigned */
extern const struct config_kind config_number_or_auto; /* unsigned */
extern const struct config_kind config_size;           /* uint64_t */
extern const struct config_kind config_duration32;     /* unsigned, milliseconds */
extern const struct config_kind config_duration64;     /* uint64_t, milliseconds */

/* [A-Za-z0-9._-] and of `maximum` bytes at most. */
bool config_is_name(const char *text, size_t maximum);

#endif
