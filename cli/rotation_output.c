#include "cli/rotation_output.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/output.h"

#define BAR_WIDTH 28

bool rotation_is_in_state(const json_t *status, const char *state)
{
    const char *is = json_string_value(json_object_get(status, "state"));
    return is != NULL && strcmp(is, state) == 0;
}

bool rotation_is_over(const json_t *status)
{
    return !rotation_is_in_state(status, "preparing") && !rotation_is_in_state(status, "running") &&
           !rotation_is_in_state(status, "paused");
}

static void print_quarantine(const json_t *entries)
{
    size_t i;
    const json_t *entry;
    if (json_is_array(entries) && json_array_size(entries) == 0)
        printf("quarantine  empty\n");
    json_array_foreach(entries, i, entry)
    {
        char room[MEMBER_ROOM], room2[MEMBER_ROOM], room3[MEMBER_ROOM];
        printf("quarantine  %s %s/", member_text(entry, "row", room),
               member_text(entry, "app", room2));
        output_clean(member_text(entry, "principal", room));
        printf(" generation %s, %s: ", member_text(entry, "generation", room2),
               member_text(entry, "code", room3));
        output_clean(member_text(entry, "reason", room));
        printf(" (%lld tries)\n", (long long)member_number(entry, "tries"));
    }
}

void rotation_print(const json_t *status)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    if (rotation_is_in_state(status, "none")) {
        printf("there never was a rotation\n");
    } else {
        printf("rotation %s to generation %s: %s", member_text(status, "id", room),
               member_text(status, "to", room2),
               json_string_value(json_object_get(status, "state")));
        if (rotation_is_in_state(status, "running") || rotation_is_in_state(status, "preparing"))
            printf(" (%s)", member_text(status, "phase", room));
        printf("%s\n", json_is_true(json_object_get(status, "dry_run")) ? ", dry run" : "");
        printf("rows        %lld of %lld done, %lld skipped, %lld failed",
               (long long)member_number(status, "done"), (long long)member_number(status, "total"),
               (long long)member_number(status, "skipped"),
               (long long)member_number(status, "failed"));
        printf(", %s rows/s, ETA %s s\n", member_text(status, "rows_per_second", room),
               member_text(status, "eta_seconds", room2));
        if (member_number(status, "rate") > 0)
            printf("rate        at most %lld rows/s\n", (long long)member_number(status, "rate"));
        printf("time        %s to %s\n", member_text(status, "started", room),
               member_text(status, "finished", room2));
        const char *error = json_string_value(json_object_get(status, "error"));
        if (error != NULL && error[0] != '\0')
            printf("error       %s\n", error);
    }
    print_quarantine(json_object_get(status, "quarantine"));
}

enum sso_code rotation_output(const struct cli *cli, const json_t *status, struct sso_error *err)
{
    if (cli->json)
        return output_json(status, err);
    rotation_print(status);
    return SSO_OK;
}

void progress_show(const json_t *status)
{
    if (isatty(STDERR_FILENO) != 1)
        return;
    static const char full[] = "############################";
    long long total = member_number(status, "total");
    long long over = member_number(status, "done") + member_number(status, "skipped") +
                     member_number(status, "failed");
    if (over > total)
        over = total;
    int bar = total > 0 ? (int)(over * BAR_WIDTH / total) : 0;
    char rate[MEMBER_ROOM], eta[MEMBER_ROOM], phase[MEMBER_ROOM];
    bool paused = rotation_is_in_state(status, "paused");
    fprintf(stderr, "\r[%-*.*s] %lld of %lld, %lld failed, %s rows/s, ETA %s s, %s\033[K",
            BAR_WIDTH, bar, full, (long long)member_number(status, "done"), total,
            (long long)member_number(status, "failed"),
            member_text(status, "rows_per_second", rate), member_text(status, "eta_seconds", eta),
            paused ? "paused" : member_text(status, "phase", phase));
}

void progress_end(void)
{
    if (isatty(STDERR_FILENO) == 1)
        fputc('\n', stderr);
}
