/* Shares as files, for officers who bring a medium of their own. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/ceremony/shares.h"
#include "common/clock.h"
#include "common/encode.h"

#define PREFIX "share-"
#define FILE_BYTES_MAX 8192
#define WORDS_PER_LINE 6

static void path_of(const char *folder, const struct share_set *set, unsigned number,
                    char out[static PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/" PREFIX "%u-of-%u.txt", folder, number, set->scheme.count);
}

static bool is_share_name(const struct dirent *entry)
{
    return strncmp(entry->d_name, PREFIX, sizeof PREFIX - 1) == 0;
}

static int select_shares(const struct dirent *entry)
{
    return is_share_name(entry);
}

enum sso_code shares_folder_check(const char *folder, struct sso_error *err)
{
    struct dirent **names = NULL;
    int count = scandir(folder, &names, select_shares, alphasort);
    if (count < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the folder for shares %s", folder);
    enum sso_code rc = SSO_OK;
    if (count > 0)
        rc = sso_fail(err, SSO_ALREADY_EXISTS,
                      "%s holds files of shares already (%s): give an empty folder", folder,
                      names[0]->d_name);
    else if (access(folder, W_OK | X_OK) != 0)
        rc = sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the folder for shares %s", folder);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return rc;
}

static void put_text(struct encoder *out, const char *text)
{
    encode_fixed(out, text, strlen(text));
}

/* Remarks begin with #; what remains is the words and nothing else. */
static void compose(const struct share_occasion *occasion, const struct slip39_share *share,
                    struct encoder *out)
{
    const struct share_set *set = occasion->set;
    char line[256], time[RFC3339_SIZE], hex[2 * SHARE_FINGERPRINT_BYTES + 1];
    struct slip39_mnemonic *mnemonic = secret_alloc(sizeof *mnemonic);
    if (mnemonic == NULL) {
        out->failed = true;
        return;
    }
    hex_encode(set->fingerprint[share->member_index], SHARE_FINGERPRINT_BYTES, hex);
    snprintf(line, sizeof line, "# sso-hsm share %u of %u; %u of them bring the key back%s\n",
             share->member_index + 1u, set->scheme.count, set->scheme.threshold,
             set->passphrase ? ", with the passphrase" : "");
    put_text(out, line);
    snprintf(line, sizeof line, "# system %s, share set %s of %s\n# fingerprint %s\n",
             occasion->system_name, set->id, rfc3339(set->created_ms, time), hex);
    put_text(out, line);
    slip39_mnemonic_write(share, mnemonic);
    for (size_t i = 0; i < mnemonic->count; i++) {
        put_text(out, slip39_word(mnemonic->word[i]));
        encode_u8(out, (i + 1) % WORDS_PER_LINE == 0 || i + 1 == mnemonic->count ? '\n' : ' ');
    }
    secret_dealloc(mnemonic);
}

static enum sso_code write_file(const char *path, const struct encoder *text, struct sso_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);
    if (fd < 0)
        return sso_fail_errno(err, errno == EEXIST ? SSO_ALREADY_EXISTS : SSO_CONFIG_ERROR, errno,
                              "the share %s cannot be written", path);
    ssize_t written = write(fd, text->data, text->length_bytes);
    bool good = written == (ssize_t)text->length_bytes && fsync(fd) == 0;
    int why = written < 0 ? errno : ENOSPC;
    close(fd);
    if (good)
        return SSO_OK;
    unlink(path);
    return sso_fail_errno(err, SSO_CONFIG_ERROR, why, "the share %s cannot be written", path);
}

enum sso_code shares_write(const char *folder, const struct share_occasion *occasion,
                           struct slip39_share *shares, struct sso_error *err)
{
    enum sso_code rc = SSO_OK;
    unsigned i = 0;
    for (; rc == SSO_OK && i < occasion->set->scheme.count; i++) {
        char path[PATH_MAX];
        ENCODER_AUTO text = {.locked = true};
        compose(occasion, &shares[i], &text);
        path_of(folder, occasion->set, i + 1, path);
        rc = text.failed ? sso_fail(err, SSO_NO_MEMORY, "no locked memory for a share")
                         : write_file(path, &text, err);
        OPENSSL_cleanse(&shares[i], sizeof shares[i]);
    }
    /* The file that failed is not ours, or is gone already. */
    for (unsigned j = 0; rc != SSO_OK && j + 1 < i; j++) {
        char path[PATH_MAX];
        path_of(folder, occasion->set, j + 1, path);
        unlink(path);
    }
    return rc;
}

void shares_remove(const char *folder, const struct share_set *set)
{
    for (unsigned i = 1; i <= set->scheme.count; i++) {
        char path[PATH_MAX];
        path_of(folder, set, i, path);
        unlink(path);
    }
}

/* --- reading --- */

/* Remarks and the numbers of words that somebody copied along become blanks. */
static void blank_out(char *text, size_t length)
{
    bool remark = false;
    for (size_t i = 0; i < length; i++) {
        if (i == 0 || text[i - 1] == '\n')
            remark = text[i] == '#';
        if (text[i] != '\n' && (remark || (text[i] >= '0' && text[i] <= '9') || text[i] == '.'))
            text[i] = ' ';
    }
}

static enum sso_code read_text(const char *path, char *text, size_t *length, struct sso_error *err)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the share %s cannot be read", path);
    enum sso_code rc = SSO_OK;
    ssize_t got = -1;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size > FILE_BYTES_MAX)
        rc = sso_fail(err, SSO_WRONG_SHARES, "%s is no file of a share", path);
    else if ((got = read(fd, text, FILE_BYTES_MAX)) < 0)
        rc = sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the share %s cannot be read", path);
    close(fd);
    *length = got > 0 ? (size_t)got : 0;
    return rc;
}

static enum sso_code read_share(const char *folder, const char *name, struct share_pile *out,
                                struct sso_error *err)
{
    char path[PATH_MAX];
    size_t length = 0;
    if (out->count == SHARES_GIVEN_MAX)
        return sso_fail(err, SSO_WRONG_SHARES, "%s holds more than %d shares", folder,
                        SHARES_GIVEN_MAX);
    char *text = secret_alloc(FILE_BYTES_MAX);
    struct slip39_mnemonic *mnemonic = secret_alloc(sizeof *mnemonic);
    enum sso_code rc = text != NULL && mnemonic != NULL
                           ? SSO_OK
                           : sso_fail(err, SSO_NO_MEMORY, "no locked memory for a share");
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(out->from[out->count], sizeof out->from[0], "the file %.60s", name);
    if (rc == SSO_OK)
        rc = read_text(path, text, &length, err);
    if (rc == SSO_OK) {
        blank_out(text, length);
        rc = slip39_text_read(text, length, mnemonic, err);
        if (rc == SSO_OK)
            rc = slip39_mnemonic_read(mnemonic, &out->share[out->count], err);
        if (rc != SSO_OK && err != NULL)
            sso_error_context(err, "%s", path);
    }
    out->count += rc == SSO_OK;
    secret_dealloc(mnemonic);
    secret_dealloc(text);
    return rc;
}

enum sso_code shares_read(const char *folder, struct share_pile *out, struct sso_error *err)
{
    struct dirent **names = NULL;
    int count = scandir(folder, &names, select_shares, alphasort);
    if (count < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the folder of shares %s", folder);
    enum sso_code rc = SSO_OK;
    for (int i = 0; i < count; i++) {
        if (rc == SSO_OK)
            rc = read_share(folder, names[i]->d_name, out, err);
        free(names[i]);
    }
    free(names);
    return rc;
}

/* --- removing --- */

bool share_file_remove(const char *path, const char *set_id)
{
    char wanted[SHARE_SET_ID_SIZE + 16];
    size_t length = 0;
    char *text = secret_alloc(FILE_BYTES_MAX + 1);
    snprintf(wanted, sizeof wanted, " share set %s of ", set_id);
    bool ours = text != NULL && read_text(path, text, &length, NULL) == SSO_OK &&
                (length == 0 || strstr(text, wanted) != NULL);
    secret_dealloc(text);
    return ours && unlink(path) == 0;
}
