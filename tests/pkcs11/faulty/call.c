#include "faulty.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SESSIONS_MAX 512
#define HANDLE_BITS 32

/* A session of this process. `number` is never used again, unlike a handle. */
struct session {
    bool open;
    CK_SESSION_HANDLE handle;
    uint64_t number, removals;
    CK_RV broken; /* 0: it is sound */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct session sessions[SESSIONS_MAX];
static uint64_t numbers;
static CK_RV process_broken;
static uint64_t login_removals;
static uint64_t removals; /* of the token, as of the last call */

static struct session *find(CK_SESSION_HANDLE handle)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        if (sessions[i].open && sessions[i].handle == handle)
            return &sessions[i];
    return NULL;
}

void session_opened(CK_SESSION_HANDLE handle)
{
    pthread_mutex_lock(&mutex);
    struct session *place = find(handle);
    for (size_t i = 0; place == NULL && i < SESSIONS_MAX; i++)
        if (!sessions[i].open)
            place = &sessions[i];
    if (place == NULL)
        _exit(99);
    *place = (struct session){true, handle, ++numbers, removals, CKR_OK};
    pthread_mutex_unlock(&mutex);
}

void session_closed(CK_SESSION_HANDLE handle)
{
    pthread_mutex_lock(&mutex);
    struct session *place = find(handle);
    if (place != NULL)
        place->open = false;
    pthread_mutex_unlock(&mutex);
}

void sessions_closed(void)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (!sessions[i].open)
            continue;
        session_closed(sessions[i].handle);
        state_count_session(state_lock(), -1);
        state_unlock();
    }
}

void process_logged_in(void)
{
    login_removals = removals;
}

bool process_lost_login(void)
{
    return login_removals != removals;
}

CK_OBJECT_HANDLE handle_real(CK_OBJECT_HANDLE handle)
{
    return handle & (((CK_OBJECT_HANDLE)1 << HANDLE_BITS) - 1);
}

static uint64_t number_of(CK_SESSION_HANDLE handle)
{
    pthread_mutex_lock(&mutex);
    const struct session *session = find(handle);
    uint64_t number = session != NULL ? session->number : 0;
    pthread_mutex_unlock(&mutex);
    return number;
}

CK_OBJECT_HANDLE handle_given(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE handle)
{
    return handle | (CK_OBJECT_HANDLE)number_of(session) << HANDLE_BITS;
}

static void grow(size_t bytes)
{
    volatile uint8_t *memory = malloc(bytes);
    for (size_t i = 0; memory != NULL && i < bytes; i += 512)
        memory[i] = 1;
}

static void sleep_us(uint64_t microseconds)
{
    while (microseconds > 0) {
        uint64_t part = microseconds < 500000 ? microseconds : 500000;
        usleep((useconds_t)part);
        microseconds -= part;
    }
}

static void break_session(CK_SESSION_HANDLE handle, CK_RV code)
{
    pthread_mutex_lock(&mutex);
    struct session *session = find(handle);
    if (session != NULL)
        session->broken = code;
    pthread_mutex_unlock(&mutex);
}

static void remove_token(void)
{
    struct shared *shared = state_lock();
    shared->removals += !shared->is_gone;
    shared->is_gone = true;
    state_unlock();
}

/* True: no later rule acts. */
static bool act(struct call *call, const struct rule *rule)
{
    call->fault = true;
    switch (rule->action) {
    case ACTION_DELAY:
        sleep_us(rule->low +
                 (rule->high > rule->low ? (unsigned long)rand() % (rule->high - rule->low) : 0));
        call->fault = false;
        return false;
    case ACTION_GROW:
        grow(rule->low);
        call->fault = false;
        return false;
    case ACTION_HANG:
        if (call->settings.log)
            log_call(call, "hangs");
        sleep_us((uint64_t)rule->low * 1000000);
        return true;
    case ACTION_CRASH:
        if (call->settings.log)
            log_call(call, "crashes");
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    case ACTION_BREAK_SESSION:
        break_session(call->session, rule->code);
        break;
    case ACTION_BREAK_PROCESS:
        process_broken = rule->code;
        break;
    case ACTION_REMOVE:
        remove_token();
        break;
    case ACTION_RETURN:
        break;
    }
    call->decided = true;
    call->rv = rule->code;
    return true;
}

static bool fits(const struct shared *shared, const struct rule *rule, unsigned number,
                 const struct call *call, uint64_t count)
{
    if (rule->function != FN_COUNT && rule->function != call->function)
        return false;
    if (rule->data_size > 0 && (call->data_size != rule->data_size ||
                                memcmp(call->data, rule->data, rule->data_size) != 0))
        return false;
    if (rule->times > 0 && shared->fired[number] >= rule->times)
        return false;
    switch (rule->when) {
    case WHEN_AT:
        return count == rule->number;
    case WHEN_FROM:
        return count >= rule->number;
    case WHEN_RATE:
        return (double)rand() / RAND_MAX < rule->rate;
    default:
        return true;
    }
}

/* Takes the rules that act on this call out of the locked state; they act outside it. */
static unsigned choose(struct call *call, bool after, struct rule *out)
{
    struct shared *shared = state_lock();
    const struct control *control = state_control(shared);
    unsigned count = 0;
    if (!after)
        shared->calls[call->function]++;
    for (unsigned i = 0; i < control->rule_count; i++) {
        const struct rule *rule = &control->rule[i];
        if (rule->after != after || !fits(shared, rule, i, call, shared->calls[call->function]))
            continue;
        out[count++] = *rule;
        shared->fired[i]++;
        state_append("fired", "x", 1);
        if (rule->action != ACTION_DELAY && rule->action != ACTION_GROW)
            break;
    }
    if (!after) {
        call->settings = control->settings;
        call->settings.gone = shared->is_gone;
        pthread_mutex_lock(&mutex);
        removals = shared->removals;
        pthread_mutex_unlock(&mutex);
    }
    state_unlock();
    return count;
}

static void run_rules(struct call *call, bool after)
{
    struct rule rules[RULES_MAX];
    unsigned count = choose(call, after, rules);
    for (unsigned i = 0; i < count; i++)
        if (act(call, &rules[i]))
            break;
}

static bool needs_token(enum function function)
{
    return function != FN_Initialize && function != FN_Finalize && function != FN_GetInfo &&
           function != FN_GetSlotList && function != FN_GetSlotInfo;
}

/* What the token's absence, a broken session or a broken process say before any rule. */
static CK_RV standing_trouble(struct call *call)
{
    CK_RV rv = process_broken;
    pthread_mutex_lock(&mutex);
    const struct session *session = call->session != 0 ? find(call->session) : NULL;
    if (rv == CKR_OK && needs_token(call->function) && call->settings.gone)
        rv = call->session != 0 ? CKR_DEVICE_REMOVED : CKR_TOKEN_NOT_PRESENT;
    if (rv == CKR_OK && session != NULL)
        rv = session->removals != removals ? CKR_SESSION_HANDLE_INVALID : session->broken;
    if (rv == CKR_OK && call->function >= FN_FindObjectsInit && login_removals != removals)
        rv = CKR_USER_NOT_LOGGED_IN;
    for (size_t i = 0; i < 2; i++) {
        uint64_t number = call->object[i] >> HANDLE_BITS;
        if (call->object[i] != 0 && (session == NULL || session->number != number))
            call->stale = true;
    }
    pthread_mutex_unlock(&mutex);
    return rv;
}

bool call_begin(struct call *call)
{
    run_rules(call, false);
    if (!call->decided) {
        CK_RV trouble = standing_trouble(call);
        if (trouble != CKR_OK) {
            call->decided = call->fault = true;
            call->rv = trouble;
        }
    }
    return !call->decided;
}

CK_RV call_end(struct call *call, CK_RV rv)
{
    if (!call->decided) {
        call->rv = rv;
        run_rules(call, true);
    }
    if (call->settings.log)
        log_call(call, NULL);
    return call->rv;
}
