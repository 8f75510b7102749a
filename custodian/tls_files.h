/* The files of [tls], read into a context of OpenSSL. */
#ifndef SSO_CUSTODIAN_TLS_FILES_H
#define SSO_CUSTODIAN_TLS_FILES_H

#include "custodian/tls.h"

struct tls_files {
    SSL_CTX *context; /* certificate, key, CAs and revocation list */
    struct tls_validity validity[TLS_FILES];
};

enum sso_code tls_files_read(const struct config *config, uid_t owner, struct tls_files *out,
                             struct sso_error *err) __attribute__((warn_unused_result));
void tls_files_free(struct tls_files *files);

#endif
