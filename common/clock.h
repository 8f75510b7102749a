/* Time. Wall-clock times are for people (milliseconds since 1970); durations and deadlines are
 * measured on CLOCK_BOOTTIME, which no administrator moves. */
#ifndef SSO_COMMON_CLOCK_H
#define SSO_COMMON_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define RFC3339_SIZE 32

int64_t wall_clock_ms(void);
int64_t boot_clock_ms(void);

/* Conditions know no CLOCK_BOOTTIME: a point on CLOCK_MONOTONIC, the next best, and a condition
 * that is waited for until such a point. */
struct timespec monotonic_after(uint64_t ms);
void monotonic_condition_init(pthread_cond_t *condition);

/* 2026-01-31T09:30:00.123Z into out; 0 gives the empty string. Returns out. */
char *rfc3339(int64_t wall_ms, char out[static RFC3339_SIZE]);
/* The way back, of exactly what rfc3339 writes. */
bool rfc3339_parse(const char *text, int64_t *wall_ms);

#endif
