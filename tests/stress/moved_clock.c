/*
 * Preloaded into the custodian: an administrator who sets the wall clock. MOVED_CLOCK names a file
 * of one number of 64 bits, shared with the test: by how many seconds the clock is ahead. Other
 * clocks are what they are.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t ahead_seconds(void)
{
    static _Atomic(_Atomic int64_t *) shared;
    _Atomic int64_t *known = atomic_load(&shared);
    const char *path = getenv("MOVED_CLOCK");
    if (known == NULL && path != NULL) {
        int file = open(path, O_RDWR | O_CLOEXEC);
        void *mapped = file >= 0 ? mmap(NULL, sizeof *known, PROT_READ, MAP_SHARED, file, 0) : NULL;
        if (file >= 0)
            close(file);
        if (mapped == NULL || mapped == MAP_FAILED)
            return 0;
        known = mapped;
        atomic_store(&shared, known);
    }
    return known != NULL ? atomic_load(known) : 0;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, id, now);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += ahead_seconds();
    return result;
}

time_t time(time_t *out)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now = {0};
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    *out = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return result;
}
