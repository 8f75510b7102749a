/* `db backup`: a copy of the database, and beside it FILE.info: what it needs to be opened, signed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ceremony/signing.h"
#include "common/clock.h"
#include "common/encode.h"
#include "common/json.h"

#define INFO_BYTES_MAX ((size_t)1 << 20)
#define KIND "database backup"

static enum sso_code hash_file(const char *path, char out[static 2 * AUDIT_DIGEST_BYTES + 1],
                               struct sso_error *err)
{
    uint8_t block[65536], digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    size_t n;
    FILE *file = fopen(path, "re");
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good =
        file != NULL && context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    while (good && (n = fread(block, 1, sizeof block, file)) > 0)
        good = EVP_DigestUpdate(context, block, n) == 1;
    good = good && !ferror(file) && EVP_DigestFinal_ex(context, digest, &length) == 1;
    int why = errno;
    if (file != NULL)
        fclose(file);
    EVP_MD_CTX_free(context);
    if (!good)
        return sso_fail_errno(err, SSO_BACKUP_INVALID, why, "reading %s", path);
    hex_encode(digest, length, out);
    return SSO_OK;
}

/* What must be in tokens for all of the copy to be opened. */
static json_t *needed(const struct generation *generations, size_t generation_count,
                      const struct generation_rows *rows, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < generation_count; i++) {
        const struct generation *generation = &generations[i];
        json_int_t credentials = 0, sealed_keys = 0;
        for (size_t r = 0; r < count; r++) {
            if (rows[r].generation != generation->number)
                continue;
            credentials += (json_int_t)rows[r].credentials;
            sealed_keys += (json_int_t)rows[r].sealed_keys;
        }
        json_array_append_new(list, json_pack("{s:I, s:o, s:s, s:s, s:o, s:I, s:I}", "number",
                                              (json_int_t)generation->number, "secret_id",
                                              json_hex(generation->secret_id, SECRET_ID_BYTES),
                                              "suite", suite_name(generation->suite), "state",
                                              generation_state_name(generation->state), "share_set",
                                              json_text_or_null(generation->share_set), "rows",
                                              credentials, "sealed_keys", sealed_keys));
    }
    return list;
}

/* Of the copy and not of the database, which others write meanwhile. */
static enum sso_code read_copy(const char *path, json_t **generations, struct sso_error *err)
{
    char url[PATH_MAX + 16];
    struct store *store = NULL;
    struct store_tx *tx = NULL;
    struct generation *list = NULL;
    struct generation_rows *rows = NULL;
    size_t list_count = 0, count = 0;
    snprintf(url, sizeof url, "sqlite:%s", path);
    enum sso_code rc = store_open(url, &store, err);
    if (rc == SSO_OK)
        rc = store_begin(store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = store_generation_list(tx, &list, &list_count, err);
    if (rc == SSO_OK)
        rc = store_count_by_generation(tx, &rows, &count, err);
    if (rc == SSO_OK)
        *generations = needed(list, list_count, rows, count);
    store_rollback(&tx);
    store_close(&store);
    free(list);
    free(rows);
    return rc;
}

static enum sso_code describe(const struct ceremony *ceremony, const char *path, json_t **out,
                              struct sso_error *err)
{
    char hash[2 * AUDIT_DIGEST_BYTES + 1];
    json_t *generations = NULL;
    enum sso_code rc = read_copy(path, &generations, err);
    if (rc == SSO_OK)
        rc = hash_file(path, hash, err);
    if (rc != SSO_OK) {
        json_decref(generations);
        return rc;
    }
    *out = json_pack("{s:o, s:s, s:o, s:s, s:o}", "system",
                     json_pack("{s:o, s:s}", "id", json_hex(ceremony->system.id, SYSTEM_ID_BYTES),
                               "name", ceremony->system.name),
                     "node", ceremony->config->cluster.node, "made", json_time(wall_clock_ms()),
                     "sha256", hash, "generations", generations);
    return *out != NULL ? SSO_OK : sso_fail(err, SSO_NO_MEMORY, "no memory to describe a backup");
}

/* Three lines: what is signed, the signature, the public key as PEM behind them. */
static enum sso_code write_info(const char *path, const char *text, const char *signature,
                                const char *pem, struct sso_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return sso_fail_errno(err, errno == EEXIST ? SSO_ALREADY_EXISTS : SSO_CONFIG_ERROR, errno,
                              "%s", path);
    bool done = dprintf(fd, "%s\nsignature %s\n%s", text, signature, pem) > 0 && fsync(fd) == 0;
    int why = errno;
    close(fd);
    return done ? SSO_OK : sso_fail_errno(err, SSO_CONFIG_ERROR, why, "writing %s", path);
}

static enum sso_code sign_info(const struct ceremony *ceremony, const struct signer *signer,
                               const char *path, json_t *info, struct sso_error *err)
{
    uint8_t signature[AUDIT_SIGNATURE_BYTES];
    char hex[2 * AUDIT_SIGNATURE_BYTES + 1] = "", pem[AUDIT_KEY_PEM_SIZE] = "";
    struct sso_error problem = {0};
    char *line = json_line(info);
    if (line == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory to describe a backup");
    const struct signed_text text = {.kind = KIND, .bytes = line, .count = strlen(line)};
    if (signer_sign(ceremony, signer, &text, signature, &problem) == SSO_OK &&
        audit_key_pem(&signer->key, pem))
        hex_encode(signature, sizeof signature, hex);
    else
        console_warn("what the backup needs is not signed: %s", problem.detail);
    enum sso_code rc = write_info(path, line, hex, pem, err);
    json_object_set_new(info, "signature", json_text_or_null(hex));
    json_object_set_new(info, "public_key", json_text_or_null(pem));
    wiping_free(line);
    return rc;
}

static enum sso_code audit_backup(const struct ceremony *ceremony, const json_t *info,
                                  struct sso_error *err)
{
    struct audit_record record;
    char target[96];
    STORE_TX_AUTO tx = NULL;
    snprintf(target, sizeof target, "sha256 %s",
             json_string_value(json_object_get(info, "sha256")));
    enum sso_code rc = console_record(ceremony, "database.backup", target, &record, err);
    if (rc == SSO_OK)
        rc = store_begin(ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, &record, 1, err);
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    if (rc == SSO_OK)
        console_keep_head(ceremony, &record, false);
    return rc;
}

enum sso_code ceremony_backup_database(struct ceremony *ceremony, const char *path, json_t **info,
                                       struct sso_error *err)
{
    char info_path[PATH_MAX];
    struct signer signer;
    if (path[0] != '/' ||
        snprintf(info_path, sizeof info_path, "%s.info", path) >= (int)sizeof info_path)
        return sso_fail(err, SSO_USAGE, "%s is not an absolute path", path);
    enum sso_code rc = installation_open_all(ceremony, err);
    if (rc == SSO_OK && access(info_path, F_OK) == 0)
        rc =
            sso_fail(err, SSO_ALREADY_EXISTS, "%s is there already: it is not replaced", info_path);
    if (rc == SSO_OK)
        rc = signer_find(ceremony, &signer, err);
    if (rc == SSO_OK)
        rc = store_backup(ceremony->store, path, err);
    if (rc != SSO_OK)
        return rc;
    rc = describe(ceremony, path, info, err);
    if (rc == SSO_OK)
        rc = sign_info(ceremony, &signer, info_path, *info, err);
    if (rc == SSO_OK)
        rc = audit_backup(ceremony, *info, err);
    if (rc == SSO_OK)
        signer_sign_heads(ceremony, &signer);
    else
        unlink(path); /* without its list it is no backup of ours */
    return rc;
}

/* --- backup-info: two files, and nothing else --- */

static enum sso_code invalid(const char *path, const char *what, struct sso_error *err)
{
    return sso_fail(err, SSO_BACKUP_INVALID, "%s %s", path, what);
}

static enum sso_code read_text(const char *path, char **out, struct sso_error *err)
{
    FILE *file = fopen(path, "re");
    char *text = calloc(1, INFO_BYTES_MAX + 1);
    if (file == NULL || text == NULL) {
        enum sso_code rc = sso_fail_errno(err, SSO_BACKUP_INVALID, errno, "reading %s", path);
        if (file != NULL)
            fclose(file);
        free(text);
        return rc;
    }
    size_t n = fread(text, 1, INFO_BYTES_MAX + 1, file);
    fclose(file);
    if (n > INFO_BYTES_MAX || memchr(text, '\0', n) != NULL) {
        free(text);
        return invalid(path, "is no list of a backup", err);
    }
    text[n] = '\0';
    *out = text;
    return SSO_OK;
}

/* Does the signature behind the first line fit the key behind it? */
static bool fits(const json_t *info, const char *line, const char *signature_hex, const char *pem)
{
    struct audit_key key;
    uint8_t id[SYSTEM_ID_BYTES], digest[AUDIT_DIGEST_BYTES], signature[AUDIT_SIGNATURE_BYTES];
    const char *system = json_string_value(json_object_get(json_object_get(info, "system"), "id"));
    if (system == NULL || !hex_decode(system, id, sizeof id) ||
        !hex_decode(signature_hex, signature, sizeof signature) || !audit_key_from_pem(pem, &key))
        return false;
    audit_text_digest(id, KIND, line, strlen(line), digest);
    return audit_key_verifies(&key, digest, signature);
}

enum sso_code database_backup_info(const char *path, json_t **out, struct sso_error *err)
{
    char info_path[PATH_MAX], hash[2 * AUDIT_DIGEST_BYTES + 1];
    char *text = NULL, *save = NULL;
    snprintf(info_path, sizeof info_path, "%s.info", path);
    enum sso_code rc = read_text(info_path, &text, err);
    if (rc != SSO_OK)
        return rc;
    const char *line = strtok_r(text, "\n", &save), *second = strtok_r(NULL, "\n", &save);
    json_t *info = line != NULL ? json_parse(line, strlen(line), NULL) : NULL;
    const char *wanted = json_string_value(json_object_get(info, "sha256"));
    if (wanted == NULL || second == NULL || strncmp(second, "signature ", 10) != 0)
        rc = invalid(info_path, "is no list of a backup", err);
    else if (second[10] != '\0' && !fits(info, line, second + 10, save))
        rc = sso_fail(err, SSO_BACKUP_TAMPERED, "%s: the signature does not fit", info_path);
    if (rc == SSO_OK)
        rc = hash_file(path, hash, err);
    if (rc == SSO_OK && strcmp(hash, wanted) != 0)
        rc = sso_fail(err, SSO_BACKUP_TAMPERED, "%s is not the file that %s tells of", path,
                      info_path);
    if (rc == SSO_OK) {
        json_object_set_new(info, "signature", json_text_or_null(second + 10));
        json_object_set_new(info, "public_key", json_text_or_null(save));
        *out = json_incref(info);
    }
    json_decref(info);
    free(text);
    return rc;
}
