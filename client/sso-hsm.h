/*
 * libsso-hsm: credentials of an application from a custodian, on this host or over TLS.
 *
 *     struct sso_hsm *hsm = NULL;
 *     struct sso_hsm_credential *credential = NULL;
 *     struct sso_hsm_error error;
 *     if (sso_hsm_open(NULL, &hsm, &error) != SSO_HSM_OK ||
 *         sso_hsm_lookup(hsm, "billing", NULL, 0, &credential, &error) != SSO_HSM_OK)
 *         fprintf(stderr, "%s: %s\n", error.code, error.detail);
 *
 * The custodian knows the caller by his Unix user, or by the names in his certificate
 * (sso_hsm_open_tls); docs/api.md says who may do what. A connection is kept open and belongs to
 * one thread at a time. What holds a secret is wiped when it is freed; for that the library gives
 * jansson an allocator that wipes, over malloc(3) and free(3), unless the program has given it one
 * of its own, which must then be over these as well.
 */
#ifndef SSO_HSM_H
#define SSO_HSM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a program can branch on; error->code has the exact one. */
enum sso_hsm_result {
    SSO_HSM_OK = 0,
    SSO_HSM_REFUSED, /* not allowed, disabled, not there, not well formed: trying again is no use */
    SSO_HSM_CONFLICT,  /* version_conflict: somebody else changed it meanwhile */
    SSO_HSM_TRY_AGAIN, /* nobody answers, or the service cannot do it now */
    SSO_HSM_FAILED,    /* anything else */
};

struct sso_hsm_error {
    char code[48];    /* "mapping_disabled" … as docs/api.md has them; never a secret */
    char detail[640]; /* for people */
};

struct sso_hsm;
struct sso_hsm_credential;

/* `socket`: of [listen] socket; NULL: /run/sso-hsm/custodian.sock. Connects at the first call.
 * `error` may be NULL everywhere. */
enum sso_hsm_result sso_hsm_open(const char *socket, struct sso_hsm **out,
                                 struct sso_hsm_error *error);
/* A custodian on another host: TLS 1.3, with certificates on both sides. The files are PEM; the key
 * has no passphrase, is readable by its owner alone (0400 or 0600), who is the caller or root. The
 * custodian's certificate must be of an authority in `ca` and for the host of `url`. What is wrong
 * with them is told by the first call that talks to the custodian, or here. */
struct sso_hsm_tls {
    const char *url; /* https://HOST:PORT, as in [client] url */
    const char *certificate, *key, *ca;
};
enum sso_hsm_result sso_hsm_open_tls(const struct sso_hsm_tls *tls, struct sso_hsm **out,
                                     struct sso_hsm_error *error);
void sso_hsm_close(struct sso_hsm **hsm); /* NULL inside is fine, and is left behind */

/* Looks a credential up in the clear. `principal` NULL: the caller's own (in a group application:
 * that of his first group). On success *out is to be freed. */
#define SSO_HSM_REFRESH 1u /* not from the service's cache */
enum sso_hsm_result sso_hsm_lookup(struct sso_hsm *hsm, const char *application,
                                   const char *principal, unsigned flags,
                                   struct sso_hsm_credential **out, struct sso_hsm_error *error);
/* Wipes what it held. */
void sso_hsm_credential_free(struct sso_hsm_credential **credential);

/* Views, good until the credential is freed. A value ends with a NUL that *length does not count,
 * and may hold others. NULL where there is no such field. `length` may be NULL. */
const char *sso_hsm_credential_field(const struct sso_hsm_credential *credential, const char *label,
                                     size_t *length);
const char *sso_hsm_credential_principal(const struct sso_hsm_credential *credential);
const char *sso_hsm_credential_external_user(const struct sso_hsm_credential *credential);
uint64_t sso_hsm_credential_version(const struct sso_hsm_credential *credential);

struct sso_hsm_field {
    const char *label;
    const char *value; /* UTF-8 */
    size_t length;     /* of value, in bytes */
};
/* Sets a credential: every field of the application and no other. `external_user` NULL: as it was,
 * else as the mapping says. `if_version` 0: whatever version it is at; else SSO_HSM_CONFLICT unless
 * at that one. The new version into *version, which may be NULL. The values stay the caller's, to
 * be wiped with sso_hsm_wipe. */
enum sso_hsm_result sso_hsm_set(struct sso_hsm *hsm, const char *application, const char *principal,
                                const char *external_user, const struct sso_hsm_field *fields,
                                size_t field_count, uint64_t if_version, uint64_t *version,
                                struct sso_hsm_error *error);

/* Not optimised away. */
void sso_hsm_wipe(void *bytes, size_t count);

#ifdef __cplusplus
}
#endif

#endif
