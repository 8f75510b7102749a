#include "common/fault.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum action { ACTION_NONE, ACTION_STOP, ACTION_KILL, ACTION_FAIL };

static const char *const actions[] = {
    [ACTION_STOP] = "stop", [ACTION_KILL] = "kill", [ACTION_FAIL] = "fail"};

static struct {
    char name[64];
    enum action action;
    unsigned at;
    atomic_uint passed;
} armed;
static pthread_once_t armed_once = PTHREAD_ONCE_INIT;

/* A fault that is not understood would be a test that tests nothing: it ends the process. */
static void arm(void)
{
    const char *text = getenv("SSO_HSM_FAULT");
    char action[8];
    if (text == NULL || text[0] == '\0')
        return;
    armed.at = 1;
    if (sscanf(text, "%63[^:]:%7[^:]:%u", armed.name, action, &armed.at) >= 2 && armed.at > 0)
        for (unsigned i = ACTION_STOP; i <= ACTION_FAIL; i++)
            if (strcmp(action, actions[i]) == 0)
                armed.action = (enum action)i;
    if (armed.action == ACTION_NONE) {
        fprintf(stderr, "SSO_HSM_FAULT: %s: wanted NAME:stop|kill|fail[:N]\n", text);
        abort();
    }
}

bool fault_point(const char *name)
{
    pthread_once(&armed_once, arm);
    if (armed.action == ACTION_NONE || strcmp(name, armed.name) != 0 ||
        atomic_fetch_add(&armed.passed, 1) + 1 != armed.at)
        return false;
    if (armed.action != ACTION_FAIL)
        kill(getpid(), armed.action == ACTION_STOP ? SIGSTOP : SIGKILL);
    return armed.action == ACTION_FAIL;
}
