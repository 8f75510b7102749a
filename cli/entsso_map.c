#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/entsso.h"

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\r\n", text[length - 1]) != NULL)
        text[--length] = '\0';
    return text;
}

static enum sso_code add_line(struct entsso_map *map, char *text, const char *path, unsigned number,
                              struct sso_error *err)
{
    char *entry = trim(text);
    if (entry[0] == '\0' || entry[0] == '#' || entry[0] == ';')
        return SSO_OK;
    char *equals = strchr(entry, '=');
    if (equals == NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "%s:%u: expected DOMAIN\\NAME = NAME HERE", path,
                        number);
    *equals = '\0';
    const char *windows = trim(entry), *here = trim(equals + 1);
    if (strchr(windows, '\\') == NULL || here[0] == '\0')
        return sso_fail(err, SSO_BAD_REQUEST, "%s:%u: expected DOMAIN\\NAME = NAME HERE", path,
                        number);
    if (entsso_map_find(map, windows) != NULL)
        return sso_fail(err, SSO_BAD_REQUEST, "%s:%u: %s stands in it twice", path, number,
                        windows);
    struct entsso_name *grown = realloc(map->name, (map->count + 1) * sizeof *grown);
    if (grown == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for %s", path);
    map->name = grown;
    struct entsso_name name = {strdup(windows), strdup(here)};
    map->name[map->count++] = name;
    return name.windows != NULL && name.here != NULL
               ? SSO_OK
               : sso_fail(err, SSO_NO_MEMORY, "no memory for %s", path);
}

enum sso_code entsso_map_read(const char *path, struct entsso_map *out, struct sso_error *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return sso_fail_errno(err, SSO_BAD_REQUEST, errno, "%s cannot be read", path);
    enum sso_code rc = SSO_OK;
    char *text = NULL;
    size_t size = 0;
    for (unsigned number = 1; rc == SSO_OK && getline(&text, &size, file) >= 0; number++)
        rc = add_line(out, text, path, number, err);
    if (rc == SSO_OK && ferror(file))
        rc = sso_fail_errno(err, SSO_BAD_REQUEST, errno, "%s cannot be read", path);
    free(text);
    fclose(file);
    return rc;
}

void entsso_map_free(struct entsso_map *map)
{
    for (size_t i = 0; i < map->count; i++) {
        free(map->name[i].windows);
        free(map->name[i].here);
    }
    free(map->name);
    *map = (struct entsso_map){0};
}

const char *entsso_map_find(const struct entsso_map *map, const char *windows)
{
    for (size_t i = 0; i < map->count; i++) {
        if (strcasecmp(map->name[i].windows, windows) == 0)
            return map->name[i].here;
    }
    return NULL;
}
