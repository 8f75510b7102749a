#include "cli/ceremony/shares.h"

#include <openssl/crypto.h>
#include <string.h>

enum sso_code share_pile_new(struct share_pile *pile, struct sso_error *err)
{
    pile->count = 0;
    pile->share = secret_alloc(SHARES_GIVEN_MAX * sizeof *pile->share);
    pile->from = wiping_calloc(SHARES_GIVEN_MAX, sizeof *pile->from);
    if (pile->share != NULL && pile->from != NULL)
        return SSO_OK;
    share_pile_free(pile);
    return sso_fail(err, SSO_NO_MEMORY, "no locked memory for shares");
}

void share_pile_free(struct share_pile *pile)
{
    secret_dealloc(pile->share);
    wiping_free(pile->from);
    *pile = (struct share_pile){0};
}

bool share_is_member(const struct share_set *set, const struct slip39_share *share)
{
    uint8_t fingerprint[SHARE_FINGERPRINT_BYTES];
    return share->member_index < set->scheme.count &&
           share_fingerprint(share, fingerprint, NULL) == SSO_OK &&
           memcmp(fingerprint, set->fingerprint[share->member_index], sizeof fingerprint) == 0;
}

bool share_is_same(const struct slip39_share *a, const struct slip39_share *b)
{
    return a->identifier == b->identifier && a->group_index == b->group_index &&
           a->member_index == b->member_index && a->value_bytes == b->value_bytes &&
           CRYPTO_memcmp(a->value, b->value, a->value_bytes) == 0;
}

static enum sso_code check_pairs(const struct share_pile *pile, struct sso_error *err)
{
    const struct slip39_share *share = pile->share;
    for (size_t i = 1; i < pile->count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (share_is_same(&share[i], &share[j]))
                return sso_fail(err, SSO_SHARE_REPEATED, "%s and %s are the same share",
                                pile->from[j], pile->from[i]);
        }
    }
    for (size_t i = 1; i < pile->count; i++) {
        if (share[i].identifier != share[0].identifier)
            return sso_fail(err, SSO_SHARES_OF_DIFFERENT_SETS,
                            "%s and %s belong to different share sets", pile->from[0],
                            pile->from[i]);
    }
    return SSO_OK;
}

static enum sso_code check_pile(const struct share_set *set, const struct share_pile *pile,
                                struct sso_error *err)
{
    enum sso_code rc = check_pairs(pile, err);
    for (size_t i = 0; rc == SSO_OK && i < pile->count; i++) {
        if (!share_is_member(set, &pile->share[i]))
            rc = sso_fail(err, SSO_WRONG_SHARES, "%s is no share of the share set %s",
                          pile->from[i], set->id);
    }
    if (rc == SSO_OK && pile->count < set->scheme.threshold)
        rc = sso_fail(err, SSO_TOO_FEW_SHARES,
                      "%u shares of the share set %s are needed, %zu were given",
                      set->scheme.threshold, set->id, pile->count);
    return rc;
}

/* Where enough of them are of this set, the others are left out. */
static void take_members(const struct share_set *set, struct share_pile *pile)
{
    size_t members = 0;
    for (size_t i = 0; i < pile->count; i++)
        members += share_is_member(set, &pile->share[i]);
    if (members < set->scheme.threshold)
        return;
    size_t kept = 0;
    for (size_t i = 0; i < pile->count; i++) {
        if (!share_is_member(set, &pile->share[i]))
            continue;
        pile->share[kept] = pile->share[i];
        memmove(pile->from[kept++], pile->from[i], sizeof pile->from[0]);
    }
    pile->count = kept;
}

enum sso_code shares_join(const struct share_set *set, const char *folder, bool among_others,
                          struct secret *out, struct sso_error *err)
{
    struct share_pile pile;
    SECRET_AUTO passphrase = {0};
    enum sso_code rc = share_pile_new(&pile, err);
    if (rc != SSO_OK)
        return rc;
    rc = folder != NULL ? shares_read(folder, &pile, err) : shares_ask(set, &pile, err);
    if (rc == SSO_OK && among_others)
        take_members(set, &pile);
    if (rc == SSO_OK)
        rc = check_pile(set, &pile, err);
    if (rc == SSO_OK && set->passphrase)
        rc = passphrase_ask(false, &passphrase, err);
    if (rc == SSO_OK)
        rc = slip39_join(pile.share, pile.count, &passphrase, out, err);
    share_pile_free(&pile);
    return rc;
}
