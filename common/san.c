#include "common/san.h"

#include <string.h>
#include <strings.h>

#define DNS "san:DNS:"
#define URI "san:URI:"
#define PREFIX_BYTES 8
#define LABEL_BYTES_MAX 63
#define DNS_BYTES_MAX 253

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, PREFIX_BYTES) == 0;
}

bool san_is_pattern(const char *text)
{
    return strncmp(text, "san:", 4) == 0;
}

static bool is_star(const char *part, size_t length)
{
    return length == 1 && part[0] == '*';
}

static bool dns_is_valid(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789_-";
    if (strlen(name) > DNS_BYTES_MAX)
        return false;
    for (const char *label = name;; label++) {
        size_t length = strcspn(label, ".");
        if (length == 0 || length > LABEL_BYTES_MAX ||
            (strspn(label, allowed) < length && !is_star(label, length)))
            return false;
        label += length;
        if (*label == '\0')
            return true;
    }
}

/* A scheme, and printable ASCII without what separates a list in the configuration. */
static bool uri_is_valid(const char *uri)
{
    static const char scheme[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+.-";
    size_t length = strspn(uri, scheme);
    if (length == 0 || uri[length] != ':' || uri[length + 1] == '\0')
        return false;
    for (const char *at = uri; *at != '\0'; at++) {
        if (*at <= ' ' || *at > '~' || *at == ',')
            return false;
    }
    for (const char *part = uri;; part++) {
        length = strcspn(part, "/");
        if (memchr(part, '*', length) != NULL && !is_star(part, length))
            return false;
        part += length;
        if (*part == '\0')
            return true;
    }
}

bool san_pattern_is_valid(const char *text)
{
    if (strlen(text) > SAN_BYTES_MAX)
        return false;
    if (begins(text, DNS))
        return dns_is_valid(text + PREFIX_BYTES);
    return begins(text, URI) && uri_is_valid(text + PREFIX_BYTES);
}

bool san_name_is_valid(const char *text)
{
    return san_pattern_is_valid(text) && strchr(text, '*') == NULL;
}

static bool fits(const char *pattern, const char *name, bool dns)
{
    const char *separator = dns ? "." : "/";
    for (;; pattern++, name++) {
        size_t wanted = strcspn(pattern, separator), has = strcspn(name, separator);
        bool same = wanted == has &&
                    (dns ? strncasecmp(pattern, name, has) == 0 : memcmp(pattern, name, has) == 0);
        if (is_star(pattern, wanted) ? has == 0 : !same)
            return false;
        pattern += wanted;
        name += has;
        if (*pattern == '\0' || *name == '\0')
            return *pattern == *name;
    }
}

bool san_matches(const char *pattern, const char *name)
{
    if (!san_pattern_is_valid(pattern) || !san_name_is_valid(name) ||
        strncmp(pattern, name, PREFIX_BYTES) != 0)
        return false;
    return fits(pattern + PREFIX_BYTES, name + PREFIX_BYTES, begins(pattern, DNS));
}
