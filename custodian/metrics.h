/* Counters of this process and their text for Prometheus. Thread-safe; nothing
 * here waits for anything. */
#ifndef SSO_CUSTODIAN_METRICS_H
#define SSO_CUSTODIAN_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "custodian/operations.h"

struct custodian;
struct metrics;

enum sso_code metrics_new(struct metrics **out, struct sso_error *err)
    __attribute__((warn_unused_result));
void metrics_free(struct metrics **metrics);

int64_t metrics_now_microseconds(void); /* boot clock */

/* One request that was answered; `operation` NULL: there is none of that name. */
void metrics_observe(struct metrics *metrics, const struct operation *operation,
                     enum sso_code outcome, int64_t microseconds);

/* One that was refused before it was looked at: over a limit. */
void metrics_turned_away(struct metrics *metrics);

/* Connections of the listener: open now, and refused since the start. */
void metrics_connection(struct metrics *metrics, int change);
void metrics_connection_refused(struct metrics *metrics);
void metrics_handshake_failed(struct metrics *metrics);

/* All of them, with what pools, cache, rotation and database know; what is down is left out. In
 * Prometheus' text format 0.0.4 or as OpenMetrics 1.0. From wiping_malloc; NULL: no memory. */
char *metrics_text(struct custodian *custodian, bool openmetrics);

#endif
