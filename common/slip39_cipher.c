#include "common/slip39_cipher.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#define ROUNDS 4
#define ITERATIONS 2500 /* of a round, times two to the iteration exponent */
#define HALF_BYTES_MAX (SLIP39_SECRET_BYTES_MAX / 2)

/* What the rounds need, in locked memory. */
struct feistel {
    char password[1 + SLIP39_PASSPHRASE_BYTES_MAX];
    int password_bytes;
    uint8_t salt[8 + HALF_BYTES_MAX];
    size_t salt_prefix_bytes;
    int iterations;
    size_t half_bytes;
    uint8_t left[HALF_BYTES_MAX], right[HALF_BYTES_MAX], function[HALF_BYTES_MAX];
};

static enum sso_code passphrase_check(const struct secret *passphrase, struct sso_error *err)
{
    if (passphrase->length_bytes > SLIP39_PASSPHRASE_BYTES_MAX)
        return sso_fail(err, SSO_USAGE, "a passphrase has at most %d characters",
                        SLIP39_PASSPHRASE_BYTES_MAX);
    for (size_t i = 0; i < passphrase->length_bytes; i++)
        if (passphrase->data[i] < 0x20 || passphrase->data[i] > 0x7e)
            return sso_fail(err, SSO_USAGE,
                            "a passphrase is of printable ASCII characters only (SLIP-39)");
    return SSO_OK;
}

static void prepare(struct feistel *f, const struct slip39_share *set,
                    const struct secret *passphrase, size_t bytes)
{
    if (passphrase->length_bytes > 0)
        memcpy(f->password + 1, passphrase->data, passphrase->length_bytes);
    f->password_bytes = (int)passphrase->length_bytes + 1;
    if (!set->extendable) {
        memcpy(f->salt, "shamir", 6);
        f->salt[6] = (uint8_t)(set->identifier >> 8);
        f->salt[7] = (uint8_t)set->identifier;
        f->salt_prefix_bytes = 8;
    }
    f->iterations = ITERATIONS << set->iteration_exponent;
    f->half_bytes = bytes / 2;
}

/* left, right = right, left ^ F(round, right) */
static bool run_round(struct feistel *f, unsigned round)
{
    f->password[0] = (char)round;
    memcpy(f->salt + f->salt_prefix_bytes, f->right, f->half_bytes);
    if (PKCS5_PBKDF2_HMAC(f->password, f->password_bytes, f->salt,
                          (int)(f->salt_prefix_bytes + f->half_bytes), f->iterations, EVP_sha256(),
                          (int)f->half_bytes, f->function) != 1)
        return false;
    for (size_t i = 0; i < f->half_bytes; i++) {
        uint8_t next = f->left[i] ^ f->function[i];
        f->left[i] = f->right[i];
        f->right[i] = next;
    }
    return true;
}

enum sso_code slip39_cipher(const struct slip39_share *set, const struct secret *passphrase,
                            bool encrypt, uint8_t *value, size_t bytes, struct sso_error *err)
{
    enum sso_code rc = passphrase_check(passphrase, err);
    if (rc != SSO_OK)
        return rc;
    struct feistel *f = secret_alloc(sizeof *f);
    if (f == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no locked memory for the shares");
    prepare(f, set, passphrase, bytes);
    memcpy(f->left, value, f->half_bytes);
    memcpy(f->right, value + f->half_bytes, f->half_bytes);
    bool ran = true;
    for (unsigned i = 0; ran && i < ROUNDS; i++)
        ran = run_round(f, encrypt ? i : ROUNDS - 1 - i);
    if (ran) {
        memcpy(value, f->right, f->half_bytes);
        memcpy(value + f->half_bytes, f->left, f->half_bytes);
    }
    secret_dealloc(f);
    return ran ? SSO_OK : sso_fail(err, SSO_INTERNAL, "PBKDF2 failed");
}
