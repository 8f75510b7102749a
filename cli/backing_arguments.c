#include "cli/backing_arguments.h"

#include <stdio.h>
#include <string.h>

#include "cli/output.h"

enum sso_code scheme_parse(const char *text, struct slip39_scheme *out, struct sso_error *err)
{
    unsigned threshold = 0, count = 0;
    char again[16];
    if (sscanf(text, "%2u/%2u", &threshold, &count) != 2)
        threshold = count = 0;
    *out = (struct slip39_scheme){.threshold = (uint8_t)threshold, .count = (uint8_t)count};
    snprintf(again, sizeof again, "%u/%u", threshold, count);
    if (strcmp(again, text) != 0)
        *out = (struct slip39_scheme){0};
    return slip39_scheme_check(out, err);
}

enum sso_code backing_options_check(const char *shares, struct backing_options *options,
                                    struct sso_error *err)
{
    int ways = (shares != NULL) + (options->share_set != NULL) + options->no_backup;
    if (ways > 1)
        return sso_fail(err, SSO_USAGE, "--shares, --share-set and --no-backup exclude each other");
    if (ways == 0)
        return sso_fail(err, SSO_USAGE,
                        "say --shares M/N and --backup FILE for a backup, or --no-backup");
    if (options->no_backup) {
        if (options->backup != NULL || options->shares_dir != NULL || options->passphrase)
            return sso_fail(err, SSO_USAGE,
                            "--no-backup goes with none of --backup, --shares-dir, --passphrase");
        return SSO_OK;
    }
    if (options->backup == NULL)
        return sso_fail(err, SSO_USAGE, "--backup FILE is missing: where is the backup to go?");
    if (options->share_set != NULL && options->passphrase)
        return sso_fail(err, SSO_USAGE,
                        "--passphrase belongs to new shares; a set that has one is asked for it");
    return shares != NULL ? scheme_parse(shares, &options->scheme, err) : SSO_OK;
}

void backing_print(const json_t *result)
{
    char room[MEMBER_ROOM], room2[MEMBER_ROOM];
    const json_t *backup = json_object_get(result, "backup");
    if (!json_is_object(backup))
        return;
    printf("backup      %s (SHA-256 %s)\n", member_text(backup, "file", room),
           member_text(backup, "sha256", room2));
    printf("share set   %s, %s\n", member_text(backup, "share_set", room),
           member_text(backup, "shares", room2));
    transcript_print(backup);
}

void transcript_print(const json_t *object)
{
    char room[MEMBER_ROOM];
    const char *text = json_string_value(json_object_get(object, "transcript_text"));
    printf("\nThe transcript, also in %s, to be printed and signed:\n\n%s",
           member_text(object, "transcript", room), text != NULL ? text : "");
}
