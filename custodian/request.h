/* A request on its way through the custodian: parsed by server.c on the event loop, run by one of
 * the request threads through the operation table (operations.c), answered by server.c again. */
#ifndef SSO_CUSTODIAN_REQUEST_H
#define SSO_CUSTODIAN_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/audit_record.h"
#include "common/error.h"
#include "common/policy.h"
#include "custodian/peer.h"

struct custodian;

#define PATH_SEGMENTS_MAX 6

struct request {
    struct custodian *custodian;
    struct peer peer; /* who asks; system-wide roles are already in peer.roles */
    uint8_t request_id[REQUEST_ID_BYTES];
    int64_t deadline_ms; /* boot clock */

    const char *method;
    char *segment[PATH_SEGMENTS_MAX]; /* of the path, split first, then percent-decoded: "v1",
                                         "apps", "billing" … */
    size_t segment_count;
    char *path;        /* what the segments point into; from wiping_malloc */
    char *query;       /* raw, or NULL */
    uint64_t if_match; /* a version; 0: none */
    bool openmetrics;  /* Accept names that form */
    const char *raw;   /* the body as it came, a view; parsed by operations_run */
    size_t raw_bytes;
    json_t *body;               /* an object, or NULL */
    struct sso_error malformed; /* of path or header; told only to who may ask at all */
    const struct operation *operation;
    int64_t begun_us; /* boot clock */

    /* Filled by the operation. */
    bool authorised; /* request_authorise said yes; without it no reply but a refusal leaves */
    int status;      /* 200 where left 0 */
    json_t *reply;   /* owned; NULL with 204 */
    char *text;      /* instead of reply: from wiping_malloc, with content_type */
    const char *content_type;
    uint64_t etag;             /* 0: none */
    struct audit_record audit; /* target, row id and version are the operation's; the rest is filled
                                  before it runs */
    bool audited;              /* the operation had its record written with its own transaction */
    size_t looked_up, written; /* credentials */
    uint64_t epoch; /* of the master lease in which the HSM opened what the reply holds; 0: none */
    struct sso_error problem; /* how it ended; the reply says it */
};

/* Does the caller have one of the roles that the operation's row allows? `application` gives the
 * roles that are relative to one (admin, user, reader); NULL where there is none. `own`: the thing
 * asked for belongs to the caller's own principal (needed for what app users may only do to their
 * own). SSO_FORBIDDEN with one and the same text, so that nothing is learnt about what exists. */
enum sso_code request_authorise(struct request *request, const struct application *application,
                                bool own, struct sso_error *err)
    __attribute__((warn_unused_result));

/* The roles of the caller relative to an application. */
unsigned request_roles(struct request *request, const struct application *application);

/* A parameter of the query, decoded into out; false where it is absent. */
bool request_query(const struct request *request, const char *name, char *out, size_t size);

/* The value of a query number, `otherwise` where absent; SSO_BAD_REQUEST where it is no number or
 * above maximum. */
enum sso_code request_query_number(const struct request *request, const char *name,
                                   uint64_t otherwise, uint64_t maximum, uint64_t *out,
                                   struct sso_error *err) __attribute__((warn_unused_result));

/* Splits the raw path, then percent-decodes each segment: strictly, so that no two spellings of a
 * separator exist. SSO_BAD_REQUEST. */
enum sso_code request_parse_path(struct request *request, const char *path, struct sso_error *err)
    __attribute__((warn_unused_result));
/* One JSON object, or nothing. SSO_TOO_LARGE where it has more values than the largest batch of
 * the largest credentials: that is told before anything is allocated for them. */
enum sso_code request_parse_body(struct request *request, const char *text, size_t count,
                                 struct sso_error *err) __attribute__((warn_unused_result));
/* Takes a copy of the raw query, which must be percent-encoded UTF-8 throughout; NULL: none. */
enum sso_code request_parse_query(struct request *request, const char *query, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The value of If-Match: one strong entity tag that is a version. */
enum sso_code request_parse_if_match(struct request *request, const char *value,
                                     struct sso_error *err) __attribute__((warn_unused_result));

/* Replaces whatever reply there is by a problem object. */
void request_problem(struct request *request, enum sso_code code, const char *detail);
void request_free(struct request *request);

#endif
