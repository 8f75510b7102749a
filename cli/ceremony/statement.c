#include "cli/ceremony/statement.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/encode.h"
#include "common/json.h"

/* The audit has the text too, so one that is lost is no harm. */
static void keep(const struct ceremony *ceremony, const struct statement *statement,
                 const char *signature, const char *pem)
{
    char path[512];
    const char *folder = ceremony->config->system.state_directory;
    snprintf(path, sizeof path, "%s/statements", folder);
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        console_warn("%s cannot be made: the statement stands in the audit only", path);
        return;
    }
    snprintf(path, sizeof path, "%s/statements/generation-%u-%s", folder, statement->generation,
             statement->what);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool done = fd >= 0 && dprintf(fd, "%s\nsignature %s\n%s", statement->text, signature, pem) > 0;
    if (fd >= 0)
        done = fsync(fd) == 0 && done;
    if (fd >= 0)
        close(fd);
    if (!done)
        console_warn("%s was not written: the statement stands in the audit only", path);
}

void statement_sign(const struct ceremony *ceremony, const struct signer *signer,
                    const struct statement *statement, json_t *result)
{
    uint8_t signature[AUDIT_SIGNATURE_BYTES];
    char hex[2 * AUDIT_SIGNATURE_BYTES + 1] = "", pem[AUDIT_KEY_PEM_SIZE] = "";
    struct sso_error problem = {0};
    const struct signed_text text = {
        .kind = "statement", .bytes = statement->text, .count = strlen(statement->text)};
    if (signer_sign(ceremony, signer, &text, signature, &problem) == SSO_OK &&
        audit_key_pem(&signer->key, pem))
        hex_encode(signature, sizeof signature, hex);
    else
        console_warn("the statement is not signed: %s", problem.detail);
    if (statement->keep)
        keep(ceremony, statement, hex, pem);
    json_object_set_new(result, "statement", json_string(statement->text));
    json_object_set_new(result, "signature", json_text_or_null(hex));
    json_object_set_new(result, "public_key", json_text_or_null(pem));
}
