/*
 * The matrix of docs/tokens.md: what each kind of token does, found out by doing it, one process
 * for each since a module is never quite gone. Prints the table; with a file as argument each line
 * of it must stand there.
 */
#include <openssl/rand.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pkcs11/audit_signing.h"
#include "pkcs11/canary.h"
#include "pkcs11/ckr.h"
#include "pkcs11/evidence.h"
#include "pkcs11/gcm.h"
#include "pkcs11/key.h"
#include "pkcs11/release.h"
#include "pkcs11/wrapping_key.h"
#include "tokens.h"

static struct test_token folder;
static struct module *module;
static struct token token;
static struct generation_table table;
static struct session session;

static bool begin(enum token_kind kind)
{
    static const char *const labels[] = {"first", NULL};
    struct sso_error err = {0};
    SECRET_AUTO pin = {0};
    bool begun = test_token_new(&folder, kind, labels);
    if (!begun)
        return false;
    test_token_environment(&folder);
    generation_table_init(&table);
    begun = secret_memory_init((size_t)1 << 20, &err) == SSO_OK &&
            module_load(folder.section.module, folder.section.init_args, &module, &err) == SSO_OK &&
            token_find(module, folder.section.token, &token, &err) == SSO_OK &&
            secret_append(&pin, TEST_PIN, strlen(TEST_PIN), &err) == SSO_OK &&
            token_login(&token, &pin, &err) == SSO_OK &&
            session_open(&session, &token, &table, &err) == SSO_OK;
    if (!begun)
        fprintf(stderr, "%s: %s\n", test_token_kind_name(kind), err.detail);
    return begun;
}

/* "yes", "weak: wrap,copy", or the function that refused. */
static const char *suite_result(const struct suite *suite, char out[static 160])
{
    struct generation_key trial = {.number = 1, .secret_id = {1}, .suite = suite->id};
    struct evidence evidence;
    struct sso_error err = {0};
    CK_OBJECT_HANDLE key;
    enum sso_code code = key_generate_trial(&session, &trial, &key, &err);
    if (code == SSO_OK)
        code = canary_make(&session, key, suite, &trial, &err);
    if (code == SSO_OK)
        code = evidence_take(&session, &trial, key, true, &evidence, &err);
    if (code != SSO_OK || !evidence.canary)
        snprintf(out, 160, "no (%.100s)", err.detail);
    else if (evidence.weak[0] != '\0')
        snprintf(out, 160, "weak: %s", evidence.weak);
    else
        snprintf(out, 160, "yes");
    return out;
}

static const char *release_result(void)
{
    bool read = release_try(&session, RELEASE_READ).rv == CKR_OK;
    bool transport = release_try(&session, RELEASE_TRANSPORT).rv == CKR_OK;
    return read && transport ? "read, transport" : read ? "read" : transport ? "transport" : "none";
}

static bool takes_wrapping_key(void)
{
    uint8_t bytes[WRAPPING_KEY_BYTES] = {1};
    CK_OBJECT_HANDLE key;
    return wrapping_key_enter(&session, bytes, &key, NULL) == SSO_OK;
}

static void describe(enum token_kind kind)
{
    char kw[160], gcm[160], iv[64] = "–";
    struct gcm_way way;
    if (gcm_way(&session, &way).rv == CKR_OK)
        snprintf(iv, sizeof iv, "%s, %zu bytes%s", gcm_iv_name(way.iv), way.iv_bytes,
                 way.decrypts_within ? ", within" : "");
    suite_result(suite_by_id(SUITE_AES256_KW), kw);
    suite_result(suite_by_id(SUITE_AES256_GCM), gcm);
    const char *release = release_result();
    printf("| %s | %s | %s | %s | %s | %s | %s | %s |\n", test_token_kind_name(kind), kw, release,
           atomic_load(&token.ways.unwrap_names_length) ? "named" : "not named", gcm, iv,
           takes_wrapping_key() ? "yes" : "no",
           audit_signing_try(&session, NULL) == SSO_OK ? "yes" : "no");
}

/* In a child. Status 77: the token is not installed. */
static int describe_in_child(enum token_kind kind)
{
    pid_t pid = fork();
    int status = 0;
    if (pid == 0) {
        bool begun = begin(kind);
        if (begun)
            describe(kind);
        fflush(stdout);
        if (module != NULL)
            module_finalize(module);
        bool missing = !begun && module == NULL && folder.folder[0] == '\0';
        test_token_free(&folder);
        _exit(begun ? 0 : missing ? 77 : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                           : 1;
}

static bool stands_in(const char *path, const char *wanted)
{
    char line[1024];
    bool found = false;
    FILE *file = fopen(path, "r");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL)
        found = strcmp(line, wanted) == 0;
    if (file != NULL)
        fclose(file);
    return found;
}

/* The lines that the children print are read back through a pipe. */
static int compare(FILE *lines, const char *path)
{
    char line[1024];
    int wrong = 0;
    while (fgets(line, sizeof line, lines) != NULL) {
        fputs(line, stdout);
        if (path != NULL && !stands_in(path, line)) {
            fprintf(stderr, "not so in %s: %s", path, line);
            wrong++;
        }
    }
    return wrong;
}

int main(int argc, char **argv)
{
    FILE *lines = tmpfile();
    int kept = dup(STDOUT_FILENO), failed = 0;
    wiping_allocator_install();
    if (lines == NULL || kept < 0 || dup2(fileno(lines), STDOUT_FILENO) < 0)
        return 1;
    for (int kind = 0; kind < TOKEN_KINDS; kind++) {
        int status = describe_in_child((enum token_kind)kind);
        if (status == 77)
            fprintf(stderr, "%s: not installed\n", test_token_kind_name((enum token_kind)kind));
        else
            failed += status != 0;
    }
    dup2(kept, STDOUT_FILENO);
    rewind(lines);
    failed += compare(lines, argc > 1 ? argv[1] : NULL);
    return failed == 0 ? 0 : 1;
}
