#include "pkcs11/pin_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"

#define STAMP_HEAD "sso-hsm pin stamp 1"
#define NAME_SIZE (2 * DIGEST_BYTES + 1)

enum stamp_state { STAMP_NONE, STAMP_TRYING, STAMP_REFUSED };

struct stamp {
    enum stamp_state state;
    unsigned tries; /* begun and never finished */
    struct pin_source_facts source;
};

enum sso_code pin_guard_init(struct pin_guard *guard, const char *state_directory,
                             struct sso_error *err)
{
    *guard = (struct pin_guard){.lock = -1};
    if (state_directory == NULL || state_directory[0] == '\0')
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "[system] state_directory is not set: it keeps count of PIN tries");
    if (asprintf(&guard->folder, "%s/pin-guard", state_directory) < 0) {
        guard->folder = NULL;
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the PIN guard");
    }
    if (mkdir(guard->folder, 0700) != 0 && errno != EEXIST)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "making %s", guard->folder);
    return SSO_OK;
}

void pin_guard_free(struct pin_guard *guard)
{
    free(guard->folder);
    guard->folder = NULL;
}

/* One name for each token; its own texts may hold anything. */
static void path_of(const struct pin_guard *guard, const struct token_identity *token,
                    const char *suffix, char out[static PATH_MAX])
{
    char uri[TOKEN_URI_SIZE], name[NAME_SIZE];
    uint8_t digest[DIGEST_BYTES];
    token_identity_uri(token, uri);
    digest_sha256(uri, strlen(uri), digest);
    hex_encode(digest, 16, name);
    snprintf(out, PATH_MAX, "%s/%s%s", guard->folder, name, suffix);
}

static bool same_source(const struct pin_source_facts *a, const struct pin_source_facts *b)
{
    return strcmp(a->source, b->source) == 0 && a->device == b->device && a->inode == b->inode &&
           a->size_bytes == b->size_bytes && a->modified_ns == b->modified_ns;
}

/* A stamp that cannot be read counts as a refusal: the safe side. */
static enum sso_code stamp_read(const char *path, const struct pin_source_facts *now,
                                struct stamp *out, struct sso_error *err)
{
    *out = (struct stamp){.state = STAMP_NONE};
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return errno == ENOENT ? SSO_OK
                               : sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "reading %s", path);
    char state[16] = "", line[sizeof out->source + 1] = "";
    struct pin_source_facts *source = &out->source;
    int fields = fscanf(file,
                        STAMP_HEAD "\nstate %15s\ntries %u\ndevice %" SCNu64 "\ninode %" SCNu64
                                   "\nsize %" SCNu64 "\nmodified %" SCNd64 "\nsource ",
                        state, &out->tries, &source->device, &source->inode, &source->size_bytes,
                        &source->modified_ns);
    if (fields == 6 && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        memcpy(source->source, line, sizeof source->source);
        out->state = strcmp(state, "trying") == 0 ? STAMP_TRYING : STAMP_REFUSED;
    } else {
        out->state = STAMP_REFUSED;
        out->source = *now;
    }
    fclose(file);
    return SSO_OK;
}

static bool sync_folder(const struct pin_guard *guard)
{
    int fd = open(guard->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return done;
}

static enum sso_code stamp_write(const struct pin_guard *guard, const char *path,
                                 const struct stamp *stamp, struct sso_error *err)
{
    char temporary[PATH_MAX];
    const struct pin_source_facts *source = &stamp->source;
    if (snprintf(temporary, sizeof temporary, "%s.new", path) >= (int)sizeof temporary)
        return sso_fail(err, SSO_CONFIG_ERROR, "the path %s is too long", path);
    FILE *file = fopen(temporary, "we");
    if (file == NULL)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "writing %s", temporary);
    fprintf(file,
            STAMP_HEAD "\nstate %s\ntries %u\ndevice %" PRIu64 "\ninode %" PRIu64 "\nsize %" PRIu64
                       "\nmodified %" PRId64 "\nsource %s\n",
            stamp->state == STAMP_TRYING ? "trying" : "refused", stamp->tries, source->device,
            source->inode, source->size_bytes, source->modified_ns, source->source);
    bool done = fflush(file) == 0 && fsync(fileno(file)) == 0;
    done = fclose(file) == 0 && done && rename(temporary, path) == 0 && sync_folder(guard);
    return done ? SSO_OK
                : sso_fail_errno(err, SSO_CONFIG_ERROR, errno,
                                 "writing %s, without which no PIN is tried", path);
}

static enum sso_code judge(const struct pin_guard *guard, const struct hello_reply *token,
                           struct stamp *stamp, struct sso_error *err)
{
    const char *name = token->token.token, *source = token->pin.source;
    if (token->pin_locked || token->pin_final_try)
        return sso_fail(err, SSO_PIN_REFUSED,
                        "token \"%s\" %s: no PIN is tried; let its security officer set the PIN "
                        "anew",
                        name, token->pin_locked ? "has locked its PIN" : "has one PIN try left");
    if (guard->forgiving || !same_source(&stamp->source, &token->pin))
        *stamp = (struct stamp){.state = STAMP_NONE};
    if (stamp->state == STAMP_REFUSED)
        return sso_fail(err, SSO_PIN_REFUSED,
                        "token \"%s\" refused the PIN from %s before; it is not tried again until "
                        "that source changes or after sso-hsm pin reset",
                        name, source);
    if (stamp->state == STAMP_TRYING && !same_source(&guard->proven, &token->pin) &&
        (stamp->tries > 1 || token->pin_count_low))
        return sso_fail(err, SSO_PIN_REFUSED,
                        "a login to token \"%s\" with the PIN from %s was interrupted %u time(s), "
                        "so nobody knows how many tries are left; check the token, then sso-hsm "
                        "pin reset",
                        name, source, stamp->tries);
    return SSO_OK;
}

static void unlock(struct pin_guard *guard)
{
    if (guard->lock >= 0)
        close(guard->lock);
    guard->lock = -1;
}

enum sso_code pin_guard_enter(struct pin_guard *guard, const struct hello_reply *token,
                              struct sso_error *err)
{
    char path[PATH_MAX];
    struct stamp stamp;
    if (token->pin.source[0] == '\0')
        return SSO_OK;
    path_of(guard, &token->token, ".lock", path);
    guard->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (guard->lock < 0 || flock(guard->lock, LOCK_EX) != 0) {
        int why = errno;
        unlock(guard);
        return sso_fail_errno(err, SSO_CONFIG_ERROR, why, "locking %s", path);
    }
    path_of(guard, &token->token, ".stamp", path);
    enum sso_code code = stamp_read(path, &token->pin, &stamp, err);
    if (code == SSO_OK)
        code = judge(guard, token, &stamp, err);
    if (code == SSO_OK) {
        stamp.state = STAMP_TRYING;
        stamp.tries++;
        stamp.source = token->pin;
        code = stamp_write(guard, path, &stamp, err);
    }
    if (code != SSO_OK)
        unlock(guard);
    else
        guard->forgiving = false;
    return code;
}

void pin_guard_leave(struct pin_guard *guard, const struct hello_reply *token,
                     enum pin_outcome outcome)
{
    char path[PATH_MAX];
    struct stamp refused = {.state = STAMP_REFUSED, .source = token->pin};
    if (token->pin.source[0] == '\0')
        return;
    path_of(guard, &token->token, ".stamp", path);
    switch (outcome) {
    case PIN_WORKED:
        guard->proven = token->pin;
        (void)unlink(path);
        break;
    case PIN_NOT_TRIED:
        (void)unlink(path);
        break;
    case PIN_WAS_REFUSED:
        /* Where this fails the stamp of the try still stands: one more try at most. */
        guard->proven = (struct pin_source_facts){0};
        (void)!stamp_write(guard, path, &refused, NULL);
        break;
    case PIN_UNKNOWN:
        break;
    }
    unlock(guard);
}

enum sso_code pin_guard_reset(struct pin_guard *guard, const struct token_identity *token,
                              struct sso_error *err)
{
    char path[PATH_MAX];
    path_of(guard, token, ".stamp", path);
    if (unlink(path) != 0 && errno != ENOENT)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "removing %s", path);
    return SSO_OK;
}
