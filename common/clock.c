#include "common/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec now = {0};
    (void)clock_gettime(id, &now); /* both clocks exist on every Linux that this runs on */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t wall_clock_ms(void)
{
    return read_clock(CLOCK_REALTIME);
}

int64_t boot_clock_ms(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

char *rfc3339(int64_t wall_ms, char out[static RFC3339_SIZE])
{
    /* Rounded down, before 1970 too, without leaving the range. */
    int64_t milliseconds = wall_ms % 1000;
    time_t seconds = (time_t)(wall_ms / 1000);
    if (milliseconds < 0) {
        milliseconds += 1000;
        seconds--;
    }
    struct tm utc;
    out[0] = '\0';
    if (wall_ms != 0 && gmtime_r(&seconds, &utc) != NULL && utc.tm_year >= -1900 &&
        utc.tm_year <= 9999 - 1900) {
        size_t used = strftime(out, RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
        snprintf(out + used, RFC3339_SIZE - used, ".%03dZ", (int)milliseconds);
    }
    return out;
}

bool rfc3339_parse(const char *text, int64_t *wall_ms)
{
    struct tm utc = {0};
    int milliseconds = -1, used = 0;
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &utc.tm_year, &utc.tm_mon, &utc.tm_mday,
               &utc.tm_hour, &utc.tm_min, &utc.tm_sec, &milliseconds, &used) != 7 ||
        used == 0 || text[used] != '\0')
        return false;
    utc.tm_year -= 1900;
    utc.tm_mon--;
    *wall_ms = (int64_t)timegm(&utc) * 1000 + milliseconds;
    /* Whatever sscanf and timegm were generous with is not what was written. */
    char again[RFC3339_SIZE];
    return strcmp(rfc3339(*wall_ms, again), text) == 0;
}

struct timespec monotonic_after(uint64_t ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(ms / 1000);
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

void monotonic_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}
