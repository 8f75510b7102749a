/* The XML files of Microsoft Enterprise SSO (ssomanage -createapps, -createmappings, -updatedb), as
 * what POST /v1/apps:import takes. The names in them belong to Windows domains: a map says whose
 * they are here. */
#ifndef SSO_CLI_ENTSSO_H
#define SSO_CLI_ENTSSO_H

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"

struct entsso_name {
    char *windows; /* domain\name, compared without regard to case */
    char *here;
};

/* A file of lines DOMAIN\NAME = GROUP or PRINCIPAL; # and ; begin comments. */
struct entsso_map {
    struct entsso_name *name;
    size_t count;
};
enum sso_code entsso_map_read(const char *path, struct entsso_map *out, struct sso_error *err)
    __attribute__((warn_unused_result));
void entsso_map_free(struct entsso_map *map);
/* NULL where the map has no such line. */
const char *entsso_map_find(const struct entsso_map *map, const char *windows);

struct entsso {
    const struct entsso_map *map;
    const char *path;                    /* of the file that is read */
    json_t *apps, *mappings;             /* arrays, */
    json_t *app_places, *mapping_places; /* and where each stands, as FILE:LINE */
    json_t *settings;                    /* an object */
    json_t *faults; /* [{"file","line","element","detail"}]: any of them refuses all */
    json_t *notes;  /* the same, of what has no meaning here and is left out */
};
enum sso_code entsso_new(struct entsso *entsso, const struct entsso_map *map, struct sso_error *err)
    __attribute__((warn_unused_result));
void entsso_free(struct entsso *entsso);

/* Adds what stands in the file. What is wrong in it goes into the faults, each with its line, and
 * the rest is read all the same; an error is one of the file as a whole. */
enum sso_code entsso_read(struct entsso *entsso, const char *path, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The same from memory. */
enum sso_code entsso_read_text(struct entsso *entsso, const char *path, const char *text,
                               size_t count, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
