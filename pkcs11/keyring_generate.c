/* Keys that are made, and the rows that describe them. */
#include <string.h>

#include "common/clock.h"
#include "common/row.h"
#include "pkcs11/keyring.h"

void keyring_token_row(struct hsm *hsm, uint32_t number, const char *node,
                       const struct evidence *evidence, struct generation_token *out)
{
    struct hsm_status status;
    hsm_status(hsm, &status);
    *out = (struct generation_token){.number = number,
                                     .token = status.token,
                                     .weak = evidence->weak[0] != '\0',
                                     .since_ms = wall_clock_ms(),
                                     .version = 1};
    size_t length = strnlen(node, sizeof out->node - 1);
    memcpy(out->node, node, length);
    evidence_json(evidence, out->evidence, sizeof out->evidence);
}

enum sso_code keyring_generate_order(struct keyring *keyring, struct hsm *hsm,
                                     const struct key_order *order, struct made_key *out,
                                     struct sso_error *err)
{
    static const uint8_t unset[SECRET_ID_BYTES];
    struct generation_key key = {.number = order->number, .suite = order->suite};
    enum sso_code code = SSO_OK;
    memcpy(key.system_id, keyring_system_id(keyring), SYSTEM_ID_BYTES);
    memcpy(key.secret_id, order->secret_id, SECRET_ID_BYTES);
    if (memcmp(key.secret_id, unset, sizeof unset) == 0)
        code = random_bytes(key.secret_id, SECRET_ID_BYTES, err);
    if (code == SSO_OK && order->backup != NULL)
        code = hsm_generate_backed(hsm, &key, order->backup, &out->evidence, err);
    else if (code == SSO_OK)
        code = hsm_generate(hsm, &key, &out->evidence, err);
    if (code != SSO_OK)
        return code;
    out->generation = (struct generation){.number = order->number,
                                          .suite = order->suite,
                                          .state = GENERATION_PENDING,
                                          .created_ms = wall_clock_ms(),
                                          .canary = key.canary,
                                          .version = 1};
    memcpy(out->generation.secret_id, key.secret_id, SECRET_ID_BYTES);
    keyring_token_row(hsm, order->number, order->node, &out->evidence, &out->token);
    return SSO_OK;
}

enum sso_code keyring_generate(struct keyring *keyring, struct hsm *hsm, uint32_t number,
                               enum suite_id suite, const char *node, struct generation *generation,
                               struct generation_token *token, struct evidence *evidence,
                               struct sso_error *err)
{
    struct key_order order = {.number = number, .suite = suite, .node = node};
    struct made_key made;
    enum sso_code code = keyring_generate_order(keyring, hsm, &order, &made, err);
    if (code != SSO_OK)
        return code;
    *generation = made.generation;
    *token = made.token;
    *evidence = made.evidence;
    return SSO_OK;
}
