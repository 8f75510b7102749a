/*
 * Looks up the caller's own credential of an application, or that of a principal, and shows what it
 * got without its secrets; with a third argument sets the field "password" to standard input first.
 *
 *     cc sso-hsm-lookup.c $(pkg-config --cflags --libs sso-hsm) -o sso-hsm-lookup
 *     ./sso-hsm-lookup SOCKET APPLICATION [PRINCIPAL [set]]
 *
 * Instead of the socket https://HOST:PORT of a custodian on another host; then $CERTIFICATE, $KEY
 * and $CA name the files to show and to believe.
 */
#include <sso-hsm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int refused(const struct sso_hsm_error *error)
{
    fprintf(stderr, "%s: %s\n", error->code, error->detail);
    return 1;
}

/* Every field must be given; this sample knows applications with user and password. */
static int set(struct sso_hsm *hsm, const char *application, const char *principal)
{
    struct sso_hsm_error error;
    char password[256];
    uint64_t version = 0;
    if (fgets(password, sizeof password, stdin) == NULL)
        return 2;
    size_t length = strcspn(password, "\n");
    const struct sso_hsm_field fields[] = {{"user", principal, strlen(principal)},
                                           {"password", password, length}};
    enum sso_hsm_result result =
        sso_hsm_set(hsm, application, principal, NULL, fields, 2, 0, &version, &error);
    sso_hsm_wipe(password, sizeof password);
    if (result != SSO_HSM_OK)
        return refused(&error);
    printf("set, version %llu\n", (unsigned long long)version);
    return 0;
}

static int show(struct sso_hsm *hsm, const char *application, const char *principal)
{
    struct sso_hsm_error error;
    struct sso_hsm_credential *credential = NULL;
    size_t length = 0;
    if (sso_hsm_lookup(hsm, application, principal, 0, &credential, &error) != SSO_HSM_OK)
        return refused(&error);
    sso_hsm_credential_field(credential, "password", &length);
    printf("%s is %s over there, with a password of %zu bytes, version %llu\n",
           sso_hsm_credential_principal(credential), sso_hsm_credential_external_user(credential),
           length, (unsigned long long)sso_hsm_credential_version(credential));
    sso_hsm_credential_free(&credential);
    return 0;
}

static enum sso_hsm_result open_at(const char *where, struct sso_hsm **hsm,
                                   struct sso_hsm_error *error)
{
    if (strncmp(where, "https://", 8) != 0)
        return sso_hsm_open(where, hsm, error);
    const struct sso_hsm_tls tls = {where, getenv("CERTIFICATE"), getenv("KEY"), getenv("CA")};
    return sso_hsm_open_tls(&tls, hsm, error);
}

int main(int argc, char **argv)
{
    struct sso_hsm *hsm = NULL;
    struct sso_hsm_error error;
    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: %s SOCKET|URL APPLICATION [PRINCIPAL [set]]\n", argv[0]);
        return 2;
    }
    if (open_at(argv[1], &hsm, &error) != SSO_HSM_OK)
        return refused(&error);
    int code = argc == 5 ? set(hsm, argv[2], argv[3]) : 0;
    if (code == 0)
        code = show(hsm, argv[2], argc > 3 ? argv[3] : NULL);
    sso_hsm_close(&hsm);
    return code;
}
