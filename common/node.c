#include "common/node.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <strings.h>

bool node_may_use(const struct node *node, const char *application)
{
    size_t length = strlen(application);
    if (node->apps[0] == '\0')
        return true;
    for (const char *at = node->apps;; at++) {
        size_t span = strcspn(at, ",");
        if (span == length && strncasecmp(at, application, length) == 0)
            return true;
        at += span;
        if (*at == '\0')
            return false;
    }
}

enum sso_code node_key_of(const struct x509_st *certificate, uint8_t out[static NODE_KEY_BYTES],
                          struct sso_error *err)
{
    unsigned char *encoded = NULL;
    int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &encoded);
    bool done =
        length > 0 && EVP_Digest(encoded, (size_t)length, out, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(encoded);
    return done ? SSO_OK : sso_fail(err, SSO_INTERNAL, "the public key of a certificate");
}

enum sso_code node_key_of_file(const char *path, uint8_t out[static NODE_KEY_BYTES],
                               struct sso_error *err)
{
    BIO *bio = BIO_new_file(path, "re");
    X509 *certificate = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    enum sso_code rc =
        certificate != NULL
            ? node_key_of(certificate, out, err)
            : sso_fail(err, SSO_CONFIG_ERROR,
                       "[tls] certificate: %s cannot be read as a certificate in PEM", path);
    X509_free(certificate);
    BIO_free(bio);
    ERR_clear_error();
    return rc;
}
