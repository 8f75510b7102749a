#include "common/address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORT_MAX 65535

bool address_parse(const char *text, struct address *out)
{
    static const char name[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    static const char ipv6[] = "0123456789abcdefABCDEF:.";
    bool bracketed = text[0] == '[';
    const char *host = text + bracketed;
    size_t length = strspn(host, bracketed ? ipv6 : name);
    const char *rest = host + length;
    if (length == 0 || length >= sizeof out->host || (bracketed && *rest++ != ']') ||
        *rest++ != ':')
        return false;
    size_t digits = strspn(rest, "0123456789");
    if (digits == 0 || digits >= sizeof out->port || rest[digits] != '\0' ||
        strtoul(rest, NULL, 10) > PORT_MAX)
        return false;
    snprintf(out->host, sizeof out->host, "%.*s", (int)length, host);
    snprintf(out->port, sizeof out->port, "%s", rest);
    return true;
}

bool address_parse_url(const char *url, struct address *out)
{
    static const char scheme[] = "https://";
    char text[sizeof out->host + sizeof out->port + 3];
    size_t skipped = sizeof scheme - 1, length = strlen(url);
    if (strncmp(url, scheme, skipped) != 0)
        return false;
    length -= skipped;
    if (length > 0 && url[skipped + length - 1] == '/')
        length--;
    if (length >= sizeof text)
        return false;
    memcpy(text, url + skipped, length);
    text[length] = '\0';
    return address_parse(text, out);
}
