#include "store/rotation.h"

#include <stddef.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const char *const state_names[] = {
    [ROTATION_NONE] = "none",
    [ROTATION_PREPARING] = "preparing",
    [ROTATION_RUNNING] = "running",
    [ROTATION_PAUSED] = "paused",
    [ROTATION_CANCELLED] = "cancelled",
    [ROTATION_COMPLETED] = "completed",
    [ROTATION_COMPLETED_WITH_ERRORS] = "completed_with_errors",
    [ROTATION_FAILED] = "failed",
};

static const char *const phase_names[] = {
    [PHASE_PREPARE] = "prepare", [PHASE_SWITCH] = "switch", [PHASE_STREAM] = "stream",
    [PHASE_FINISH] = "finish",   [PHASE_VERIFY] = "verify",
};

const char *rotation_state_name(enum rotation_state state)
{
    return (size_t)state < COUNT(state_names) ? state_names[state] : "unknown";
}

const char *rotation_phase_name(enum rotation_phase phase)
{
    bool known = phase >= PHASE_PREPARE && (size_t)phase < COUNT(phase_names);
    return known ? phase_names[phase] : "unknown";
}
