#include "common/policy.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/encode.h"
#include "common/tag_memo.h"

/* The largest canonical form is an application with all its fields and groups. On the stack, since
 * tags are checked at every lookup. */
#define CANONICAL_ROOM_BYTES 8192
_Static_assert(sizeof(struct application) + 4 * (FIELDS_MAX + GROUPS_MAX + 16) <
                   CANONICAL_ROOM_BYTES,
               "every application fits");

/* A canonical form: label, system id, version, then the members in the order of the struct. */
struct canonical {
    struct encoder encoder;
    uint8_t room[CANONICAL_ROOM_BYTES];
};

static void begin(struct canonical *canonical, const struct policy *policy, const char *label,
                  uint64_t version)
{
    canonical->encoder = (struct encoder){
        .data = canonical->room, .capacity_bytes = sizeof canonical->room, .fixed = true};
    encode_text(&canonical->encoder, label);
    encode_fixed(&canonical->encoder, policy->system_id, SYSTEM_ID_BYTES);
    encode_u64(&canonical->encoder, version);
}

/* A tag under no key, or over a part only, would be a tag that anybody can make. */
static void make_tag(const struct policy *policy, const struct canonical *canonical,
                     uint8_t tag[static TAG_BYTES])
{
    if (policy->key.length_bytes != POLICY_KEY_BYTES || canonical->encoder.failed)
        abort();
    digest_hmac_sha256(policy->key.data, policy->key.length_bytes, canonical->encoder.data,
                       canonical->encoder.length_bytes, tag);
}

static bool tag_fits(const struct policy *policy, const struct canonical *canonical,
                     const uint8_t tag[static TAG_BYTES])
{
    uint8_t wanted[TAG_BYTES];
    make_tag(policy, canonical, wanted);
    return CRYPTO_memcmp(wanted, tag, TAG_BYTES) == 0;
}

/* For rows that each lookup reads, however many principals there are. */
static bool tag_fits_again(const struct policy *policy, const struct canonical *canonical,
                           const uint8_t tag[static TAG_BYTES])
{
    const uint8_t *form = canonical->encoder.data;
    size_t count = canonical->encoder.length_bytes;
    if (policy->memo != NULL && tag_memo_knows(policy->memo, form, count, tag))
        return true;
    bool fits = tag_fits(policy, canonical, tag);
    if (fits && policy->memo != NULL)
        tag_memo_add(policy->memo, form, count, tag);
    return fits;
}

static enum sso_code tampered(struct sso_error *err, const char *kind, const char *name)
{
    return sso_fail(err, SSO_POLICY_TAMPERED,
                    "the row of %s %s was changed in the database by other means than sso-hsm; "
                    "restore it from a backup",
                    kind, name);
}

static const char *const type_names[] = {
    [APPLICATION_INDIVIDUAL] = "individual",
    [APPLICATION_GROUP] = "group",
    [APPLICATION_CONFIG] = "config",
};
#define TYPES (sizeof type_names / sizeof type_names[0])

const char *application_type_name(enum application_type type)
{
    return type >= APPLICATION_INDIVIDUAL && type < TYPES ? type_names[type] : "unknown";
}

enum application_type application_type_from_name(const char *name)
{
    for (unsigned type = APPLICATION_INDIVIDUAL; name != NULL && type < TYPES; type++)
        if (strcmp(type_names[type], name) == 0)
            return (enum application_type)type;
    return (enum application_type)0;
}

void policy_take_key(struct policy *policy, struct secret *key)
{
    tag_memo_free(&policy->memo);
    secret_free(&policy->key);
    policy->memo = tag_memo_new(); /* without memory for it every tag is made anew */
    policy->key = *key;
    *key = (struct secret){0};
}

void policy_free(struct policy *policy)
{
    tag_memo_free(&policy->memo);
    secret_free(&policy->key);
    *policy = (struct policy){0};
}

/* Counts beyond the arrays can only come from a damaged struct: they are kept in the form, so that
 * no tag fits, and not followed. */
static void canonical_application(const struct policy *policy, const struct application *row,
                                  struct canonical *out)
{
    struct encoder *encoder = &out->encoder;
    begin(out, policy, "sso-hsm application v1", row->version);
    encode_fixed(encoder, row->id, sizeof row->id);
    encode_text(encoder, row->name);
    encode_u8(encoder, (uint8_t)row->type);
    encode_u8(encoder, row->enabled);
    encode_u8(encoder, row->cached);
    encode_u8(encoder, row->tickets_allowed);
    encode_u8(encoder, row->tickets_validated);
    encode_u64(encoder, (uint64_t)row->ticket_lifetime_ms);
    encode_u64(encoder, (uint64_t)row->ticket_lifetime_since_ms);
    encode_text(encoder, row->description);
    encode_text(encoder, row->contact);
    encode_u32(encoder, (uint32_t)row->field_count);
    for (size_t i = 0; i < row->field_count && i < FIELDS_MAX; i++) {
        encode_text(encoder, row->field[i].label);
        encode_u8(encoder, row->field[i].masked);
    }
    encode_text(encoder, row->admins);
    encode_u32(encoder, (uint32_t)row->user_group_count);
    for (size_t i = 0; i < row->user_group_count && i < GROUPS_MAX; i++)
        encode_text(encoder, row->users[i]);
    encode_text(encoder, row->readers);
    encode_u64(encoder, (uint64_t)row->created_ms);
    encode_u64(encoder, (uint64_t)row->updated_ms);
}

static void canonical_mapping(const struct policy *policy, const struct mapping *row,
                              struct canonical *out)
{
    begin(out, policy, "sso-hsm mapping v1", row->version);
    encode_fixed(&out->encoder, row->application_id, sizeof row->application_id);
    encode_text(&out->encoder, row->principal);
    encode_text(&out->encoder, row->external_user);
    encode_u8(&out->encoder, (uint8_t)row->state);
    encode_u64(&out->encoder, (uint64_t)row->updated_ms);
}

static void canonical_setting(const struct policy *policy, const struct setting *row,
                              struct canonical *out)
{
    begin(out, policy, "sso-hsm setting v1", row->version);
    encode_text(&out->encoder, row->name);
    encode_text(&out->encoder, row->value);
}

/* Without the wrap counter, which rises without a new version. */
static void canonical_generation(const struct policy *policy, const struct generation *row,
                                 struct canonical *out)
{
    struct encoder *encoder = &out->encoder;
    begin(out, policy, "sso-hsm generation v1", row->version);
    encode_u32(encoder, row->number);
    encode_fixed(encoder, row->secret_id, sizeof row->secret_id);
    encode_u8(encoder, (uint8_t)row->suite);
    encode_u8(encoder, (uint8_t)row->state);
    encode_u8(encoder, row->compromised);
    encode_u8(encoder, row->no_backup);
    encode_u8(encoder, row->closed);
    encode_u64(encoder, (uint64_t)row->created_ms);
    encode_u64(encoder, (uint64_t)row->backed_up_ms);
    encode_u64(encoder, (uint64_t)row->last_drill_ms);
    encode_u64(encoder, (uint64_t)row->retired_ms);
    encode_u64(encoder, (uint64_t)row->going_ms);
    encode_text(encoder, row->share_set);
    encode_bytes(encoder, row->canary.wrapped.bytes, row->canary.wrapped.length_bytes);
    encode_fixed(encoder, row->canary.mac, sizeof row->canary.mac);
}

static void canonical_generation_token(const struct policy *policy,
                                       const struct generation_token *row, struct canonical *out)
{
    struct encoder *encoder = &out->encoder;
    begin(out, policy, "sso-hsm generation token v1", row->version);
    encode_u32(encoder, row->number);
    encode_text(encoder, row->token.token);
    encode_text(encoder, row->token.serial);
    encode_text(encoder, row->token.manufacturer);
    encode_text(encoder, row->token.model);
    encode_text(encoder, row->node);
    encode_text(encoder, row->evidence);
    encode_u8(encoder, row->weak);
    encode_u64(encoder, (uint64_t)row->since_ms);
    encode_u64(encoder, (uint64_t)row->destroyed_ms);
}

static void canonical_audit_key(const struct policy *policy, const struct audit_key *row,
                                struct canonical *out)
{
    struct encoder *encoder = &out->encoder;
    begin(out, policy, "sso-hsm audit key v1", 1);
    encode_fixed(encoder, row->id, sizeof row->id);
    encode_text(encoder, row->token.token);
    encode_text(encoder, row->token.serial);
    encode_text(encoder, row->token.manufacturer);
    encode_text(encoder, row->token.model);
    encode_text(encoder, row->node);
    encode_fixed(encoder, row->public_key, sizeof row->public_key);
    encode_u64(encoder, (uint64_t)row->since_ms);
}

static void canonical_audit_base(const struct policy *policy, const struct audit_base *row,
                                 struct canonical *out)
{
    struct encoder *encoder = &out->encoder;
    begin(out, policy, "sso-hsm audit base v1", 1);
    encode_text(encoder, row->last.node);
    encode_u64(encoder, row->last.number);
    encode_fixed(encoder, row->last.hash, sizeof row->last.hash);
    encode_u64(encoder, row->signature);
    encode_u64(encoder, (uint64_t)row->time_ms);
}

static void canonical_share_set(const struct policy *policy, const struct share_set *row,
                                struct canonical *out)
{
    struct encoder *encoder = &out->encoder;
    begin(out, policy, "sso-hsm share set v1", row->version);
    encode_text(encoder, row->id);
    encode_u8(encoder, row->scheme.threshold);
    encode_u8(encoder, row->scheme.count);
    encode_u8(encoder, row->scheme.iteration_exponent);
    encode_u16(encoder, row->identifier);
    encode_u8(encoder, row->passphrase);
    encode_u64(encoder, (uint64_t)row->created_ms);
    encode_fixed(encoder, row->fingerprint, sizeof row->fingerprint);
    encode_fixed(encoder, row->verifier, sizeof row->verifier);
}

static void canonical_destruction(const struct policy *policy, const struct destruction *row,
                                  struct canonical *out)
{
    struct encoder *encoder = &out->encoder;
    begin(out, policy, "sso-hsm destruction v1", row->version);
    encode_u32(encoder, row->number);
    encode_text(encoder, row->asked_by);
    encode_u64(encoder, row->asked_uid);
    encode_u64(encoder, (uint64_t)row->asked_ms);
    encode_u64(encoder, (uint64_t)row->grace_ms);
    encode_u8(encoder, row->for_ever);
    encode_u8(encoder, row->older_backups);
    encode_text(encoder, row->confirmed_by);
    encode_u64(encoder, (uint64_t)row->confirmed_ms);
    encode_u64(encoder, (uint64_t)row->destroying_ms);
}

static void canonical_node(const struct policy *policy, const struct node *node,
                           struct canonical *out)
{
    struct encoder *encoder = &out->encoder;
    begin(out, policy, "sso-hsm node v1", node->version);
    encode_text(encoder, node->name);
    encode_text(encoder, node->address);
    encode_fixed(encoder, node->key, sizeof node->key);
    encode_u8(encoder, node->approved);
    encode_text(encoder, node->apps);
    encode_u32(encoder, node->release_burst);
    encode_text(encoder, node->approved_by);
    encode_u64(encoder, (uint64_t)node->joined_ms);
    encode_u64(encoder, (uint64_t)node->approved_ms);
    encode_u64(encoder, node->revocation);
}

void policy_tag_application(const struct policy *policy, struct application *application)
{
    struct canonical canonical;
    canonical_application(policy, application, &canonical);
    make_tag(policy, &canonical, application->tag);
}

void policy_tag_mapping(const struct policy *policy, struct mapping *mapping)
{
    struct canonical canonical;
    canonical_mapping(policy, mapping, &canonical);
    make_tag(policy, &canonical, mapping->tag);
}

void policy_tag_setting(const struct policy *policy, struct setting *setting)
{
    struct canonical canonical;
    canonical_setting(policy, setting, &canonical);
    make_tag(policy, &canonical, setting->tag);
}

void policy_tag_generation(const struct policy *policy, struct generation *generation)
{
    struct canonical canonical;
    canonical_generation(policy, generation, &canonical);
    make_tag(policy, &canonical, generation->tag);
}

void policy_tag_generation_token(const struct policy *policy, struct generation_token *token)
{
    struct canonical canonical;
    canonical_generation_token(policy, token, &canonical);
    make_tag(policy, &canonical, token->tag);
}

void policy_tag_audit_key(const struct policy *policy, struct audit_key *key)
{
    struct canonical canonical;
    canonical_audit_key(policy, key, &canonical);
    make_tag(policy, &canonical, key->tag);
}

void policy_tag_audit_base(const struct policy *policy, struct audit_base *base)
{
    struct canonical canonical;
    canonical_audit_base(policy, base, &canonical);
    make_tag(policy, &canonical, base->tag);
}

enum sso_code policy_check_application(const struct policy *policy,
                                       const struct application *application, struct sso_error *err)
{
    struct canonical canonical;
    canonical_application(policy, application, &canonical);
    return tag_fits_again(policy, &canonical, application->tag)
               ? SSO_OK
               : tampered(err, "application", application->name);
}

enum sso_code policy_check_mapping(const struct policy *policy, const struct mapping *mapping,
                                   struct sso_error *err)
{
    struct canonical canonical;
    canonical_mapping(policy, mapping, &canonical);
    return tag_fits(policy, &canonical, mapping->tag)
               ? SSO_OK
               : tampered(err, "the mapping of", mapping->principal);
}

enum sso_code policy_check_setting(const struct policy *policy, const struct setting *setting,
                                   struct sso_error *err)
{
    struct canonical canonical;
    canonical_setting(policy, setting, &canonical);
    return tag_fits_again(policy, &canonical, setting->tag)
               ? SSO_OK
               : tampered(err, "setting", setting->name);
}

enum sso_code policy_check_generation(const struct policy *policy,
                                      const struct generation *generation, struct sso_error *err)
{
    struct canonical canonical;
    char number[16];
    canonical_generation(policy, generation, &canonical);
    snprintf(number, sizeof number, "%u", generation->number);
    return tag_fits_again(policy, &canonical, generation->tag)
               ? SSO_OK
               : tampered(err, "generation", number);
}

enum sso_code policy_check_generation_token(const struct policy *policy,
                                            const struct generation_token *token,
                                            struct sso_error *err)
{
    struct canonical canonical;
    char name[TOKEN_URI_SIZE + 40];
    canonical_generation_token(policy, token, &canonical);
    if (tag_fits(policy, &canonical, token->tag))
        return SSO_OK;
    int used = snprintf(name, sizeof name, "%u in ", token->number);
    token_identity_uri(&token->token, name + used);
    return tampered(err, "generation", name);
}

enum sso_code policy_check_audit_key(const struct policy *policy, const struct audit_key *key,
                                     struct sso_error *err)
{
    struct canonical canonical;
    char name[2 * AUDIT_KEY_ID_BYTES + 1];
    canonical_audit_key(policy, key, &canonical);
    hex_encode(key->id, sizeof key->id, name);
    return tag_fits(policy, &canonical, key->tag) ? SSO_OK : tampered(err, "audit key", name);
}

enum sso_code policy_check_audit_base(const struct policy *policy, const struct audit_base *base,
                                      struct sso_error *err)
{
    struct canonical canonical;
    canonical_audit_base(policy, base, &canonical);
    return tag_fits(policy, &canonical, base->tag)
               ? SSO_OK
               : tampered(err, "the beginning of the audit of", base->last.node);
}

void policy_tag_share_set(const struct policy *policy, struct share_set *set)
{
    struct canonical canonical;
    canonical_share_set(policy, set, &canonical);
    make_tag(policy, &canonical, set->tag);
}

enum sso_code policy_check_share_set(const struct policy *policy, const struct share_set *set,
                                     struct sso_error *err)
{
    struct canonical canonical;
    canonical_share_set(policy, set, &canonical);
    return tag_fits(policy, &canonical, set->tag) ? SSO_OK : tampered(err, "share set", set->id);
}

void policy_tag_destruction(const struct policy *policy, struct destruction *destruction)
{
    struct canonical canonical;
    canonical_destruction(policy, destruction, &canonical);
    make_tag(policy, &canonical, destruction->tag);
}

enum sso_code policy_check_destruction(const struct policy *policy,
                                       const struct destruction *destruction, struct sso_error *err)
{
    struct canonical canonical;
    char number[16];
    canonical_destruction(policy, destruction, &canonical);
    snprintf(number, sizeof number, "%u", destruction->number);
    return tag_fits(policy, &canonical, destruction->tag)
               ? SSO_OK
               : tampered(err, "the destruction of generation", number);
}

void policy_tag_node(const struct policy *policy, struct node *node)
{
    struct canonical canonical;
    canonical_node(policy, node, &canonical);
    make_tag(policy, &canonical, node->tag);
}

enum sso_code policy_check_node(const struct policy *policy, const struct node *node,
                                struct sso_error *err)
{
    struct canonical canonical;
    canonical_node(policy, node, &canonical);
    return tag_fits(policy, &canonical, node->tag) ? SSO_OK : tampered(err, "the node", node->name);
}
