#include "pkcs11/generation_table.h"

#include <string.h>

void generation_table_init(struct generation_table *table)
{
    memset(table, 0, sizeof *table);
    pthread_mutex_init(&table->mutex, NULL);
}

static struct generation_key *find(struct generation_table *table, uint32_t number)
{
    for (size_t i = 0; i < table->count; i++)
        if (table->key[i].number == number)
            return &table->key[i];
    return NULL;
}

bool generation_table_put(struct generation_table *table, const struct generation_key *key)
{
    pthread_mutex_lock(&table->mutex);
    struct generation_key *place = find(table, key->number);
    if (place == NULL && table->count < GENERATIONS_MAX)
        place = &table->key[table->count++];
    if (place != NULL) {
        *place = *key;
        atomic_fetch_add(&table->edition, 1);
    }
    pthread_mutex_unlock(&table->mutex);
    return place != NULL;
}

void generation_table_remove(struct generation_table *table, uint32_t number)
{
    pthread_mutex_lock(&table->mutex);
    struct generation_key *place = find(table, number);
    if (place != NULL) {
        *place = table->key[--table->count];
        atomic_fetch_add(&table->edition, 1);
    }
    pthread_mutex_unlock(&table->mutex);
}

bool generation_table_get(struct generation_table *table, uint32_t number,
                          struct generation_key *out)
{
    pthread_mutex_lock(&table->mutex);
    const struct generation_key *place = find(table, number);
    if (place != NULL)
        *out = *place;
    pthread_mutex_unlock(&table->mutex);
    return place != NULL;
}
