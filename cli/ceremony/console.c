/* What the person at the console did, in the audit chain of this node. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ceremony/installation.h"
#include "common/clock.h"
#include "common/encode.h"
#include "common/row.h"

enum sso_code console_record(const struct ceremony *ceremony, const char *operation,
                             const char *target, struct audit_record *out, struct sso_error *err)
{
    *out = (struct audit_record){.time_ms = wall_clock_ms()};
    snprintf(out->node, sizeof out->node, "%s", ceremony->config->cluster.node);
    snprintf(out->actor, sizeof out->actor, "%s", ceremony->person.name);
    snprintf(out->how, sizeof out->how, "console");
    snprintf(out->operation, sizeof out->operation, "%s", operation);
    snprintf(out->target, sizeof out->target, "%s", target);
    snprintf(out->outcome, sizeof out->outcome, "ok");
    return random_bytes(out->request_id, sizeof out->request_id, err);
}

void console_warn(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "sso-hsm: warning: %s\n", text);
}

void console_hold_signals(void)
{
    static const int held[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++)
        signal(held[i], SIG_IGN);
}

static uint64_t kept_number(const char *path)
{
    unsigned long long number = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

static bool write_head(const char *path, const struct audit_record *last)
{
    char hash[2 * AUDIT_HASH_BYTES + 1], *draft = NULL;
    if (asprintf(&draft, "%s.XXXXXX", path) < 0)
        return false;
    int fd = mkostemp(draft, O_CLOEXEC);
    bool ok = fd >= 0;
    hex_encode(last->hash, sizeof last->hash, hash);
    if (ok) {
        ok = dprintf(fd, "%llu %s\n", (unsigned long long)last->number, hash) > 0;
        ok = fsync(fd) == 0 && ok;
        ok = close(fd) == 0 && ok;
        ok = ok && rename(draft, path) == 0;
        if (!ok)
            unlink(draft);
    }
    free(draft);
    return ok;
}

void console_keep_head(const struct ceremony *ceremony, const struct audit_record *last, bool first)
{
    char *path = NULL;
    if (asprintf(&path, "%s/audit-head", ceremony->config->system.state_directory) < 0)
        return;
    if ((first || kept_number(path) < last->number) && !write_head(path, last))
        console_warn("the audit head %s was not written: a cut tail may go unseen", path);
    free(path);
}
