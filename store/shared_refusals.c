#include "store/shared_refusals.h"

#include <stdio.h>

static enum pin_board_answer ask(void *context, const struct token_identity *token,
                                 char node[static PIN_BOARD_NODE_SIZE])
{
    struct shared_refusals *self = context;
    struct store *store = atomic_load(&self->store);
    STORE_TX_AUTO tx = NULL;
    if (store == NULL || store_begin(store, STORE_READ, &tx, NULL) != SSO_OK ||
        store_refusal_of_others(tx, token, self->node, node, NULL) != SSO_OK)
        return PIN_BOARD_UNKNOWN;
    return node[0] != '\0' ? PIN_BOARD_REFUSED : PIN_BOARD_CLEAR;
}

/* Every login asks for this; hardly any has something to forget. */
static bool anything_to_forget(struct store *store, const struct token_identity *token)
{
    char other[PIN_BOARD_NODE_SIZE] = "";
    STORE_TX_AUTO tx = NULL;
    return store_begin(store, STORE_READ, &tx, NULL) == SSO_OK &&
           store_refusal_of_others(tx, token, "", other, NULL) == SSO_OK && other[0] != '\0';
}

/* What does not arrive here still stands in the node's own state directory. */
static void tell(void *context, const struct token_identity *token, bool refused)
{
    struct shared_refusals *self = context;
    struct store *store = atomic_load(&self->store);
    STORE_TX_AUTO tx = NULL;
    if (store == NULL || (!refused && !anything_to_forget(store, token)) ||
        store_begin(store, STORE_WRITE, &tx, NULL) != SSO_OK)
        return;
    enum sso_code rc = refused ? store_refusal_put(tx, token, self->node, NULL)
                               : store_refusal_clear(tx, token, NULL);
    if (rc == SSO_OK)
        (void)!store_commit(&tx, NULL);
}

void shared_refusals_init(struct shared_refusals *refusals, const char *node)
{
    refusals->board = (struct pin_board){.context = refusals, .ask = ask, .tell = tell};
    atomic_init(&refusals->store, NULL);
    snprintf(refusals->node, sizeof refusals->node, "%s", node);
}

void shared_refusals_use(struct shared_refusals *refusals, struct store *store)
{
    atomic_store(&refusals->store, store);
}
