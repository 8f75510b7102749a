#include "common/audit_record.h"

#include "common/digest.h"
#include "common/encode.h"

_Static_assert(AUDIT_HASH_BYTES == DIGEST_BYTES, "the chain is of SHA-256");

void audit_record_hash(const uint8_t previous[static AUDIT_HASH_BYTES],
                       const struct audit_record *record, uint8_t out[static AUDIT_HASH_BYTES])
{
    uint8_t room[sizeof *record + 256]; /* the texts have lengths in place of their ends */
    struct encoder encoder = {.data = room, .capacity_bytes = sizeof room, .fixed = true};
    encode_fixed(&encoder, previous, AUDIT_HASH_BYTES);
    encode_text(&encoder, "sso-hsm audit record v1");
    encode_text(&encoder, record->node);
    encode_u64(&encoder, record->number);
    encode_u64(&encoder, (uint64_t)record->time_ms);
    encode_text(&encoder, record->actor);
    encode_text(&encoder, record->how);
    encode_text(&encoder, record->operation);
    encode_text(&encoder, record->target);
    encode_text(&encoder, record->outcome);
    encode_fixed(&encoder, record->request_id, sizeof record->request_id);
    encode_fixed(&encoder, record->row_id, sizeof record->row_id);
    encode_u64(&encoder, record->row_version);
    digest_sha256(encoder.data, encoder.length_bytes, out);
}
