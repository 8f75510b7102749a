#include "common/slip39.h"

#include <openssl/crypto.h>
#include <string.h>

#include "common/digest.h"
#include "common/gf256.h"
#include "common/row.h"
#include "common/slip39_cipher.h"

#define SECRET_INDEX 255
#define DIGEST_INDEX 254
#define CHECK_BYTES 4 /* of the digest that stands in front of random bytes */

enum sso_code slip39_scheme_check(const struct slip39_scheme *scheme, struct sso_error *err)
{
    bool single = scheme->threshold == 1 && scheme->count == 1;
    if (single || (scheme->threshold >= 2 && scheme->threshold <= scheme->count &&
                   scheme->count <= SLIP39_SHARES_MAX))
        return SSO_OK;
    return sso_fail(err, SSO_USAGE,
                    "shares are M/N with 2 <= M <= N <= %d, or 1/1: M officers of N are needed to "
                    "bring the key back",
                    SLIP39_SHARES_MAX);
}

/* HMAC-SHA-256(random, secret), cut to CHECK_BYTES, where the random bytes follow in `digest`. */
static void check_of(const uint8_t *digest, const uint8_t *secret, size_t bytes,
                     uint8_t out[static CHECK_BYTES])
{
    uint8_t mac[DIGEST_BYTES];
    digest_hmac_sha256(digest + CHECK_BYTES, bytes - CHECK_BYTES, secret, bytes, mac);
    memcpy(out, mac, CHECK_BYTES);
    OPENSSL_cleanse(mac, sizeof mac);
}

/* Gives value and member index to each of `count` shares, of `threshold` on a new polynomial. */
static enum sso_code split_value(const uint8_t *secret, size_t bytes, struct slip39_share *out,
                                 const struct slip39_scheme *scheme, struct sso_error *err)
{
    uint8_t *digest = secret_alloc(SLIP39_SECRET_BYTES_MAX);
    struct gf256_point points[SLIP39_SHARES_MAX + 1];
    size_t random_shares = scheme->threshold - 2u, known = 0;
    enum sso_code rc = digest != NULL
                           ? random_bytes(digest + CHECK_BYTES, bytes - CHECK_BYTES, err)
                           : sso_fail(err, SSO_NO_MEMORY, "no locked memory for the shares");
    for (; rc == SSO_OK && known < random_shares; known++) {
        rc = random_bytes(out[known].value, bytes, err);
        points[known] = (struct gf256_point){(uint8_t)known, out[known].value};
    }
    if (rc == SSO_OK) {
        check_of(digest, secret, bytes, digest);
        points[known++] = (struct gf256_point){DIGEST_INDEX, digest};
        points[known++] = (struct gf256_point){SECRET_INDEX, secret};
        for (size_t i = random_shares; i < scheme->count; i++)
            gf256_interpolate(points, known, (uint8_t)i, bytes, out[i].value);
    }
    secret_dealloc(digest);
    return rc;
}

enum sso_code slip39_split(const struct slip39_scheme *scheme, const struct secret *secret,
                           const struct secret *passphrase, struct slip39_share *out,
                           struct sso_error *err)
{
    struct slip39_share set = {.iteration_exponent = scheme->iteration_exponent & 0xf,
                               .group_threshold = 1,
                               .group_count = 1,
                               .member_threshold = scheme->threshold};
    size_t bytes = secret->length_bytes;
    enum sso_code rc = slip39_scheme_check(scheme, err);
    if (rc == SSO_OK &&
        (bytes < SLIP39_SECRET_BYTES_MIN || bytes > SLIP39_SECRET_BYTES_MAX || bytes % 2 != 0))
        rc = sso_fail(err, SSO_INTERNAL, "a secret of %zu bytes cannot be split", bytes);
    if (rc == SSO_OK)
        rc = random_bytes(&set.identifier, sizeof set.identifier, err);
    if (rc != SSO_OK)
        return rc;
    set.identifier &= 0x7fff;
    set.value_bytes = (uint8_t)bytes;
    uint8_t *encrypted = secret_alloc(SLIP39_SECRET_BYTES_MAX);
    if (encrypted == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for the shares");
    memcpy(encrypted, secret->data, bytes);
    rc = slip39_cipher(&set, passphrase, true, encrypted, bytes, err);
    for (size_t i = 0; rc == SSO_OK && i < scheme->count; i++) {
        out[i] = set;
        out[i].member_index = (uint8_t)i;
    }
    if (rc == SSO_OK && scheme->threshold == 1)
        memcpy(out[0].value, encrypted, bytes);
    else if (rc == SSO_OK)
        rc = split_value(encrypted, bytes, out, scheme, err);
    secret_dealloc(encrypted);
    return rc;
}

/* --- joining --- */

static bool same_set(const struct slip39_share *a, const struct slip39_share *b)
{
    return a->identifier == b->identifier && a->extendable == b->extendable &&
           a->iteration_exponent == b->iteration_exponent &&
           a->group_threshold == b->group_threshold && a->group_count == b->group_count &&
           a->value_bytes == b->value_bytes &&
           (a->group_index != b->group_index || a->member_threshold == b->member_threshold);
}

static enum sso_code check_set(const struct slip39_share *shares, size_t count,
                               struct sso_error *err)
{
    if (count == 0)
        return sso_fail(err, SSO_TOO_FEW_SHARES, "no share was given");
    for (size_t i = 1; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (!same_set(&shares[i], &shares[j]))
                return sso_fail(err, SSO_SHARES_OF_DIFFERENT_SETS,
                                "shares %zu and %zu belong to different sets", j + 1, i + 1);
            if (shares[i].group_index == shares[j].group_index &&
                shares[i].member_index == shares[j].member_index)
                return sso_fail(err, SSO_SHARE_REPEATED,
                                "shares %zu and %zu are the same share (number %u)", j + 1, i + 1,
                                shares[i].member_index + 1u);
        }
    }
    return SSO_OK;
}

/* Points of one polynomial: the members of a group, or the groups. */
struct point_set {
    struct gf256_point point[SLIP39_SHARES_MAX];
    size_t count;
    uint8_t threshold;
    size_t bytes;
};

/* The secret of the polynomial, checked against its digest, for which `digest` is room. */
static bool join_points(const struct point_set *set, uint8_t *digest, uint8_t *out)
{
    if (set->threshold == 1) {
        memcpy(out, set->point[0].y, set->bytes);
        for (size_t i = 1; i < set->count; i++)
            if (CRYPTO_memcmp(set->point[i].y, out, set->bytes) != 0)
                return false;
        return true;
    }
    uint8_t check[CHECK_BYTES];
    gf256_interpolate(set->point, set->count, SECRET_INDEX, set->bytes, out);
    gf256_interpolate(set->point, set->count, DIGEST_INDEX, set->bytes, digest);
    check_of(digest, out, set->bytes, check);
    return CRYPTO_memcmp(check, digest, CHECK_BYTES) == 0;
}

/* What the members of each group give, in locked memory. */
struct joined_groups {
    struct point_set groups;
    uint8_t value[SLIP39_SHARES_MAX][SLIP39_SECRET_BYTES_MAX];
    uint8_t digest[SLIP39_SECRET_BYTES_MAX];
    uint8_t secret[SLIP39_SECRET_BYTES_MAX];
};

static enum sso_code join_group(const struct slip39_share *shares, size_t count, uint8_t index,
                                struct joined_groups *joined, struct sso_error *err)
{
    struct point_set members = {.bytes = shares[0].value_bytes};
    for (size_t i = 0; i < count; i++) {
        if (shares[i].group_index != index)
            continue;
        members.threshold = shares[i].member_threshold;
        members.point[members.count++] =
            (struct gf256_point){shares[i].member_index, shares[i].value};
    }
    if (members.count == 0)
        return SSO_OK;
    if (members.count < members.threshold && shares[0].group_count == 1)
        return sso_fail(err, SSO_TOO_FEW_SHARES, "%u shares are needed, %zu given",
                        members.threshold, members.count);
    if (members.count < members.threshold)
        return sso_fail(err, SSO_TOO_FEW_SHARES, "of group %u %u shares are needed, %zu given",
                        index + 1u, members.threshold, members.count);
    uint8_t *value = joined->value[joined->groups.count];
    joined->groups.point[joined->groups.count++] = (struct gf256_point){index, value};
    if (join_points(&members, joined->digest, value))
        return SSO_OK;
    return sso_fail(err, SSO_WRONG_SHARES,
                    "the shares do not fit together: at least one of them "
                    "is of another secret");
}

static enum sso_code join(const struct slip39_share *shares, size_t count,
                          const struct secret *passphrase, struct joined_groups *joined,
                          struct sso_error *err)
{
    const struct slip39_share *set = &shares[0];
    enum sso_code rc = SSO_OK;
    joined->groups =
        (struct point_set){.threshold = set->group_threshold, .bytes = set->value_bytes};
    for (uint8_t i = 0; rc == SSO_OK && i < SLIP39_SHARES_MAX; i++)
        rc = join_group(shares, count, i, joined, err);
    if (rc == SSO_OK && joined->groups.count < set->group_threshold)
        rc = sso_fail(err, SSO_TOO_FEW_SHARES, "shares of %u groups are needed, %zu groups given",
                      set->group_threshold, joined->groups.count);
    if (rc == SSO_OK && !join_points(&joined->groups, joined->digest, joined->secret))
        rc = sso_fail(err, SSO_WRONG_SHARES,
                      "the groups do not fit together: at least one of them "
                      "is of another secret");
    if (rc == SSO_OK)
        rc = slip39_cipher(set, passphrase, false, joined->secret, set->value_bytes, err);
    return rc;
}

enum sso_code slip39_join(const struct slip39_share *shares, size_t count,
                          const struct secret *passphrase, struct secret *out,
                          struct sso_error *err)
{
    enum sso_code rc = check_set(shares, count, err);
    if (rc != SSO_OK)
        return rc;
    struct joined_groups *joined = secret_alloc(sizeof *joined);
    if (joined == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for the shares");
    rc = join(shares, count, passphrase, joined, err);
    if (rc == SSO_OK) {
        secret_clear(out);
        rc = secret_append(out, joined->secret, shares[0].value_bytes, err);
    }
    secret_dealloc(joined);
    return rc;
}
