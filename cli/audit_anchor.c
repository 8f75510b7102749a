#include "cli/audit_anchor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/encode.h"

#define LINE_SIZE 256

static bool parse_number(const char *text, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && errno == 0 && *end == '\0';
}

static bool parse_head(const char *node, const char *number, const char *hash,
                       struct audit_anchor *out)
{
    if (out->head_count == ANCHOR_HEADS_MAX || strlen(node) >= sizeof out->head[0].node)
        return false;
    struct audit_head *head = &out->head[out->head_count++];
    snprintf(head->node, sizeof head->node, "%s", node);
    return parse_number(number, &head->number) && hex_decode(hash, head->hash, sizeof head->hash);
}

/* Cuts the line. */
static bool parse_line(char *line, const char *own_node, struct audit_anchor *out)
{
    char *word[4], *save = NULL;
    size_t count = 0;
    for (char *next = strtok_r(line, " \t\r\n", &save); next != NULL && count < 4;
         next = strtok_r(NULL, " \t\r\n", &save))
        word[count++] = next;
    if (count == 0 || word[0][0] == '#')
        return true;
    if (count == 2 && strcmp(word[0], "key") == 0)
        return out->key_count < ANCHOR_KEYS_MAX &&
               hex_decode(word[1], out->key[out->key_count++], AUDIT_DIGEST_BYTES);
    if (count == 2)
        return parse_head(own_node, word[0], word[1], out);
    return count == 3 && parse_head(word[0], word[1], word[2], out);
}

enum sso_code audit_anchor_read(const char *path, const char *own_node, struct audit_anchor *out,
                                struct sso_error *err)
{
    char line[LINE_SIZE];
    unsigned number = 0;
    enum sso_code rc = SSO_OK;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "the anchor %s", path);
    while (rc == SSO_OK && fgets(line, sizeof line, file) != NULL) {
        bool whole = strchr(line, '\n') != NULL || feof(file);
        number++;
        if (!whole || !parse_line(line, own_node, out))
            rc = sso_fail(err, SSO_CONFIG_ERROR,
                          "%s, line %u: expected NODE NUMBER HASH, NUMBER HASH or key FINGERPRINT",
                          path, number);
    }
    if (rc == SSO_OK && ferror(file))
        rc = sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "reading the anchor %s", path);
    fclose(file);
    return rc;
}

enum sso_code audit_anchor_write(const char *path, const struct audit_anchor *anchor,
                                 struct sso_error *err)
{
    char hex[2 * AUDIT_HASH_BYTES + 1];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0 && errno == EEXIST)
        return sso_fail(err, SSO_ALREADY_EXISTS, "%s is there already: it is not replaced", path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL) {
        int why = errno;
        if (fd >= 0)
            close(fd);
        return sso_fail_errno(err, SSO_CONFIG_ERROR, why, "the new anchor %s", path);
    }
    for (size_t i = 0; i < anchor->head_count; i++) {
        hex_encode(anchor->head[i].hash, AUDIT_HASH_BYTES, hex);
        fprintf(file, "%s %llu %s\n", anchor->head[i].node,
                (unsigned long long)anchor->head[i].number, hex);
    }
    for (size_t i = 0; i < anchor->key_count; i++) {
        hex_encode(anchor->key[i], AUDIT_DIGEST_BYTES, hex);
        fprintf(file, "key %s\n", hex);
    }
    bool done = fflush(file) == 0 && fsync(fileno(file)) == 0;
    done = fclose(file) == 0 && done;
    return done ? SSO_OK
                : sso_fail_errno(err, SSO_CONFIG_ERROR, errno, "writing the new anchor %s", path);
}
