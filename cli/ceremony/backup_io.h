/* Backup files and transcripts on disk. */
#ifndef SSO_CLI_CEREMONY_BACKUP_IO_H
#define SSO_CLI_CEREMONY_BACKUP_IO_H

#include <limits.h>
#include <sys/types.h>

#include "common/backup_file.h"

struct backup_text {
    char *bytes;
    size_t length;
    struct backup_file file;
};

/* SSO_NOT_FOUND, SSO_BACKUP_INVALID (with the path). */
enum sso_code backup_load(const char *path, struct backup_text *out, struct sso_error *err)
    __attribute__((warn_unused_result));
void backup_text_free(struct backup_text *text);
#define BACKUP_TEXT_AUTO __attribute__((cleanup(backup_text_free))) struct backup_text

/* The same path for who starts elsewhere. */
void absolute_path(const char *path, char out[static PATH_MAX]);
/* Can a new file be made there? SSO_ALREADY_EXISTS, SSO_CONFIG_ERROR. */
enum sso_code new_file_check(const char *path, struct sso_error *err)
    __attribute__((warn_unused_result));
/* A new file, durable with its entry in the folder, or none. Never over one that is there. */
enum sso_code new_file_write(const char *path, const void *bytes, size_t count, mode_t mode,
                             struct sso_error *err) __attribute__((warn_unused_result));

#endif
