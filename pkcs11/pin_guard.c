#include "pkcs11/pin_guard.h"

#include <dirent.h>
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

/* As they stand in the file. */
static const char *const state_names[] = {
    [PIN_STAMP_NONE] = "none",         [PIN_STAMP_TRYING] = "trying",
    [PIN_STAMP_DOUBTFUL] = "doubtful", [PIN_STAMP_REFUSED] = "refused",
    [PIN_STAMP_HELD] = "held",
};
#define STATES (sizeof state_names / sizeof state_names[0])

enum sso_code pin_guard_init(struct pin_guard *guard, const char *state_directory,
                             const struct pin_board *board, struct sso_error *err)
{
    *guard = (struct pin_guard){.lock = -1, .board = board};
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

static void name_of(const char *text, char out[static NAME_SIZE])
{
    uint8_t digest[DIGEST_BYTES];
    digest_sha256(text, strlen(text), digest);
    hex_encode(digest, 16, out);
}

/* One name for each token; its own texts may hold anything. */
static void token_name(const struct token_identity *token, char out[static NAME_SIZE])
{
    char uri[TOKEN_URI_SIZE];
    token_identity_uri(token, uri);
    name_of(uri, out);
}

static void lock_path(const struct pin_guard *guard, const struct token_identity *token,
                      char out[static PATH_MAX])
{
    char name[NAME_SIZE];
    token_name(token, name);
    snprintf(out, PATH_MAX, "%s/%s.lock", guard->folder, name);
}

static void stamp_path(const struct pin_guard *guard, const struct hello_reply *token,
                       char out[static PATH_MAX])
{
    char name[NAME_SIZE], source[NAME_SIZE];
    token_name(&token->token, name);
    name_of(token->pin.source, source);
    snprintf(out, PATH_MAX, "%s/%s-%s.stamp", guard->folder, name, source);
}

/* What is not known counts as a refusal: the safe side. */
static enum pin_stamp_state state_named(const char *name)
{
    for (size_t i = 1; i < STATES; i++)
        if (strcmp(state_names[i], name) == 0)
            return (enum pin_stamp_state)i;
    return PIN_STAMP_REFUSED;
}

/* A stamp that cannot be read counts as a refusal too. */
static enum sso_code stamp_read(const char *path, const struct pin_source_facts *now,
                                struct pin_stamp *out, struct sso_error *err)
{
    *out = (struct pin_stamp){.state = PIN_STAMP_NONE};
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
        out->state = state_named(state);
    } else {
        out->state = PIN_STAMP_REFUSED;
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
                                 const struct pin_stamp *stamp, struct sso_error *err)
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
            state_names[stamp->state], stamp->tries, source->device, source->inode,
            source->size_bytes, source->modified_ns, source->source);
    bool done = fflush(file) == 0 && fsync(fileno(file)) == 0;
    done = fclose(file) == 0 && done && rename(temporary, path) == 0 && sync_folder(guard);
    return done ? SSO_OK
                : sso_fail_errno(err, SSO_CONFIG_ERROR, errno,
                                 "writing %s, without which no PIN is tried", path);
}

static enum sso_code refuse(const struct pin_guard *guard, const struct hello_reply *token,
                            const struct pin_stamp *stamp, struct sso_error *err)
{
    const char *name = token->token.token, *source = token->pin.source;
    bool proven = pin_source_same(&guard->proven, &token->pin);
    if (stamp->state == PIN_STAMP_REFUSED)
        return sso_fail(err, SSO_PIN_REFUSED,
                        "token \"%s\" refused the PIN from %s before; it is not tried again until "
                        "that source changes or after sso-hsm pin reset",
                        name, source);
    if (stamp->state == PIN_STAMP_TRYING && (token->pin_count_low || (stamp->tries > 1 && !proven)))
        return sso_fail(err, SSO_PIN_REFUSED,
                        "a login to token \"%s\" with the PIN from %s was interrupted %u time(s), "
                        "so nobody knows how many tries are left; check the token, then sso-hsm "
                        "pin reset",
                        name, source, stamp->tries);
    if (stamp->state == PIN_STAMP_DOUBTFUL && token->pin_count_low)
        return sso_fail(err, SSO_PIN_REFUSED,
                        "a login to token \"%s\" with the PIN from %s failed, and the token shows "
                        "that a PIN was wrong; check the token, then sso-hsm pin reset",
                        name, source);
    return SSO_OK;
}

/* What other nodes know: a token that refused one of them is not tried before our own source has
 * changed. `stamp` is the one of our source as it is, `news`: it has changed since the last one. */
static enum sso_code ask_board(const struct pin_guard *guard, const struct hello_reply *token,
                               const char *path, const struct pin_stamp *stamp, bool news,
                               struct sso_error *err)
{
    char node[PIN_BOARD_NODE_SIZE] = "another node";
    enum pin_board_answer answer = PIN_BOARD_UNKNOWN;
    if (guard->board != NULL)
        answer = guard->board->ask(guard->board->context, &token->token, node);
    bool held = stamp->state == PIN_STAMP_HELD;
    if (news || answer == PIN_BOARD_CLEAR || (answer == PIN_BOARD_UNKNOWN && !held))
        return SSO_OK;
    const struct pin_stamp hold = {.state = PIN_STAMP_HELD, .source = token->pin};
    enum sso_code code = held ? SSO_OK : stamp_write(guard, path, &hold, err);
    if (code != SSO_OK)
        return code;
    return sso_fail(err, SSO_PIN_REFUSED,
                    "token \"%s\" refused the PIN of %s; the PIN from %s is not tried until that "
                    "source changes, a PIN is accepted elsewhere, or after sso-hsm pin reset",
                    token->token.token, node, token->pin.source);
}

/* May it be tried? *stamp becomes what the stamp of this try is to go on from. */
static enum sso_code judge(const struct pin_guard *guard, const struct hello_reply *token,
                           const char *path, struct pin_stamp *stamp, struct sso_error *err)
{
    if (token->pin_locked || token->pin_final_try)
        return sso_fail(err, SSO_PIN_REFUSED,
                        "token \"%s\" %s: no PIN is tried; let its security officer set the PIN "
                        "anew",
                        token->token.token,
                        token->pin_locked ? "has locked its PIN" : "has one PIN try left");
    bool news = stamp->state != PIN_STAMP_NONE && !pin_source_same(&stamp->source, &token->pin);
    if (guard->forgiving || news)
        *stamp = (struct pin_stamp){.state = PIN_STAMP_NONE};
    enum sso_code code = refuse(guard, token, stamp, err);
    if (code == SSO_OK && !guard->forgiving)
        code = ask_board(guard, token, path, stamp, news, err);
    return code;
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
    struct pin_stamp stamp;
    if (token->pin.source[0] == '\0')
        return SSO_OK;
    lock_path(guard, &token->token, path);
    guard->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (guard->lock < 0 || flock(guard->lock, LOCK_EX) != 0) {
        int why = errno;
        unlock(guard);
        return sso_fail_errno(err, SSO_CONFIG_ERROR, why, "locking %s", path);
    }
    stamp_path(guard, token, path);
    enum sso_code code = stamp_read(path, &token->pin, &stamp, err);
    guard->before = stamp;
    if (code == SSO_OK)
        code = judge(guard, token, path, &stamp, err);
    if (code == SSO_OK) {
        stamp.tries = stamp.state == PIN_STAMP_TRYING ? stamp.tries + 1 : 1;
        stamp.state = PIN_STAMP_TRYING;
        stamp.source = token->pin;
        code = stamp_write(guard, path, &stamp, err);
    }
    if (code != SSO_OK)
        unlock(guard);
    else
        guard->forgiving = false;
    return code;
}

/* Where this fails the stamp of the try still stands: one more try at most. */
static void turn_stamp(const struct pin_guard *guard, const char *path,
                       const struct hello_reply *token, enum pin_stamp_state state)
{
    const struct pin_stamp stamp = {.state = state, .source = token->pin};
    (void)!stamp_write(guard, path, &stamp, NULL);
}

static void tell_board(const struct pin_guard *guard, const struct token_identity *token,
                       bool refused)
{
    if (guard->board != NULL)
        guard->board->tell(guard->board->context, token, refused);
}

void pin_guard_leave(struct pin_guard *guard, const struct hello_reply *token,
                     enum pin_outcome outcome)
{
    char path[PATH_MAX];
    if (token->pin.source[0] == '\0')
        return;
    stamp_path(guard, token, path);
    switch (outcome) {
    case PIN_WORKED:
        guard->proven = token->pin;
        (void)unlink(path);
        tell_board(guard, &token->token, false);
        break;
    case PIN_NOT_TRIED:
        if (guard->before.state == PIN_STAMP_NONE)
            (void)unlink(path);
        else
            (void)!stamp_write(guard, path, &guard->before, NULL);
        break;
    case PIN_WAS_REFUSED:
        guard->proven = (struct pin_source_facts){0};
        turn_stamp(guard, path, token, PIN_STAMP_REFUSED);
        tell_board(guard, &token->token, true);
        break;
    case PIN_DOUBTFUL:
        turn_stamp(guard, path, token, PIN_STAMP_DOUBTFUL);
        break;
    case PIN_UNKNOWN:
        break;
    }
    unlock(guard);
}

enum sso_code pin_guard_reset(struct pin_guard *guard, const struct token_identity *token,
                              struct sso_error *err)
{
    char name[NAME_SIZE];
    enum sso_code code = SSO_OK;
    token_name(token, name);
    DIR *folder = opendir(guard->folder);
    if (folder == NULL)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "reading %s", guard->folder);
    for (struct dirent *entry; code == SSO_OK && (entry = readdir(folder)) != NULL;) {
        if (strncmp(entry->d_name, name, strlen(name)) == 0 && entry->d_name[strlen(name)] == '-' &&
            unlinkat(dirfd(folder), entry->d_name, 0) != 0 && errno != ENOENT)
            code = sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "removing %s/%s", guard->folder,
                                  entry->d_name);
    }
    closedir(folder);
    if (code == SSO_OK)
        tell_board(guard, token, false);
    return code;
}
