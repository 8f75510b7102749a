#include "common/tag_memo.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 64
#define FORM_BYTES_MAX 2048

struct slot {
    uint8_t tag[TAG_BYTES];
    size_t count; /* 0: empty */
    uint8_t form[FORM_BYTES_MAX];
};

struct tag_memo {
    pthread_rwlock_t lock;
    struct slot slot[SLOTS];
};

struct tag_memo *tag_memo_new(void)
{
    struct tag_memo *memo = calloc(1, sizeof *memo);
    if (memo != NULL)
        pthread_rwlock_init(&memo->lock, NULL);
    return memo;
}

void tag_memo_free(struct tag_memo **memo)
{
    if (*memo == NULL)
        return;
    pthread_rwlock_destroy(&(*memo)->lock);
    free(*memo);
    *memo = NULL;
}

/* A tag is as good as random. */
static struct slot *slot_of(struct tag_memo *memo, const uint8_t tag[static TAG_BYTES])
{
    return &memo->slot[tag[0] % SLOTS];
}

bool tag_memo_knows(struct tag_memo *memo, const uint8_t *form, size_t count,
                    const uint8_t tag[static TAG_BYTES])
{
    const struct slot *slot = slot_of(memo, tag);
    pthread_rwlock_rdlock(&memo->lock);
    bool knows = count > 0 && slot->count == count && memcmp(slot->tag, tag, TAG_BYTES) == 0 &&
                 memcmp(slot->form, form, count) == 0;
    pthread_rwlock_unlock(&memo->lock);
    return knows;
}

void tag_memo_add(struct tag_memo *memo, const uint8_t *form, size_t count,
                  const uint8_t tag[static TAG_BYTES])
{
    struct slot *slot = slot_of(memo, tag);
    if (count > sizeof slot->form)
        return;
    pthread_rwlock_wrlock(&memo->lock);
    memcpy(slot->tag, tag, TAG_BYTES);
    memcpy(slot->form, form, count);
    slot->count = count;
    pthread_rwlock_unlock(&memo->lock);
}
