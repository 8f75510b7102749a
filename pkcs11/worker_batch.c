#include <openssl/crypto.h>

#include "pkcs11/canary.h"
#include "pkcs11/ckr.h"
#include "pkcs11/worker.h"
#include "pkcs11/suite.h"

/* Session and token faults are healed this often within an item; then another worker must try. */
#define ATTEMPTS 4
/* A token that is busy or short of something for a moment gets about a second. */
#define ATTEMPTS_BUSY 8

/* One item with the keys it needs; `to` only for rewrap. */
struct work {
    enum frame_kind kind;
    const struct session_key *from, *to;
    struct key_item *item;
    struct wrapped_key fresh; /* what is to replace item->wrapped */
};

static struct outcome rewrap(struct session *session, struct work *work)
{
    const struct session_key *from = work->from, *to = work->to;
    const struct key_item *item = work->item;
    if (from->suite == to->suite && from->suite->rewrap != NULL)
        return from->suite->rewrap(session, from->handle, to->handle, &item->wrapped, &work->fresh);
    struct outcome call =
        from->suite->unwrap(session, from->handle, item->binding, &item->wrapped, session->row_key);
    if (call.rv == CKR_OK)
        call = to->suite->wrap(session, to->handle, item->binding, session->row_key, &work->fresh);
    OPENSSL_cleanse(session->row_key, ROW_KEY_BYTES);
    return call;
}

static struct outcome attempt(struct session *session, struct work *work)
{
    const struct session_key *key = work->from;
    struct key_item *item = work->item;
    switch (work->kind) {
    case FRAME_MAKE:
        return key->suite->make(session, key->handle, item->binding, item->row_key, &work->fresh);
    case FRAME_WRAP:
        return key->suite->wrap(session, key->handle, item->binding, item->row_key, &work->fresh);
    case FRAME_UNWRAP:
        return key->suite->unwrap(session, key->handle, item->binding, &item->wrapped,
                                  item->row_key);
    default:
        return rewrap(session, work);
    }
}

static bool reads_wrapped(struct outcome call)
{
    return call.function == FN_UnwrapKey || call.function == FN_Decrypt ||
           call.function == FN_DecryptInit;
}

enum blame { BLAME_ROW, BLAME_TOKEN };

/* Is the row to blame? Where the code leaves it open the canary, opened with the same key on the
 * same session, tells. */
static enum blame blame(struct session *session, const struct work *work, struct outcome call)
{
    if (call.own || !reads_wrapped(call))
        return BLAME_TOKEN;
    switch (ckr_class(call)) {
    case CKR_CLASS_ITEM:
        return BLAME_ROW;
    case CKR_CLASS_DOUBTFUL:
    case CKR_CLASS_CONFIGURATION:
        return canary_open(session, work->from->handle, work->from->suite, &work->from->generation,
                           NULL) == SSO_OK
                   ? BLAME_ROW
                   : BLAME_TOKEN;
    default:
        return BLAME_TOKEN;
    }
}

/* Makes the next attempt possible. Not SSO_OK: this worker has done what it can. */
static enum sso_code recover(struct worker_thread *thread, struct outcome call, unsigned attempts,
                             struct sso_error *err)
{
    static const char doing[] = "working on a row key";
    switch (ckr_class(call)) {
    case CKR_CLASS_RETRY:
        session_pause(attempts);
        return attempts + 1 < ATTEMPTS_BUSY ? SSO_OK : ckr_fail(err, call, doing);
    case CKR_CLASS_WORKER:
    case CKR_CLASS_TOKEN_GONE:
        return ckr_fail(err, call, doing);
    default:
        (void)ckr_fail(err, call, doing);
        if (attempts > 0)
            session_pause(attempts);
        return attempts + 1 < ATTEMPTS ? session_renew(&thread->session, err) : SSO_HSM_UNAVAILABLE;
    }
}

static enum sso_code find_keys(struct worker_thread *thread, struct work *work, uint32_t to,
                               struct sso_error *err)
{
    enum sso_code code = session_key(&thread->session, work->item->generation, &work->from, err);
    if (code == SSO_OK && work->kind == FRAME_REWRAP)
        code = session_key(&thread->session, to, &work->to, err);
    return code;
}

/* Does the worker hold the generations to be open, whatever this session finds? */
static bool is_open_here(struct worker_thread *thread, const struct work *work, uint32_t to)
{
    struct generation_key known;
    struct generation_table *table = &thread->worker->table;
    return generation_table_get(table, work->item->generation, &known) &&
           (work->kind != FRAME_REWRAP || generation_table_get(table, to, &known));
}

static bool has_wrong_length(const struct work *work)
{
    bool reads = work->kind == FRAME_UNWRAP || work->kind == FRAME_REWRAP;
    return reads && !suite_wrapped_fits(work->from->suite->id, work->item->wrapped.length_bytes);
}

/* Not SSO_OK: no further item can be worked on here. */
static enum sso_code process(struct worker_thread *thread, struct work *work, uint32_t to,
                             struct sso_error *err)
{
    struct key_item *item = work->item;
    bool blamed = false;
    for (unsigned attempts = 0;; attempts++) {
        struct outcome call = {FN_FindObjects, CKR_SESSION_HANDLE_INVALID};
        enum sso_code code = find_keys(thread, work, to, err);
        if (code == SSO_NO_MASTER_SECRET || code == SSO_WRONG_MASTER_SECRET) {
            if (!is_open_here(thread, work, to)) {
                item->code = SSO_NO_MASTER_SECRET;
                return SSO_OK;
            }
            /* It opened when this worker started: the token is another now. */
            thread->flags |= REPLY_REPLACE_ME;
            return SSO_HSM_UNAVAILABLE;
        }
        if (code == SSO_OK) {
            if (has_wrong_length(work)) {
                item->code = SSO_ROW_CORRUPT;
                return SSO_OK;
            }
            call = attempt(&thread->session, work);
            if (call.rv == CKR_OK) {
                item->code = SSO_OK;
                item->wrapped = work->fresh;
                return SSO_OK;
            }
            /* Twice in a row: a fault that passes blames no row. */
            bool blamed_before = blamed;
            blamed = blame(&thread->session, work, call) == BLAME_ROW;
            if (blamed && blamed_before) {
                item->code = SSO_ROW_CORRUPT;
                return SSO_OK;
            }
            if (blamed)
                continue;
        }
        code = recover(thread, call, attempts, err);
        if (code != SSO_OK) {
            thread->flags |= REPLY_REPLACE_ME;
            return SSO_HSM_UNAVAILABLE;
        }
    }
}

enum sso_code worker_batch(struct worker_thread *thread, enum frame_kind kind,
                           struct decoder *request, struct sso_error *err)
{
    enum sso_code code = SSO_OK;
    uint32_t to = decode_u32(request);
    uint32_t count = decode_u32(request);
    if (count > FRAME_ITEMS_MAX)
        return sso_fail(err, SSO_BAD_REQUEST, "a frame of %u items", count);
    session_refresh(&thread->session);
    for (uint32_t i = 0; code == SSO_OK && i < count && !request->failed; i++) {
        struct key_item item = {.row_key = thread->row_key};
        struct work work = {.kind = kind, .item = &item};
        frame_get_item(request, kind, &item);
        if (request->failed)
            break;
        code = process(thread, &work, to, err);
        if (code == SSO_OK)
            frame_put_result(&thread->reply, kind, &item);
    }
    OPENSSL_cleanse(thread->row_key, ROW_KEY_BYTES);
    if (code == SSO_OK)
        code = decode_end(request, "batch frame", err);
    return code;
}
