/* Log lines as key=value on standard error, with journald's priority prefix (sd-daemon(3)) where
 * the journal listens. Never a secret, never what a user sent unescaped: values are quoted and
 * escaped by log_event. */
#ifndef SSO_COMMON_LOG_H
#define SSO_COMMON_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

void log_init(const char *program, enum log_level lowest);

/* Is a line of this level written? */
bool log_wants(enum log_level level);

/* One line: time, level, program, message, then pairs of (const char *key, const char *value) ended
 * by NULL. log_line(LOG_LEVEL_WARNING, "worker replaced", "token", name, "reason", why, NULL); */
void log_line(enum log_level level, const char *message, ...) __attribute__((sentinel));

#endif
