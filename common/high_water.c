#include "common/high_water.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/encode.h"

#define MAGIC "sso-hsm high-water 1\n"
#define MAGIC_BYTES (sizeof MAGIC - 1)
#define FILE_BYTES_MAX ((size_t)16 << 20)
#define GENERATIONS_KEPT_MAX 65536
#define HEADS_KEPT_MAX 4096

void high_water_free(struct high_water *marks)
{
    free(marks->generation);
    free(marks->head);
    *marks = (struct high_water){0};
}

const struct generation *high_water_generation(const struct high_water *marks, uint32_t number)
{
    for (size_t i = 0; i < marks->generation_count; i++)
        if (marks->generation[i].number == number)
            return &marks->generation[i];
    return NULL;
}

/* --- the file: magic, marks, SHA-256 over both --- */

static void put_generation(struct encoder *out, const struct generation *row)
{
    encode_u32(out, row->number);
    encode_fixed(out, row->secret_id, sizeof row->secret_id);
    encode_u8(out, (uint8_t)row->suite);
    encode_u8(out, (uint8_t)row->state);
    encode_u8(out, row->compromised);
    encode_u8(out, row->no_backup);
    encode_u8(out, row->closed);
    encode_u64(out, (uint64_t)row->created_ms);
    encode_u64(out, (uint64_t)row->backed_up_ms);
    encode_u64(out, (uint64_t)row->last_drill_ms);
    encode_u64(out, (uint64_t)row->retired_ms);
    encode_u64(out, (uint64_t)row->going_ms);
    encode_text(out, row->share_set);
    encode_u8(out, row->canary.wrapped.length_bytes);
    encode_fixed(out, row->canary.wrapped.bytes, sizeof row->canary.wrapped.bytes);
    encode_fixed(out, row->canary.mac, sizeof row->canary.mac);
    encode_u64(out, row->wraps);
    encode_u64(out, row->version);
    encode_fixed(out, row->tag, sizeof row->tag);
}

static void get_generation(struct decoder *in, struct generation *row)
{
    *row = (struct generation){.number = decode_u32(in)};
    decode_fixed(in, row->secret_id, sizeof row->secret_id);
    row->suite = (enum suite_id)decode_u8(in);
    row->state = (enum generation_state)decode_u8(in);
    row->compromised = decode_u8(in) != 0;
    row->no_backup = decode_u8(in) != 0;
    row->closed = decode_u8(in) != 0;
    row->created_ms = (int64_t)decode_u64(in);
    row->backed_up_ms = (int64_t)decode_u64(in);
    row->last_drill_ms = (int64_t)decode_u64(in);
    row->retired_ms = (int64_t)decode_u64(in);
    row->going_ms = (int64_t)decode_u64(in);
    decode_text(in, row->share_set, sizeof row->share_set);
    row->canary.wrapped.length_bytes = decode_u8(in);
    decode_fixed(in, row->canary.wrapped.bytes, sizeof row->canary.wrapped.bytes);
    decode_fixed(in, row->canary.mac, sizeof row->canary.mac);
    row->wraps = decode_u64(in);
    row->version = decode_u64(in);
    decode_fixed(in, row->tag, sizeof row->tag);
}

static void put_marks(struct encoder *out, const struct high_water *marks)
{
    uint8_t digest[DIGEST_BYTES];
    encode_fixed(out, MAGIC, MAGIC_BYTES);
    encode_fixed(out, marks->system_id, sizeof marks->system_id);
    encode_u32(out, marks->highest);
    encode_u64(out, marks->epoch);
    encode_u64(out, marks->revocation);
    encode_u32(out, (uint32_t)marks->generation_count);
    for (size_t i = 0; i < marks->generation_count; i++)
        put_generation(out, &marks->generation[i]);
    encode_u32(out, (uint32_t)marks->head_count);
    for (size_t i = 0; i < marks->head_count; i++) {
        encode_text(out, marks->head[i].node);
        encode_u64(out, marks->head[i].number);
        encode_fixed(out, marks->head[i].hash, sizeof marks->head[i].hash);
    }
    if (out->failed)
        return;
    digest_sha256(out->data, out->length_bytes, digest);
    encode_fixed(out, digest, sizeof digest);
}

/* False: damaged, or no memory. */
static bool get_marks(const uint8_t *bytes, size_t count, struct high_water *out)
{
    uint8_t digest[DIGEST_BYTES];
    if (count < MAGIC_BYTES + DIGEST_BYTES || memcmp(bytes, MAGIC, MAGIC_BYTES) != 0)
        return false;
    count -= DIGEST_BYTES;
    digest_sha256(bytes, count, digest);
    if (memcmp(digest, bytes + count, DIGEST_BYTES) != 0)
        return false;
    struct decoder in = {.next = bytes + MAGIC_BYTES, .left_bytes = count - MAGIC_BYTES};
    decode_fixed(&in, out->system_id, sizeof out->system_id);
    out->highest = decode_u32(&in);
    out->epoch = decode_u64(&in);
    out->revocation = decode_u64(&in);
    out->generation_count = decode_u32(&in);
    if (in.failed || out->generation_count > GENERATIONS_KEPT_MAX ||
        (out->generation = calloc(out->generation_count + 1, sizeof *out->generation)) == NULL)
        return false;
    for (size_t i = 0; i < out->generation_count; i++)
        get_generation(&in, &out->generation[i]);
    out->head_count = decode_u32(&in);
    if (in.failed || out->head_count > HEADS_KEPT_MAX ||
        (out->head = calloc(out->head_count + 1, sizeof *out->head)) == NULL)
        return false;
    for (size_t i = 0; i < out->head_count; i++) {
        decode_text(&in, out->head[i].node, sizeof out->head[i].node);
        out->head[i].number = decode_u64(&in);
        decode_fixed(&in, out->head[i].hash, sizeof out->head[i].hash);
    }
    return decode_end(&in, "high-water marks", NULL) == SSO_OK;
}

static enum sso_code unreadable(const char *path, const char *why, struct sso_error *err)
{
    return sso_fail(err, SSO_DATABASE_WENT_BACK,
                    "the file of this node's high-water marks, %s, %s: nobody can tell whether the "
                    "database is older than it was; see to who changed that file, then sso-hsm db "
                    "accept-restore writes it anew",
                    path, why);
}

enum sso_code high_water_read(const char *state_directory, struct high_water *out,
                              struct sso_error *err)
{
    char *path = NULL;
    *out = (struct high_water){0};
    if (asprintf(&path, "%s/" HIGH_WATER_FILE, state_directory) < 0)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a path");
    FILE *file = fopen(path, "re");
    int why = errno;
    struct stat facts = {0};
    bool readable = file != NULL && fstat(fileno(file), &facts) == 0 && facts.st_size >= 0 &&
                    (size_t)facts.st_size <= FILE_BYTES_MAX;
    uint8_t *bytes = readable ? malloc((size_t)facts.st_size + 1) : NULL;
    size_t count = bytes != NULL ? fread(bytes, 1, (size_t)facts.st_size, file) : 0;
    enum sso_code rc = SSO_OK;
    if (file == NULL && why == ENOENT)
        rc = sso_fail(err, SSO_NOT_FOUND, "this node has no high-water marks");
    else if (file == NULL)
        rc = unreadable(path, strerror(why), err);
    else if (!readable)
        rc = unreadable(path, "is no such file", err);
    else if (bytes == NULL)
        rc = sso_fail(err, SSO_NO_MEMORY, "no memory for the high-water marks");
    else if (!get_marks(bytes, count, out))
        rc = unreadable(path, "is damaged", err);
    if (rc != SSO_OK)
        high_water_free(out);
    if (file != NULL)
        fclose(file);
    free(bytes);
    free(path);
    return rc;
}

static bool write_draft(const char *draft, const struct encoder *bytes)
{
    int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    bool ok = write(fd, bytes->data, bytes->length_bytes) == (ssize_t)bytes->length_bytes &&
              fsync(fd) == 0;
    return close(fd) == 0 && ok;
}

static void make_durable(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!fsync(fd);
        close(fd);
    }
}

/* With the lock held. */
static enum sso_code write_file(const char *state_directory, const struct high_water *marks,
                                struct sso_error *err)
{
    ENCODER_AUTO bytes = {0};
    char *path = NULL, *draft = NULL;
    put_marks(&bytes, marks);
    bool ok = !bytes.failed && asprintf(&path, "%s/" HIGH_WATER_FILE, state_directory) >= 0 &&
              asprintf(&draft, "%s.new", path) >= 0 && write_draft(draft, &bytes) &&
              rename(draft, path) == 0;
    int why = bytes.failed ? ENOMEM : errno;
    if (ok)
        make_durable(state_directory);
    else if (draft != NULL)
        unlink(draft);
    free(draft);
    free(path);
    return ok ? SSO_OK
              : sso_fail_errno(err, SSO_CONFIG_ERROR, why,
                               "the high-water marks in %s are not written", state_directory);
}

/* The service and direct commands of a node write the file. -1: no lock. */
static int take_lock(const char *state_directory)
{
    char *path = NULL;
    if (asprintf(&path, "%s/" HIGH_WATER_FILE ".lock", state_directory) < 0)
        return -1;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    free(path);
    if (fd >= 0 && flock(fd, LOCK_EX) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* --- raising --- */

static bool raise_generation(struct high_water *marks, const struct generation *seen, bool *failed)
{
    struct generation *mark = NULL;
    for (size_t i = 0; i < marks->generation_count && mark == NULL; i++)
        if (marks->generation[i].number == seen->number)
            mark = &marks->generation[i];
    if (mark == NULL && seen->version == 0)
        return false;
    if (mark == NULL) {
        struct generation *grown =
            reallocarray(marks->generation, marks->generation_count + 1, sizeof *grown);
        *failed = *failed || grown == NULL;
        if (grown == NULL)
            return false;
        marks->generation = grown;
        grown[marks->generation_count++] = *seen;
        return true;
    }
    uint64_t wraps = mark->wraps > seen->wraps ? mark->wraps : seen->wraps;
    bool news = seen->version > mark->version || wraps > mark->wraps;
    if (seen->version > mark->version)
        *mark = *seen;
    mark->wraps = wraps;
    return news;
}

static bool raise_head(struct high_water *marks, const struct audit_head *seen, bool *failed)
{
    for (size_t i = 0; i < marks->head_count; i++) {
        struct audit_head *mark = &marks->head[i];
        if (strcmp(mark->node, seen->node) != 0)
            continue;
        if (seen->number <= mark->number)
            return false;
        *mark = *seen;
        return true;
    }
    struct audit_head *grown = reallocarray(marks->head, marks->head_count + 1, sizeof *grown);
    *failed = *failed || grown == NULL;
    if (grown == NULL)
        return false;
    marks->head = grown;
    grown[marks->head_count++] = *seen;
    return true;
}

static enum sso_code merge(struct high_water *marks, const struct high_water *seen, bool *news,
                           struct sso_error *err)
{
    bool failed = false;
    *news = seen->highest > marks->highest || seen->epoch > marks->epoch ||
            seen->revocation > marks->revocation;
    if (seen->highest > marks->highest)
        marks->highest = seen->highest;
    if (seen->epoch > marks->epoch)
        marks->epoch = seen->epoch;
    if (seen->revocation > marks->revocation)
        marks->revocation = seen->revocation;
    for (size_t i = 0; i < seen->generation_count; i++)
        *news = raise_generation(marks, &seen->generation[i], &failed) || *news;
    for (size_t i = 0; i < seen->head_count; i++)
        *news = raise_head(marks, &seen->head[i], &failed) || *news;
    return failed ? sso_fail(err, SSO_NO_MEMORY, "no memory for the high-water marks") : SSO_OK;
}

enum sso_code high_water_raise(const char *state_directory, const struct high_water *seen,
                               struct sso_error *err)
{
    HIGH_WATER_AUTO marks = {0};
    struct sso_error none = {0};
    bool news = true;
    int lock = take_lock(state_directory);
    if (lock < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the high-water marks in %s",
                              state_directory);
    enum sso_code rc = high_water_read(state_directory, &marks, &none);
    if (rc == SSO_NOT_FOUND) {
        memcpy(marks.system_id, seen->system_id, SYSTEM_ID_BYTES);
        rc = SSO_OK;
    } else if (rc != SSO_OK) {
        rc = sso_fail(err, rc, "%s", none.detail);
    } else if (memcmp(marks.system_id, seen->system_id, SYSTEM_ID_BYTES) != 0) {
        rc = sso_fail(err, SSO_DATABASE_OF_OTHER_SYSTEM,
                      "the high-water marks in %s are of another system", state_directory);
    }
    if (rc == SSO_OK)
        rc = merge(&marks, seen, &news, err);
    if (rc == SSO_OK && news)
        rc = write_file(state_directory, &marks, err);
    close(lock);
    return rc;
}

static void put_aside(const char *state_directory, const struct high_water *old)
{
    char id[2 * SYSTEM_ID_BYTES + 1];
    char *path = NULL, *aside = NULL;
    hex_encode(old->system_id, SYSTEM_ID_BYTES, id);
    if (asprintf(&path, "%s/" HIGH_WATER_FILE, state_directory) >= 0 &&
        asprintf(&aside, "%s.%s", path, id) >= 0)
        (void)!rename(path, aside);
    free(path);
    free(aside);
}

enum sso_code high_water_replace(const char *state_directory, const struct high_water *marks,
                                 struct sso_error *err)
{
    HIGH_WATER_AUTO old = {0};
    int lock = take_lock(state_directory);
    if (lock < 0)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the high-water marks in %s",
                              state_directory);
    if (high_water_read(state_directory, &old, NULL) == SSO_OK &&
        memcmp(old.system_id, marks->system_id, SYSTEM_ID_BYTES) != 0)
        put_aside(state_directory, &old);
    enum sso_code rc = write_file(state_directory, marks, err);
    close(lock);
    return rc;
}

/* --- comparing --- */

static enum sso_code below(struct sso_error *err, const char *what, unsigned long long mark,
                           unsigned long long now)
{
    return sso_fail(err, SSO_DATABASE_WENT_BACK,
                    "the database is older than what this node has seen: %s was %llu, here it is "
                    "%llu; put the right one back, or accept this one with sso-hsm db "
                    "accept-restore",
                    what, mark, now);
}

static enum sso_code compare_generation(const struct generation *mark, const struct generation *now,
                                        struct sso_error *err)
{
    char what[64];
    if (now == NULL) {
        snprintf(what, sizeof what, "the row version of generation %u", mark->number);
        return below(err, what, mark->version, 0);
    }
    if (now->state == 0)
        return SSO_OK; /* damaged: told otherwise */
    if (memcmp(now->secret_id, mark->secret_id, SECRET_ID_BYTES) != 0)
        return sso_fail(err, SSO_DATABASE_WENT_BACK,
                        "generation %u of the database is another key than the one that this node "
                        "has seen: put the right database back, or accept this one with sso-hsm "
                        "db accept-restore",
                        mark->number);
    if (now->version < mark->version) {
        snprintf(what, sizeof what, "the row version of generation %u", mark->number);
        return below(err, what, mark->version, now->version);
    }
    if (now->wraps < mark->wraps) {
        snprintf(what, sizeof what, "the count of wraps of generation %u", mark->number);
        return below(err, what, mark->wraps, now->wraps);
    }
    return SSO_OK;
}

enum sso_code high_water_compare(const struct high_water *marks, const struct high_water *now,
                                 struct sso_error *err)
{
    if (memcmp(marks->system_id, now->system_id, SYSTEM_ID_BYTES) != 0)
        return sso_fail(err, SSO_DATABASE_OF_OTHER_SYSTEM,
                        "the database is that of another system than the one that this node has "
                        "worked with: put the right one back, or give the node another [system] "
                        "state_directory");
    if (now->highest < marks->highest)
        return below(err, "the highest number of a generation", marks->highest, now->highest);
    if (now->epoch < marks->epoch)
        return below(err, "the epoch of the master lease", marks->epoch, now->epoch);
    if (now->revocation < marks->revocation)
        return below(err, "the number of revocations", marks->revocation, now->revocation);
    enum sso_code rc = SSO_OK;
    for (size_t i = 0; rc == SSO_OK && i < marks->generation_count; i++)
        rc = compare_generation(&marks->generation[i],
                                high_water_generation(now, marks->generation[i].number), err);
    return rc;
}
