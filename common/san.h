/* Names of certificates where a group is asked for (INTERFACE §6): san:DNS:NAME and san:URI:URI,
 * from the subject alternative names of X.509 (RFC 5280 4.2.1.6). In a pattern a label of a DNS
 * name, or a segment of a URI between slashes, may be "*": it stands for exactly one of them. */
#ifndef SSO_COMMON_SAN_H
#define SSO_COMMON_SAN_H

#include <stdbool.h>
#include <stddef.h>

#define SAN_BYTES_MAX 256 /* "san:DNS:" and the like counted in */

/* Is it meant as one? What it says may still be wrong. */
bool san_is_pattern(const char *text);
bool san_pattern_is_valid(const char *text);
/* What a caller may be called: a valid pattern without "*". */
bool san_name_is_valid(const char *text);
/* DNS names are compared without regard to case, URIs byte for byte. */
bool san_matches(const char *pattern, const char *name);

#endif
