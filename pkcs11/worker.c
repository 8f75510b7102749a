#include "pkcs11/worker.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "pkcs11/pin.h"

/* The locked heap: two frame buffers for each session, one for the socket, small change. */
#define HEAP_BYTES_MIN ((size_t)1024 * 1024)
#define FRAMES_BETWEEN_LOOKS 16 /* at our own size */

static _Noreturn void end(struct worker *worker, int status)
{
    /* The others finish what they are at: a module that is finalised under a running call crashes.
     */
    for (int i = 0; i < 1000 && atomic_load(&worker->busy) > 0; i++)
        usleep(1000);
    module_finalize(worker->module);
    _exit(status);
}

static uint64_t monotonic_microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void look_at_own_size(struct worker *worker)
{
    char text[64] = "";
    unsigned long total = 0, resident = 0;
    if (pread(worker->statm, text, sizeof text - 1, 0) > 0 &&
        sscanf(text, "%lu %lu", &total, &resident) == 2)
        atomic_store(&worker->resident_bytes, resident * (unsigned long)sysconf(_SC_PAGESIZE));
}

static enum sso_code memory_for(unsigned sessions, struct sso_error *err)
{
    size_t bytes = HEAP_BYTES_MIN;
    while (bytes < ((size_t)2 * sessions + 2) * FRAME_BYTES_MAX * 2)
        bytes *= 2;
    enum sso_code code = secret_memory_init(bytes, err);
    return code == SSO_OK ? code : sso_error_context(err, "a worker with %u sessions", sessions);
}

static enum sso_code thread_init(struct worker_thread *thread, struct worker *worker,
                                 struct sso_error *err)
{
    thread->worker = worker;
    thread->row_key = secret_alloc(ROW_KEY_BYTES);
    enum sso_code code = frame_buffer_new(&thread->request, err);
    if (code == SSO_OK)
        code = frame_buffer_new(&thread->reply.data, err);
    thread->reply.capacity_bytes = FRAME_BYTES_MAX;
    thread->reply.fixed = true;
    if (code == SSO_OK && thread->row_key == NULL)
        code = sso_fail(err, SSO_NO_MEMORY, "no locked memory is left for a session");
    return code;
}

/* A byte string that was sent with its NUL. */
static const char *get_text(struct decoder *in)
{
    size_t count = 0;
    const uint8_t *bytes = decode_bytes(in, FRAME_BYTES_MAX, &count);
    if (bytes == NULL || count == 0 || memchr(bytes, '\0', count) != bytes + count - 1)
        in->failed = true;
    return in->failed ? "" : (const char *)bytes;
}

static enum sso_code say_hello(struct worker *worker, struct decoder *request,
                               struct hello_reply *reply, struct sso_error *err)
{
    const char *module = get_text(request);
    const char *init_args = get_text(request);
    const char *uri = get_text(request);
    worker->sessions = decode_u32(request);
    worker->weak_token_accepted = decode_u8(request) != 0;
    enum sso_code code = decode_end(request, "hello", err);
    if (code == SSO_OK && (worker->sessions == 0 || worker->sessions > SESSIONS_MAX))
        code = sso_fail(err, SSO_CONFIG_ERROR, "sessions_per_worker must be 1 to %d", SESSIONS_MAX);
    if (code == SSO_OK)
        code = memory_for(worker->sessions, err);
    if (code == SSO_OK)
        code = module_load(module, init_args, &worker->module, err);
    if (code == SSO_OK)
        code = token_find(worker->module, uri, &worker->token, err);
    if (code != SSO_OK)
        return code;
    struct token *token = &worker->token;
    reply->token = token->identity;
    snprintf(reply->firmware, sizeof reply->firmware, "%s", token->firmware);
    reply->pin_count_low = (token->flags & CKF_USER_PIN_COUNT_LOW) != 0;
    reply->pin_final_try = (token->flags & CKF_USER_PIN_FINAL_TRY) != 0;
    reply->sessions_max = token->sessions_max;
    reply->pin_locked = (token->flags & CKF_USER_PIN_LOCKED) != 0;
    if (token_wants_login(token))
        code = pin_source_look(token->pin_source, &reply->pin, err);
    worker->pin = reply->pin;
    return code;
}

/* The stamp of the try was made for the source as it was at the hello. */
static enum sso_code check_source(const struct worker *worker, struct sso_error *err)
{
    struct pin_source_facts now = {0};
    enum sso_code code = pin_source_look(worker->token.pin_source, &now, err);
    if (code == SSO_OK && !pin_source_same(&now, &worker->pin))
        code = sso_fail(err, SSO_HSM_UNAVAILABLE, "PIN source %s changed while it was read",
                        now.source);
    return code;
}

static enum sso_code log_in(struct worker_thread *thread, struct sso_error *err)
{
    struct worker *worker = thread->worker;
    SECRET_AUTO pin = {0};
    enum sso_code code = SSO_OK;
    if (token_wants_login(&worker->token))
        code = pin_read(worker->token.pin_source, &pin, err);
    if (code == SSO_OK && token_wants_login(&worker->token))
        code = check_source(worker, err);
    if (code == SSO_OK)
        code = token_login(&worker->token, &pin, err);
    secret_free(&pin);
    thread->flags = worker->token.login_doubtful ? REPLY_LOGIN_DOUBTFUL : 0;
    if (code != SSO_OK)
        return code;
    thread->flags = REPLY_LOGIN_WORKED;
    return session_take_login(&thread->session, &worker->token, &worker->table, err);
}

static enum sso_code work(struct worker_thread *thread, enum frame_kind kind,
                          struct decoder *request, struct sso_error *err)
{
    switch (kind) {
    case FRAME_MAKE:
    case FRAME_WRAP:
    case FRAME_UNWRAP:
    case FRAME_REWRAP:
        return worker_batch(thread, kind, request, err);
    case FRAME_BENCH:
        return worker_bench(thread, request, err);
    case FRAME_MEASURE:
        return worker_measure(thread, request, err);
    case FRAME_HELLO:
    case FRAME_LOGIN:
        return sso_fail(err, SSO_BAD_REQUEST, "a frame out of its turn");
    default:
        return worker_control(thread, kind, request, err);
    }
}

/* Finishes the reply that was begun with `header`, and sends it. */
static void answer(struct worker_thread *thread, struct reply_header *header,
                   const struct sso_error *err)
{
    struct worker *worker = thread->worker;
    header->flags = thread->flags;
    header->resident_bytes = atomic_load(&worker->resident_bytes);
    if (header->code != SSO_OK) {
        frame_begin_reply(&thread->reply, header);
        encode_text(&thread->reply, err->detail);
    } else {
        frame_patch_reply(&thread->reply, header);
    }
    if (frame_finish(&thread->reply, NULL) != SSO_OK)
        end(worker, 1);
    pthread_mutex_lock(&worker->write_mutex);
    bool sent = frame_send(worker->socket, &thread->reply, 0);
    pthread_mutex_unlock(&worker->write_mutex);
    if (!sent) {
        atomic_fetch_sub(&worker->busy, 1);
        end(worker, 0);
    }
}

/* Waits for the next frame and copies it into the thread's own buffer. At the end of the
 * conversation the process ends here. */
static void next_frame(struct worker_thread *thread, struct decoder *out)
{
    struct worker *worker = thread->worker;
    struct decoder frame;
    pthread_mutex_lock(&worker->read_mutex);
    while (!frame_next(&worker->reader, &frame))
        if (frame_reader_broken(&worker->reader) ||
            frame_fill(&worker->reader, worker->socket, 0) <= 0)
            end(worker, 0); /* the others wait for read_mutex, or come to it */
    atomic_fetch_add(&worker->busy, 1);
    memcpy(thread->request, frame.next, frame.left_bytes);
    OPENSSL_cleanse((void *)frame.next, frame.left_bytes);
    *out = (struct decoder){.next = thread->request, .left_bytes = frame.left_bytes};
    pthread_mutex_unlock(&worker->read_mutex);
}

static void serve_one(struct worker_thread *thread)
{
    struct decoder request;
    struct reply_header header = {0};
    struct sso_error err = {0};
    enum frame_kind kind;
    next_frame(thread, &request);
    size_t request_bytes = request.left_bytes;
    uint64_t began = monotonic_microseconds();
    if (!frame_get_request_header(&request, &header.id, &kind))
        _exit(1);
    thread->flags = 0;
    frame_begin_reply(&thread->reply, &header);
    header.code = work(thread, kind, &request, &err);
    if (thread->frames++ % FRAMES_BETWEEN_LOOKS == 0)
        look_at_own_size(thread->worker);
    header.work_microseconds = (uint32_t)(monotonic_microseconds() - began);
    answer(thread, &header, &err);
    encoder_clear(&thread->reply);
    OPENSSL_cleanse(thread->request, request_bytes);
    atomic_fetch_sub(&thread->worker->busy, 1);
}

static void *serve(void *arg)
{
    for (;;)
        serve_one(arg);
    return NULL;
}

/* As many further sessions as the token gives. */
static void open_further_sessions(struct worker *worker, struct worker_thread *threads)
{
    struct sso_error err = {0};
    unsigned open = 1;
    for (; open < worker->sessions; open++)
        if (thread_init(&threads[open], worker, &err) != SSO_OK ||
            session_open(&threads[open].session, &worker->token, &worker->table, &err) != SSO_OK)
            break;
    if (open < worker->sessions) /* the pool tells of it */
        log_line(LOG_LEVEL_DEBUG, "no further session", "reason", err.detail, NULL);
    worker->sessions = open;
}

/* Before the login there is one thread and one frame at a time. */
static void handshake(struct worker *worker, struct worker_thread *threads)
{
    struct worker_thread *first = &threads[0];
    struct decoder request;
    struct reply_header header = {0};
    struct sso_error err = {0};
    struct hello_reply hello = {0};
    enum frame_kind kind;
    atomic_store(&worker->busy, 1);
    while (!frame_next(&worker->reader, &request))
        if (frame_reader_broken(&worker->reader) ||
            frame_fill(&worker->reader, worker->socket, 0) <= 0)
            _exit(0);
    if (!frame_get_request_header(&request, &header.id, &kind) || kind != FRAME_HELLO)
        _exit(1);
    header.code = say_hello(worker, &request, &hello, &err);
    /* The answer to a hello that failed must leave even where no memory could be locked: nothing of
     * it is secret. */
    uint8_t plain[sizeof err + 64];
    if (header.code != SSO_OK || (header.code = thread_init(first, worker, &err)) != SSO_OK) {
        first->worker = worker;
        first->reply =
            (struct encoder){.data = plain, .capacity_bytes = sizeof plain, .fixed = true};
        answer(first, &header, &err);
        atomic_store(&worker->busy, 0);
        end(worker, 0);
    }
    frame_begin_reply(&first->reply, &header);
    frame_put_hello_reply(&first->reply, &hello);
    answer(first, &header, &err);
    atomic_store(&worker->busy, 0);

    uint8_t *locked = NULL;
    if (frame_buffer_new(&locked, NULL) != SSO_OK)
        _exit(1);
    free(worker->reader.buffer);
    worker->reader = (struct frame_reader){.buffer = locked};
    next_frame(first, &request);
    if (!frame_get_request_header(&request, &header.id, &kind) || kind != FRAME_LOGIN)
        _exit(1);
    uint32_t sessions = decode_u32(&request);
    if (decode_end(&request, "login", NULL) != SSO_OK || sessions == 0)
        _exit(1);
    worker->sessions = sessions < worker->sessions ? sessions : worker->sessions;
    header.code = log_in(first, &err);
    if (worker->token.no_session)
        first->flags |= REPLY_NO_SESSION;
    if (header.code == SSO_OK)
        open_further_sessions(worker, threads);
    look_at_own_size(worker);
    frame_begin_reply(&first->reply, &header);
    encode_u32(&first->reply, worker->sessions);
    answer(first, &header, &err);
    atomic_fetch_sub(&worker->busy, 1);
    if (header.code != SSO_OK)
        end(worker, 0);
}

void worker_run(int socket)
{
    static struct worker worker;
    static struct worker_thread threads[SESSIONS_MAX];
    worker.socket = socket;
    worker.statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    pthread_mutex_init(&worker.read_mutex, NULL);
    pthread_mutex_init(&worker.write_mutex, NULL);
    generation_table_init(&worker.table);
    worker.reader.buffer = malloc(FRAME_BYTES_MAX); /* the hello holds no secret */
    if (worker.reader.buffer == NULL)
        _exit(1);
    handshake(&worker, threads);
    for (unsigned i = 1; i < worker.sessions; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, &threads[i]) == 0)
            pthread_detach(thread);
    }
    serve(&threads[0]);
    end(&worker, 0);
}
