/* How a quarantined row was seen, so that a repaired one is noticed. */
#include "rewrap/engine.h"

#include <string.h>

#include "common/digest.h"
#include "common/encode.h"

static enum sso_code digest_row(const struct credential_row *row,
                                uint8_t out[static QUARANTINE_SEEN_BYTES], struct sso_error *err)
{
    ENCODER_AUTO bytes = {0};
    encode_u32(&bytes, row->generation);
    encode_bytes(&bytes, row->wrapped.bytes, row->wrapped.length_bytes);
    encode_u16(&bytes, row->format);
    encode_fixed(&bytes, row->application_id, sizeof row->application_id);
    encode_text(&bytes, row->principal);
    encode_text(&bytes, row->external_user);
    encode_u32(&bytes, row->born);
    encode_fixed(&bytes, row->row_key_id, sizeof row->row_key_id);
    encode_fixed(&bytes, row->nonce, sizeof row->nonce);
    encode_u64(&bytes, row->version);
    encode_u64(&bytes, (uint64_t)row->updated_ms);
    encode_bytes(&bytes, row->ciphertext, row->ciphertext_bytes);
    if (bytes.failed)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for a row of %zu bytes",
                        row->ciphertext_bytes);
    digest_sha256(bytes.data, bytes.length_bytes, out);
    return SSO_OK;
}

enum sso_code quarantine_see(struct store_tx *tx, const uint8_t row_id[static ROW_ID_BYTES],
                             uint8_t seen[static QUARANTINE_SEEN_BYTES], struct sso_error *err)
{
    struct credential_row row = {0};
    struct sso_error why = {0};
    memset(seen, 0, QUARANTINE_SEEN_BYTES);
    enum sso_code rc = store_credential_get_by_id(tx, row_id, &row, &why);
    if (rc == SSO_NOT_FOUND || rc == SSO_ROW_CORRUPT)
        return SSO_OK;
    if (rc != SSO_OK)
        return sso_fail(err, rc, "%s", why.detail);
    rc = digest_row(&row, seen, err);
    credential_row_free(&row);
    return rc;
}
