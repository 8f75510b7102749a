/* The keys that seal tickets: rows of sealed_keys, opened when they are first needed and kept in
 * locked memory. Made when the first ticket is issued; one that was born under a generation which
 * is compromised is not used any more, neither for new tickets nor for old ones. */
#ifndef SSO_CUSTODIAN_TICKET_KEYS_H
#define SSO_CUSTODIAN_TICKET_KEYS_H

#include "common/generation.h"
#include "common/row.h"
#include "common/secret.h"

struct custodian;
struct ticket_keys;

enum sso_code ticket_keys_new(struct custodian *custodian, struct ticket_keys **out,
                              struct sso_error *err) __attribute__((warn_unused_result));
void ticket_keys_free(struct ticket_keys **keys);

/* The key to seal with, made where there is none. */
enum sso_code ticket_keys_current(struct ticket_keys *keys, int64_t deadline_ms,
                                  uint8_t key_id[static SEALED_KEY_ID_BYTES], struct secret *key,
                                  struct sso_error *err) __attribute__((warn_unused_result));
/* SSO_TICKET_FORGED where the system has no such key. */
enum sso_code ticket_keys_find(struct ticket_keys *keys, int64_t deadline_ms,
                               const uint8_t key_id[static SEALED_KEY_ID_BYTES], struct secret *key,
                               struct sso_error *err) __attribute__((warn_unused_result));

#endif
