/* Numbered points at which a test can stop, kill or fail a process on purpose. The build option
 * `fault_points` chooses between fault_on.c, which obeys SSO_HSM_FAULT, and fault_off.c, where they
 * are nothing; programs that are shipped are built without. */
#ifndef SSO_COMMON_FAULT_H
#define SSO_COMMON_FAULT_H

#include <stdbool.h>

/* SSO_HSM_FAULT=NAME:ACTION[:N]: at the N-th passage (default 1) of the point NAME, ACTION is
 * `stop` (SIGSTOP to the own process), `kill` (SIGKILL) or `fail` (true is returned, and the caller
 * fails as if the call that follows had failed). */
bool fault_point(const char *name);

#endif
