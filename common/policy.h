/*
 * The policy tag (DESIGN §3.5): HMAC-SHA-256 (RFC 2104) under the policy key, over a label, the
 * system id, the version and the canonical form of every row that decides who gets what. A row with
 * a wrong tag is refused: SSO_POLICY_TAMPERED.
 */
#ifndef SSO_COMMON_POLICY_H
#define SSO_COMMON_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/audit_base.h"
#include "common/audit_key.h"
#include "common/error.h"
#include "common/generation.h"
#include "common/node.h"
#include "common/row.h"
#include "common/share_set.h"

#define POLICY_KEY_BYTES 32
#define GROUP_BYTES_MAX 256
#define GROUPS_MAX 16
#define APPLICATION_NAME_BYTES_MAX 64
#define SETTING_NAME_BYTES_MAX 64
#define SETTING_VALUE_BYTES_MAX 384 /* a proposal names a principal */

enum application_type { APPLICATION_INDIVIDUAL = 1, APPLICATION_GROUP = 2, APPLICATION_CONFIG = 3 };
const char *application_type_name(enum application_type type);
enum application_type application_type_from_name(const char *name); /* 0 where unknown */

struct application_field {
    char label[FIELD_LABEL_BYTES_MAX + 1];
    bool masked;
};

#define TICKET_LIFETIME_MS_MAX (525600LL * 60000) /* and at least a minute */

struct application {
    uint8_t id[APPLICATION_ID_BYTES];
    char name[APPLICATION_NAME_BYTES_MAX +
              1]; /* [A-Za-z0-9._-]{1,64}; unique without regard to case */
    enum application_type type;
    bool enabled;                            /* created disabled */
    bool cached;                             /* row keys of its credentials may be kept in memory */
    bool tickets_allowed, tickets_validated; /* where the settings say yes, and no, too */
    char description[257];
    char contact[257];
    struct application_field field[FIELDS_MAX];
    size_t field_count;
    char admins[GROUP_BYTES_MAX + 1]; /* "" where there are none */
    char users[GROUPS_MAX][GROUP_BYTES_MAX + 1];
    size_t user_group_count;
    char readers[GROUP_BYTES_MAX + 1];
    int64_t created_ms, updated_ms;
    int64_t ticket_lifetime_ms;       /* 0: what the setting says */
    int64_t ticket_lifetime_since_ms; /* when it last became longer */
    uint64_t version;
    uint8_t tag[TAG_BYTES];
};

/* Whether a principal may use its credential of an application. The numbers are stored: never
 * renumber. */
enum mapping_state {
    MAPPING_ENABLED = 1,
    MAPPING_DISABLED_BY_USER = 2,
    MAPPING_DISABLED_BY_ADMIN = 3
};

struct mapping {
    uint8_t application_id[APPLICATION_ID_BYTES];
    char principal[PRINCIPAL_BYTES_MAX + 1];
    /* For the first credential that is set without one; "" where nobody said. */
    char external_user[EXTERNAL_USER_BYTES_MAX + 1];
    enum mapping_state state;
    int64_t updated_ms;
    uint64_t version;
    uint8_t tag[TAG_BYTES];
};

struct setting {
    char name[SETTING_NAME_BYTES_MAX + 1];
    char value[SETTING_VALUE_BYTES_MAX + 1];
    uint64_t version;
    uint8_t tag[TAG_BYTES];
};

/* Settings that always exist; a missing one is tampering, not a default. Values as in the
 * configuration file. */
#define SETTING_SYSTEM_ENABLED "system.enabled" /* yes, no */
#define SETTING_AUDIT_KEEP "audit.keep"         /* a duration */
#define SETTING_REVOCATION "system.revocation"  /* a number that only rises */

/* Holds the policy key in locked memory. Thread-safe for reading once filled. */
struct policy {
    uint8_t system_id[SYSTEM_ID_BYTES];
    struct secret key;     /* POLICY_KEY_BYTES */
    struct tag_memo *memo; /* of rows that every lookup reads; NULL: nothing is remembered */
};
void policy_free(struct policy *policy);
/* Takes `key` over, in the place of what there was. */
void policy_take_key(struct policy *policy, struct secret *key);

/* Write the tag of a row whose other members, version included, are final. */
void policy_tag_application(const struct policy *policy, struct application *application);
void policy_tag_mapping(const struct policy *policy, struct mapping *mapping);
void policy_tag_setting(const struct policy *policy, struct setting *setting);
void policy_tag_generation(const struct policy *policy, struct generation *generation);
void policy_tag_generation_token(const struct policy *policy, struct generation_token *token);
void policy_tag_audit_key(const struct policy *policy, struct audit_key *key);
void policy_tag_audit_base(const struct policy *policy, struct audit_base *base);
void policy_tag_destruction(const struct policy *policy, struct destruction *destruction);
void policy_tag_node(const struct policy *policy, struct node *node);
void policy_tag_share_set(const struct policy *policy, struct share_set *set);

/* SSO_POLICY_TAMPERED, with the name of the row, unless the tag fits. */
enum sso_code policy_check_application(const struct policy *policy,
                                       const struct application *application, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code policy_check_mapping(const struct policy *policy, const struct mapping *mapping,
                                   struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code policy_check_setting(const struct policy *policy, const struct setting *setting,
                                   struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code policy_check_generation(const struct policy *policy,
                                      const struct generation *generation, struct sso_error *err)
    __attribute__((warn_unused_result));
enum sso_code policy_check_generation_token(const struct policy *policy,
                                            const struct generation_token *token,
                                            struct sso_error *err)
    __attribute__((warn_unused_result));

enum sso_code policy_check_audit_key(const struct policy *policy, const struct audit_key *key,
                                     struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code policy_check_audit_base(const struct policy *policy, const struct audit_base *base,
                                      struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code policy_check_share_set(const struct policy *policy, const struct share_set *set,
                                     struct sso_error *err) __attribute__((warn_unused_result));

/* One that is not approved has no tag: SSO_POLICY_TAMPERED, like all else without. */
enum sso_code policy_check_node(const struct policy *policy, const struct node *node,
                                struct sso_error *err) __attribute__((warn_unused_result));
enum sso_code policy_check_destruction(const struct policy *policy,
                                       const struct destruction *destruction, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
