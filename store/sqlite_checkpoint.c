#include "store/sqlite_checkpoint.h"

#include "store/sqlite.h"

/* SQLite's own measure: 4 MiB of pages of 4 KiB. */
#define LONG_LOG_PAGES 1000
/* The thread does not keep up, or there is none: the one who writes does it, and is slowed down. */
#define TOO_LONG_LOG_PAGES (8 * LONG_LOG_PAGES)
#define TURN_WAIT_MS 1000

/* What fails here is tried again after the next commits. Nothing is lost by it: the log grows, and
 * a disk that is full or broken shows at the next commit. */
static void pass(struct sqlite_connection *connection)
{
    (void)sqlite3_wal_checkpoint_v2(connection->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

/* A connection for each time: one that stayed would keep a file that was replaced meanwhile. */
static void fold_log(struct sqlite_store *store)
{
    struct sqlite_connection *connection = NULL;
    if (sqlite_connect(store, STORE_READ, &connection, NULL) != SSO_OK)
        return;
    pass(connection);
    if (fair_lock_take(&store->write_turn, TURN_WAIT_MS) == FAIR_LOCK_TAKEN) {
        pass(connection);
        fair_lock_release(&store->write_turn);
    }
    sqlite_disconnect(&connection);
}

static void *run(void *context)
{
    struct sqlite_store *store = context;
    struct sqlite_checkpoint *self = &store->checkpoint;
    pthread_mutex_lock(&self->lock);
    while (!self->stopping) {
        if (!self->wanted) {
            pthread_cond_wait(&self->changed, &self->lock);
            continue;
        }
        pthread_mutex_unlock(&self->lock);
        fold_log(store);
        pthread_mutex_lock(&self->lock);
        self->wanted = false; /* asked for meanwhile: the second pass had it */
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* False: there is no thread. */
static bool ask(struct sqlite_store *store)
{
    struct sqlite_checkpoint *self = &store->checkpoint;
    pthread_mutex_lock(&self->lock);
    if (!self->started)
        self->started = pthread_create(&self->thread, NULL, run, store) == 0;
    self->wanted = true;
    pthread_cond_signal(&self->changed);
    bool asked = self->started;
    pthread_mutex_unlock(&self->lock);
    return asked;
}

/* After each commit, in its thread, which still has the turn to write. */
static int committed(void *context, sqlite3 *db, const char *name, int pages)
{
    struct sqlite_connection *writer = context;
    (void)db;
    (void)name;
    if (pages >= LONG_LOG_PAGES && (!ask(writer->store) || pages >= TOO_LONG_LOG_PAGES))
        pass(writer);
    return SQLITE_OK;
}

void sqlite_checkpoint_watch(struct sqlite_connection *writer)
{
    sqlite3_wal_hook(writer->db, committed, writer);
}

void sqlite_checkpoint_init(struct sqlite_checkpoint *checkpoint)
{
    pthread_mutex_init(&checkpoint->lock, NULL);
    pthread_cond_init(&checkpoint->changed, NULL);
}

void sqlite_checkpoint_destroy(struct sqlite_checkpoint *checkpoint)
{
    pthread_mutex_lock(&checkpoint->lock);
    checkpoint->stopping = true;
    pthread_cond_signal(&checkpoint->changed);
    pthread_mutex_unlock(&checkpoint->lock);
    if (checkpoint->started)
        pthread_join(checkpoint->thread, NULL);
    pthread_cond_destroy(&checkpoint->changed);
    pthread_mutex_destroy(&checkpoint->lock);
}
