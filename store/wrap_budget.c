#include "store/wrap_budget.h"

#include <pthread.h>
#include <stdlib.h>

struct remainder {
    uint32_t generation;
    uint64_t wraps;
};

struct wrap_budget {
    struct store *store;
    wrap_budget_seen seen; /* may be NULL */
    void *context;
    wrap_budget_hold hold; /* may be NULL */
    void *hold_context;
    pthread_mutex_t lock; /* held while a block is reserved, so that two do not reserve for one */
    struct remainder *remainder;
    size_t count;
};

enum sso_code wrap_budget_new(struct store *store, struct wrap_budget **out, struct sso_error *err)
{
    struct wrap_budget *budget = calloc(1, sizeof *budget);
    if (budget == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the wrap counters");
    budget->store = store;
    pthread_mutex_init(&budget->lock, NULL);
    *out = budget;
    return SSO_OK;
}

void wrap_budget_watch(struct wrap_budget *budget, wrap_budget_seen seen, void *context)
{
    budget->seen = seen;
    budget->context = context;
}

void wrap_budget_guard(struct wrap_budget *budget, wrap_budget_hold hold, void *context)
{
    budget->hold = hold;
    budget->hold_context = context;
}

void wrap_budget_free(struct wrap_budget **budget)
{
    if (budget == NULL || *budget == NULL)
        return;
    pthread_mutex_destroy(&(*budget)->lock);
    free((*budget)->remainder);
    free(*budget);
    *budget = NULL;
}

static struct remainder *find(struct wrap_budget *budget, uint32_t generation,
                              struct sso_error *err)
{
    for (size_t i = 0; i < budget->count; i++)
        if (budget->remainder[i].generation == generation)
            return &budget->remainder[i];
    struct remainder *larger =
        reallocarray(budget->remainder, budget->count + 1, sizeof *budget->remainder);
    if (larger == NULL) {
        (void)sso_fail(err, SSO_NO_MEMORY, "no memory for a wrap counter");
        return NULL;
    }
    budget->remainder = larger;
    larger[budget->count] = (struct remainder){.generation = generation};
    return &larger[budget->count++];
}

/* Whole blocks; at the very end of a generation only what is needed, so that none of its wraps is
 * refused too early. */
static enum sso_code reserve(struct wrap_budget *budget, struct remainder *remainder,
                             uint64_t needed, uint64_t limit, struct sso_error *err)
{
    uint64_t block = (needed + WRAP_BLOCK - 1) / WRAP_BLOCK * WRAP_BLOCK;
    uint64_t total = 0;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = store_begin(budget->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK && budget->hold != NULL)
        rc = budget->hold(budget->hold_context, tx, err);
    if (rc != SSO_OK)
        return rc;
    rc = store_generation_add_wraps(tx, remainder->generation, block, limit, &total, err);
    if (rc == SSO_WRAPS_EXHAUSTED) {
        block = needed;
        rc = store_generation_add_wraps(tx, remainder->generation, block, limit, &total, err);
    }
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    if (rc == SSO_OK && budget->seen != NULL)
        rc = budget->seen(budget->context, remainder->generation, total, err);
    if (rc == SSO_OK)
        remainder->wraps += block;
    return rc;
}

enum sso_code wrap_budget_take(struct wrap_budget *budget, uint32_t generation, enum suite_id suite,
                               uint64_t wraps, struct sso_error *err)
{
    /* AES-KW has no IV that could repeat: it is counted, not limited. */
    uint64_t limit = suite == SUITE_AES256_GCM ? GCM_WRAPS_LIMIT : 0;
    enum sso_code rc = SSO_OK;
    pthread_mutex_lock(&budget->lock);
    struct remainder *remainder = find(budget, generation, err);
    if (remainder == NULL)
        rc = SSO_NO_MEMORY;
    else if (wraps > GCM_WRAPS_LIMIT)
        rc = sso_fail(err, SSO_INTERNAL, "more wraps asked for than any generation has");
    else if (remainder->wraps < wraps)
        rc = reserve(budget, remainder, wraps - remainder->wraps, limit, err);
    if (rc == SSO_OK)
        remainder->wraps -= wraps;
    pthread_mutex_unlock(&budget->lock);
    return rc;
}
