/* Rows whose policy tag was found right under one key, byte for byte: what is compared is the whole
 * canonical form with its tag, so a row that was changed, or put back, is checked anew. Nothing in
 * it is secret. Thread-safe. */
#ifndef SSO_COMMON_TAG_MEMO_H
#define SSO_COMMON_TAG_MEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/generation.h"

struct tag_memo;

/* NULL where memory has run out. */
struct tag_memo *tag_memo_new(void);
void tag_memo_free(struct tag_memo **memo);

bool tag_memo_knows(struct tag_memo *memo, const uint8_t *form, size_t count,
                    const uint8_t tag[static TAG_BYTES]);
/* In the place of one that is remembered, where it must be; not at all where it is very long. */
void tag_memo_add(struct tag_memo *memo, const uint8_t *form, size_t count,
                  const uint8_t tag[static TAG_BYTES]);

#endif
