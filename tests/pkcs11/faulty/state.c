#include "faulty.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int state_fd = -1;
static struct shared *state;
static struct control control;
static struct stat control_seen;
static bool control_known;
static int64_t process_began_us;

int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void path_of(const char *name, char out[static 512])
{
    const char *folder = getenv("FAULTY_FOLDER");
    if (folder == NULL || snprintf(out, 512, "%s/%s", folder, name) >= 512) {
        fputs("faulty-module: FAULTY_FOLDER is not set\n", stderr);
        _exit(99);
    }
}

static int open_file(const char *name, int flags)
{
    char path[512];
    path_of(name, path);
    int fd = open(path, flags | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        fprintf(stderr, "faulty-module: %s: %s\n", path, strerror(errno));
        _exit(99);
    }
    return fd;
}

void state_append(const char *name, const void *bytes, size_t size)
{
    int fd = open_file(name, O_WRONLY | O_APPEND);
    if (write(fd, bytes, size) != (ssize_t)size)
        _exit(99);
    close(fd);
}

/* A sparse file of the right size reads as zeros: nothing has to be initialised. */
static void map_state(void)
{
    state_fd = open_file("state", O_RDWR);
    if (ftruncate(state_fd, sizeof *state) != 0)
        _exit(99);
    state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
    if (state == MAP_FAILED)
        _exit(99);
}

struct shared *state_lock(void)
{
    pthread_mutex_lock(&mutex);
    if (state == NULL)
        map_state();
    while (flock(state_fd, LOCK_EX) != 0 && errno == EINTR)
        ;
    return state;
}

void state_unlock(void)
{
    flock(state_fd, LOCK_UN);
    pthread_mutex_unlock(&mutex);
}

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void begin_edition(struct shared *shared, const struct stat *seen)
{
    uint64_t edition[2] = {(uint64_t)seen->st_ino, (uint64_t)seen->st_mtim.tv_sec * 1000000000u +
                                                       (uint64_t)seen->st_mtim.tv_nsec};
    if (memcmp(edition, shared->edition, sizeof edition) == 0)
        return;
    memcpy(shared->edition, edition, sizeof edition);
    memset(shared->calls, 0, sizeof shared->calls);
    memset(shared->fired, 0, sizeof shared->fired);
    shared->removals += control.settings.gone && !shared->is_gone;
    shared->is_gone = control.settings.gone;
}

const struct control *state_control(struct shared *shared)
{
    char path[512];
    struct stat now = {0};
    path_of("control", path);
    (void)stat(path, &now);
    if (!control_known || !same(&now, &control_seen)) {
        control_read(path, &control);
        control_seen = now;
        control_known = true;
        begin_edition(shared, &now);
    }
    return &control;
}

unsigned state_sessions(struct shared *shared)
{
    unsigned count = 0;
    for (size_t i = 0; i < PROCESSES_MAX; i++) {
        if (shared->process[i].pid == 0)
            continue;
        if (kill(shared->process[i].pid, 0) != 0 && errno == ESRCH) {
            shared->process[i].pid = 0;
            shared->process[i].sessions = 0;
        }
        count += shared->process[i].sessions;
    }
    return count;
}

void state_count_session(struct shared *shared, int change)
{
    size_t place = PROCESSES_MAX;
    (void)state_sessions(shared); /* forgets the dead */
    for (size_t i = 0; i < PROCESSES_MAX; i++) {
        if (shared->process[i].pid == getpid()) {
            place = i;
            break;
        }
        if (shared->process[i].pid == 0 && place == PROCESSES_MAX)
            place = i;
    }
    if (place == PROCESSES_MAX)
        _exit(99);
    shared->process[place].pid = getpid();
    if (change > 0 || shared->process[place].sessions > 0)
        shared->process[place].sessions += (unsigned)change;
}

void state_note_object(struct shared *shared, const uint8_t id[static 16])
{
    unsigned place = shared->objects_made++ % OBJECTS_MAX; /* of the oldest, where all are taken */
    memcpy(shared->object[place].id, id, 16);
    shared->object[place].pid = getpid();
    shared->object[place].made_us = now_us();
}

bool state_is_foreign(struct shared *shared, const uint8_t id[static 16])
{
    for (unsigned i = 0; i < shared->objects_made && i < OBJECTS_MAX; i++)
        if (memcmp(shared->object[i].id, id, 16) == 0)
            return shared->object[i].pid != getpid() &&
                   shared->object[i].made_us > process_began_us;
    return false;
}

void state_begin_process(void)
{
    process_began_us = now_us();
}
