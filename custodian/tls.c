#include "custodian/tls.h"

#include <ctype.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "custodian/tcp_socket.h"
#include "custodian/tls_files.h"

#define JUDGED_AGAIN_MS 60000
#define TOLD_IN_A_SECOND 10

const char *const tls_file_name[TLS_FILES] = {"certificate", "ca", "crl"};

struct tls {
    const struct config *config;
    uid_t owner;
    pthread_mutex_t lock; /* for `files`: replaced by the loop, its validity asked for by others */
    struct tls_files files;
    unsigned reading; /* how often they were read */
    int64_t told_ms;  /* since when `told` failures were told of */
    unsigned told;
};

static int peer_place; /* of a struct tls_peer in a session */
static pthread_once_t peer_place_once = PTHREAD_ONCE_INIT;

static void make_peer_place(void)
{
    peer_place = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

/* --- who a peer is --- */

static const ASN1_IA5STRING *usable_text(const GENERAL_NAME *name, const char **kind)
{
    int type = 0;
    const void *value = GENERAL_NAME_get0_value(name, &type);
    if (type != GEN_DNS && type != GEN_URI)
        return NULL;
    *kind = type == GEN_DNS ? "DNS" : "URI";
    return value;
}

/* Names that nothing in a configuration can stand for are left out: others of the certificate may
 * be for other programs. */
static bool take_name(const GENERAL_NAME *name, struct identity *out)
{
    char *place = out->name[out->name_count];
    const char *kind = NULL;
    const ASN1_IA5STRING *value = usable_text(name, &kind);
    if (value == NULL)
        return true;
    const char *text = (const char *)ASN1_STRING_get0_data(value);
    size_t length = (size_t)ASN1_STRING_length(value);
    char whole[SAN_BYTES_MAX + 1];
    if (memchr(text, '\0', length) != NULL || length + sizeof "san:DNS:" > sizeof whole)
        return true;
    snprintf(whole, sizeof whole, "san:%s:%.*s", kind, (int)length, text);
    for (char *at = whole + sizeof "san:DNS:" - 1; kind[0] == 'D' && *at != '\0'; at++)
        *at = (char)tolower((unsigned char)*at);
    if (!san_name_is_valid(whole))
        return true;
    if (out->name_count == IDENTITY_NAMES_MAX)
        return false;
    memcpy(place, whole, sizeof whole);
    out->name_count++;
    return true;
}

static bool identify(X509 *certificate, struct tls_peer *peer)
{
    struct identity *identity = peer->identity;
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    bool few = true;
    *identity = (struct identity){.uid = NO_UID};
    for (int i = 0; few && i < sk_GENERAL_NAME_num(names); i++)
        few = take_name(sk_GENERAL_NAME_value(names, i), identity);
    GENERAL_NAMES_free(names);
    if (!few)
        snprintf(peer->refusal, sizeof peer->refusal,
                 "its certificate has more than %d alternative names", IDENTITY_NAMES_MAX);
    else if (identity->name_count == 0)
        snprintf(peer->refusal, sizeof peer->refusal,
                 "its certificate has no DNS or URI among its subject alternative names");
    return few && identity->name_count > 0;
}

static struct tls_peer *peer_of(X509_STORE_CTX *chain)
{
    SSL *session = X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx());
    return session != NULL ? SSL_get_ex_data(session, peer_place) : NULL;
}

static int judge(int sound, X509_STORE_CTX *chain)
{
    struct tls_peer *peer = peer_of(chain);
    X509 *certificate = X509_STORE_CTX_get_current_cert(chain);
    if (peer == NULL)
        return 0;
    if (!sound) {
        char subject[160] = "";
        if (certificate != NULL)
            X509_NAME_oneline(X509_get_subject_name(certificate), subject, sizeof subject);
        snprintf(peer->refusal, sizeof peer->refusal, "%s: %s", subject,
                 X509_verify_cert_error_string(X509_STORE_CTX_get_error(chain)));
        return 0;
    }
    if (X509_STORE_CTX_get_error_depth(chain) == 0 && !identify(certificate, peer)) {
        X509_STORE_CTX_set_error(chain, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    return 1;
}

static void on_state(const SSL *session, int where, int value)
{
    struct tls_peer *peer = SSL_get_ex_data(session, peer_place);
    (void)value;
    if (!(where & SSL_CB_HANDSHAKE_DONE) || peer == NULL || peer->ready == NULL)
        return;
    void (*ready)(void *) = peer->ready;
    peer->ready = NULL; /* TLS 1.3 has later handshakes of its own: new keys */
    ready(peer->context);
}

/* --- the files --- */

static enum sso_code read_files(struct tls *tls, struct tls_files *out, struct sso_error *err)
{
    enum sso_code rc = tls_files_read(tls->config, tls->owner, out, err);
    if (rc != SSO_OK)
        return rc;
    SSL_CTX_set_verify(out->context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, judge);
    SSL_CTX_set_info_callback(out->context, on_state);
    return SSO_OK;
}

enum sso_code tls_new(const struct config *config, uid_t owner, struct tls **out,
                      struct sso_error *err)
{
    pthread_once(&peer_place_once, make_peer_place);
    struct tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for TLS");
    tls->config = config;
    tls->owner = owner;
    pthread_mutex_init(&tls->lock, NULL);
    enum sso_code rc = read_files(tls, &tls->files, err);
    if (rc == SSO_OK)
        *out = tls;
    else
        tls_free(&tls);
    return rc;
}

void tls_free(struct tls **tls)
{
    if (*tls == NULL)
        return;
    tls_files_free(&(*tls)->files);
    pthread_mutex_destroy(&(*tls)->lock);
    free(*tls);
    *tls = NULL;
}

static enum sso_code check_times(const struct tls_files *files, struct sso_error *err)
{
    int64_t now_ms = wall_clock_ms();
    for (size_t i = 0; i < TLS_FILES; i++) {
        const struct tls_validity *of = &files->validity[i];
        if (of->until_ms != 0 && (now_ms < of->from_ms || now_ms >= of->until_ms))
            return sso_fail(err, SSO_CONFIG_ERROR, "[tls] %s: what the file holds %s",
                            tls_file_name[i],
                            now_ms < of->from_ms ? "is not valid yet" : "has expired");
    }
    return SSO_OK;
}

enum sso_code tls_read_again(struct tls *tls, struct sso_error *err)
{
    struct tls_files files = {0};
    enum sso_code rc = read_files(tls, &files, err);
    if (rc == SSO_OK && (rc = check_times(&files, err)) != SSO_OK)
        tls_files_free(&files);
    if (rc != SSO_OK)
        return rc;
    pthread_mutex_lock(&tls->lock);
    struct tls_files former = tls->files;
    tls->files = files;
    tls->reading++;
    pthread_mutex_unlock(&tls->lock);
    tls_files_free(&former); /* sessions of it hold it as long as they live */
    return SSO_OK;
}

void tls_validity(struct tls *tls, struct tls_validity out[static TLS_FILES])
{
    pthread_mutex_lock(&tls->lock);
    memcpy(out, tls->files.validity, sizeof tls->files.validity);
    pthread_mutex_unlock(&tls->lock);
}

/* --- sessions --- */

SSL *tls_session_new(struct tls *tls, struct tls_peer *peer)
{
    SSL *session = SSL_new(tls->files.context);
    if (session != NULL && SSL_set_ex_data(session, peer_place, peer) != 1) {
        SSL_free(session);
        return NULL;
    }
    peer->reading = tls->reading;
    peer->judged_ms = boot_clock_ms();
    return session;
}

void tls_session_forget(SSL *session)
{
    SSL_set_ex_data(session, peer_place, NULL);
}

void tls_tell_of_failure(struct tls *tls, const struct tls_peer *peer, int fd, unsigned long error)
{
    int64_t now_ms = boot_clock_ms();
    const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;
    char from[TCP_ADDRESS_BYTES];
    if (now_ms - tls->told_ms >= 1000) {
        tls->told_ms = now_ms;
        tls->told = 0;
    }
    if (tls->told++ >= TOLD_IN_A_SECOND)
        return;
    tcp_socket_peer(fd, from);
    log_line(LOG_LEVEL_INFO, "a TLS handshake failed", "from", from, "reason",
             reason != NULL ? reason : "the connection ended", "certificate",
             peer->refusal[0] != '\0' ? peer->refusal : "-", NULL);
}

/* The chain that it sent, against the authorities and lists of now. */
static bool judge_again(struct tls *tls, SSL *session)
{
    X509_STORE_CTX *chain = X509_STORE_CTX_new();
    X509 *certificate = SSL_get0_peer_certificate(session);
    bool sound = chain != NULL && certificate != NULL &&
                 X509_STORE_CTX_init(chain, SSL_CTX_get_cert_store(tls->files.context), certificate,
                                     SSL_get_peer_cert_chain(session)) == 1 &&
                 X509_STORE_CTX_set_default(chain, "ssl_client") == 1;
    if (sound) {
        X509_STORE_CTX_set_depth(chain, SSL_CTX_get_verify_depth(tls->files.context));
        sound = X509_verify_cert(chain) == 1;
    }
    X509_STORE_CTX_free(chain);
    ERR_clear_error();
    return sound;
}

bool tls_session_is_trusted(struct tls *tls, SSL *session, struct tls_peer *peer)
{
    int64_t now_ms = boot_clock_ms();
    if (peer->reading == tls->reading && now_ms - peer->judged_ms < JUDGED_AGAIN_MS)
        return true;
    if (!judge_again(tls, session))
        return false;
    peer->reading = tls->reading;
    peer->judged_ms = now_ms;
    return true;
}
