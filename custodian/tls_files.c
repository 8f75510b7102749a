#include "custodian/tls_files.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <time.h>
#include <unistd.h>

#include "common/private_file.h"

#define DEPTH_MAX 5

/* What OpenSSL says is wrong, and nothing of it left behind for the next who asks. */
static enum sso_code fail_openssl(struct sso_error *err, const char *what, const char *path)
{
    unsigned long last = ERR_peek_last_error();
    const char *reason = last != 0 ? ERR_reason_error_string(last) : NULL;
    sso_fail(err, SSO_CONFIG_ERROR, "%s: %s cannot be used: %s", what, path,
             reason != NULL ? reason : "no reason is known");
    ERR_clear_error();
    return SSO_CONFIG_ERROR;
}

/* Else OpenSSL asks at the terminal. */
static int no_password(char *buffer, int size, int writing, void *context)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)context;
    return -1;
}

static int64_t time_ms(const ASN1_TIME *time)
{
    struct tm broken_down;
    if (time == NULL || ASN1_TIME_to_tm(time, &broken_down) != 1)
        return 0;
    return (int64_t)timegm(&broken_down) * 1000;
}

static enum sso_code set_policy(SSL_CTX *context, struct sso_error *err)
{
    static const unsigned char id[] = "sso-hsm";
    if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_session_id_context(context, id, sizeof id - 1) != 1 ||
        SSL_CTX_set_num_tickets(context, 0) != 1)
        return sso_fail(err, SSO_INTERNAL, "OpenSSL has no TLS 1.3");
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_default_passwd_cb(context, no_password);
    SSL_CTX_set_verify_depth(context, DEPTH_MAX);
    return SSO_OK;
}

static enum sso_code read_certificate(const struct config *config, struct tls_files *files,
                                      struct sso_error *err)
{
    const char *path = config->tls.certificate;
    if (SSL_CTX_use_certificate_chain_file(files->context, path) != 1)
        return fail_openssl(err, "[tls] certificate", path);
    X509 *certificate = SSL_CTX_get0_certificate(files->context);
    if (X509_check_purpose(certificate, X509_PURPOSE_SSL_SERVER, 0) != 1)
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "[tls] certificate: %s is not for a server: its extended key usage lacks "
                        "serverAuth",
                        path);
    files->validity[TLS_CERTIFICATE] = (struct tls_validity){
        time_ms(X509_get0_notBefore(certificate)), time_ms(X509_get0_notAfter(certificate))};
    return SSO_OK;
}

static enum sso_code read_key(const struct config *config, uid_t owner, struct tls_files *files,
                              struct sso_error *err)
{
    const char *path = config->tls.key;
    int fd = -1;
    enum sso_code rc = private_file_open(path, "[tls] key", owner, &fd, err);
    if (rc != SSO_OK)
        return rc;
    BIO *bio = BIO_new_fd(fd, BIO_CLOSE);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    if (bio == NULL)
        close(fd);
    if (key == NULL)
        rc = fail_openssl(err, "[tls] key (PEM, without a passphrase)", path);
    else if (SSL_CTX_use_PrivateKey(files->context, key) != 1 ||
             SSL_CTX_check_private_key(files->context) != 1)
        rc = fail_openssl(err, "[tls] key", path);
    EVP_PKEY_free(key);
    BIO_free(bio);
    return rc;
}

/* The end of a file of PEM is an error to OpenSSL like any other. */
static bool at_end(void)
{
    unsigned long last = ERR_peek_last_error();
    bool end = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
    if (end)
        ERR_clear_error();
    return end;
}

/* Of several the first that ends: an installation that changes its CA has two for a while, and
 * wants to know when the former is of no use any more. One that has ended does not count while
 * another goes on. */
static void count_ca(struct tls_validity *of, X509 *ca, int64_t now_ms)
{
    struct tls_validity its = {time_ms(X509_get0_notBefore(ca)), time_ms(X509_get0_notAfter(ca))};
    bool counted_lives = of->until_ms > now_ms, it_lives = its.until_ms > now_ms;
    if (of->until_ms == 0 || (it_lives && !counted_lives) ||
        (it_lives == counted_lives && its.until_ms < of->until_ms))
        *of = its;
}

static enum sso_code read_cas(const struct config *config, struct tls_files *files,
                              struct sso_error *err)
{
    const char *path = config->tls.ca;
    X509_STORE *store = SSL_CTX_get_cert_store(files->context);
    BIO *bio = BIO_new_file(path, "re");
    enum sso_code rc = bio != NULL ? SSO_OK : fail_openssl(err, "[tls] ca", path);
    unsigned count = 0;
    while (rc == SSO_OK) {
        X509 *ca = PEM_read_bio_X509(bio, NULL, no_password, NULL);
        if (ca == NULL)
            break;
        count++;
        if (X509_check_ca(ca) == 0)
            rc = sso_fail(err, SSO_CONFIG_ERROR,
                          "[tls] ca: certificate %u of %s is none of a certification authority",
                          count, path);
        else if (X509_STORE_add_cert(store, ca) != 1 ||
                 SSL_CTX_add_client_CA(files->context, ca) != 1)
            rc = fail_openssl(err, "[tls] ca", path);
        count_ca(&files->validity[TLS_CA], ca, (int64_t)time(NULL) * 1000);
        X509_free(ca);
    }
    BIO_free(bio);
    if (rc == SSO_OK && (!at_end() || count == 0))
        rc = count == 0
                 ? sso_fail(err, SSO_CONFIG_ERROR, "[tls] ca: %s has no certificate in PEM", path)
                 : fail_openssl(err, "[tls] ca", path);
    ERR_clear_error();
    return rc;
}

/* A list of somebody else's would refuse every peer. */
static bool is_of_our_cas(X509_STORE *store, X509_CRL *list)
{
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);
    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        X509 *ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
        if (ca != NULL &&
            X509_NAME_cmp(X509_get_subject_name(ca), X509_CRL_get_issuer(list)) == 0 &&
            X509_CRL_verify(list, X509_get0_pubkey(ca)) == 1)
            return true;
    }
    return false;
}

static enum sso_code add_list(X509_STORE *store, X509_CRL *list, const char *path,
                              struct tls_validity *validity, struct sso_error *err)
{
    struct tls_validity its = {time_ms(X509_CRL_get0_lastUpdate(list)),
                               time_ms(X509_CRL_get0_nextUpdate(list))};
    if (!is_of_our_cas(store, list))
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "[tls] crl: %s has a list that no certificate of [tls] ca has signed",
                        path);
    if (X509_STORE_add_crl(store, list) != 1)
        return fail_openssl(err, "[tls] crl", path);
    if (its.until_ms != 0 && (validity->until_ms == 0 || its.until_ms < validity->until_ms))
        *validity = its;
    return SSO_OK;
}

static enum sso_code read_lists(const struct config *config, struct tls_files *files,
                                struct sso_error *err)
{
    const char *path = config->tls.crl;
    X509_STORE *store = SSL_CTX_get_cert_store(files->context);
    if (path[0] == '\0')
        return SSO_OK;
    BIO *bio = BIO_new_file(path, "re");
    enum sso_code rc = bio != NULL ? SSO_OK : fail_openssl(err, "[tls] crl", path);
    unsigned count = 0;
    while (rc == SSO_OK) {
        X509_CRL *list = PEM_read_bio_X509_CRL(bio, NULL, no_password, NULL);
        if (list == NULL)
            break;
        count++;
        rc = add_list(store, list, path, &files->validity[TLS_CRL], err);
        X509_CRL_free(list);
    }
    BIO_free(bio);
    if (rc == SSO_OK && (!at_end() || count == 0))
        rc = count == 0 ? sso_fail(err, SSO_CONFIG_ERROR,
                                   "[tls] crl: %s has no revocation list in PEM", path)
                        : fail_openssl(err, "[tls] crl", path);
    ERR_clear_error();
    /* Of each authority on the way up, so that one in the middle can be revoked as well. */
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return rc;
}

static enum sso_code check_named(const struct config *config, struct sso_error *err)
{
    if (config->tls.certificate[0] != '\0' && config->tls.key[0] != '\0' &&
        config->tls.ca[0] != '\0')
        return SSO_OK;
    return sso_fail(err, SSO_CONFIG_ERROR,
                    "[listen] tls wants certificate, key and ca in [tls]: see docs/cluster.md");
}

enum sso_code tls_files_read(const struct config *config, uid_t owner, struct tls_files *out,
                             struct sso_error *err)
{
    enum sso_code rc = check_named(config, err);
    if (rc != SSO_OK)
        return rc;
    struct tls_files files = {.context = SSL_CTX_new(TLS_server_method())};
    if (files.context == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for TLS");
    if ((rc = set_policy(files.context, err)) == SSO_OK &&
        (rc = read_certificate(config, &files, err)) == SSO_OK &&
        (rc = read_key(config, owner, &files, err)) == SSO_OK &&
        (rc = read_cas(config, &files, err)) == SSO_OK &&
        (rc = read_lists(config, &files, err)) == SSO_OK)
        *out = files;
    else
        tls_files_free(&files);
    return rc;
}

void tls_files_free(struct tls_files *files)
{
    SSL_CTX_free(files->context);
    files->context = NULL;
}
