/*
 * Folds the write-ahead log into the file beside the work (sqlite.org/wal.html §3), where SQLite by
 * itself does it in the thread whose commit filled the log: its caller, and whoever waits for the
 * next turn to write, would wait for all of it and two fsyncs.
 *
 * In two passes. The first runs while others write; what they wrote meanwhile is left. The second
 * has the turn to write, so that the log is folded in whole and the next writer begins it anew:
 * else it would grow for as long as somebody writes.
 */
#ifndef SSO_STORE_SQLITE_CHECKPOINT_H
#define SSO_STORE_SQLITE_CHECKPOINT_H

#include <pthread.h>
#include <stdbool.h>

struct sqlite_store;
struct sqlite_connection;

struct sqlite_checkpoint {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool started, wanted, stopping;
};

void sqlite_checkpoint_init(struct sqlite_checkpoint *checkpoint);
/* Ends the thread, if there is one. Before the store's connections are closed. */
void sqlite_checkpoint_destroy(struct sqlite_checkpoint *checkpoint);
/* The connection's commits ask for a checkpoint when the log has become long. */
void sqlite_checkpoint_watch(struct sqlite_connection *writer);

#endif
