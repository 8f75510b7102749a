/* sso-hsm-worker: the only program that loads a PKCS#11 module (DESIGN §4.1). It is started by the
 * spawner with its end of a socketpair as descriptor 3, and learns all else in the first frame. */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "pkcs11/pin_handed.h"
#include "pkcs11/spawner.h"
#include "pkcs11/worker.h"

int main(void)
{
    wiping_allocator_install();
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* The service drains before it lets its workers go: they end with their socket, not with a
     * signal that systemd or a terminal sends to everybody. */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    umask(077);
    int type = 0;
    socklen_t size = sizeof type;
    if (getsockopt(WORKER_SOCKET_FD, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
        fputs("sso-hsm-worker is started by sso-custodian and sso-hsm only\n", stderr);
        return 2;
    }
    close_range(WORKER_PIN_FD + 1, ~0U, 0);
    log_init("sso-hsm-worker", LOG_LEVEL_INFO);
    worker_run(WORKER_SOCKET_FD);
}
