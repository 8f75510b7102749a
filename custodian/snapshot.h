/* What the database says of the installation, read in one transaction: untrusted until the policy
 * key is open and the tags are checked. */
#ifndef SSO_CUSTODIAN_SNAPSHOT_H
#define SSO_CUSTODIAN_SNAPSHOT_H

#include "common/config.h"
#include "common/generation.h"
#include "common/policy.h"
#include "store/store.h"

struct snapshot {
    struct system_row system;
    struct generation *generation;
    size_t generation_count;
    struct generation_token *token;
    size_t token_count;
    struct sealed_key *sealed;
    size_t sealed_count;
    struct setting *setting;
    size_t setting_count;
};

/* SSO_NO_MASTER_SECRET where no system was made yet. On error the snapshot is empty. */
enum sso_code snapshot_read(struct store *store, struct snapshot *out, struct sso_error *err)
    __attribute__((warn_unused_result));
void snapshot_free(struct snapshot *snapshot);

/* Rows whose bytes cannot be one (store/keys.h): of a token that is said to hold the generation,
 * and of the generation that wraps the key. */
bool snapshot_token_damaged(const struct snapshot *snapshot, uint32_t generation);
bool snapshot_sealed_damaged(const struct snapshot *snapshot, const char *purpose);
const struct sealed_key *snapshot_sealed(const struct snapshot *snapshot, const char *purpose);
/* NULL where there is none of this name. */
const char *snapshot_setting(const struct snapshot *snapshot, const char *name);

/* SSO_POLICY_TAMPERED where a tag does not fit, or a setting that always exists is missing. */
enum sso_code snapshot_check_settings(const struct snapshot *snapshot, const struct policy *policy,
                                      const struct config *config, struct sso_error *err)
    __attribute__((warn_unused_result));
/* The one active generation, its tag checked. SSO_NO_MASTER_SECRET: none is active. */
enum sso_code snapshot_active(const struct snapshot *snapshot, const struct policy *policy,
                              const struct generation **out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Every generation and token row: the first tag that does not fit. */
enum sso_code snapshot_check_generations(const struct snapshot *snapshot,
                                         const struct policy *policy, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Names of settings that the configuration file gives another value, "" where there are none. */
void snapshot_settings_differ(const struct snapshot *snapshot, const struct config *config,
                              char *out, size_t size);

#endif
