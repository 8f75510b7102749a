/* HOST:PORT, as in [listen] tls; the host a name, an IPv4 address, or an IPv6 address in brackets.
 */
#ifndef SSO_COMMON_ADDRESS_H
#define SSO_COMMON_ADDRESS_H

#include <stdbool.h>

struct address {
    char host[254]; /* without brackets */
    char port[6];   /* digits: 0 to 65535 */
};

bool address_parse(const char *text, struct address *out);
/* https://HOST:PORT, with or without a slash at its end. */
bool address_parse_url(const char *url, struct address *out);

#endif
