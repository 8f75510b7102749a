/* The generations that a worker was told to open. Read by all its session threads. */
#ifndef SSO_PKCS11_GENERATION_TABLE_H
#define SSO_PKCS11_GENERATION_TABLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "pkcs11/hsm.h"

struct generation_table {
    pthread_mutex_t mutex;
    struct generation_key key[GENERATIONS_MAX];
    size_t count;
    _Atomic unsigned edition; /* rises with every change: sessions then find their handles anew */
};

void generation_table_init(struct generation_table *table);
/* False where it is full. */
bool generation_table_put(struct generation_table *table, const struct generation_key *key);
void generation_table_remove(struct generation_table *table, uint32_t number);
bool generation_table_get(struct generation_table *table, uint32_t number,
                          struct generation_key *out);

#endif
