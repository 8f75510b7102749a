#include "pkcs11/worker_process.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

enum sso_code worker_process_init(struct worker_process *process, struct spawner *spawner,
                                  struct sso_error *err)
{
    *process = (struct worker_process){.spawner = spawner, .socket = -1};
    enum sso_code code = frame_buffer_new(&process->reader.buffer, err);
    if (code == SSO_OK)
        code = frame_buffer_new(&process->out.data, err);
    process->out.capacity_bytes = FRAME_BYTES_MAX;
    process->out.fixed = true;
    return code;
}

void worker_process_free(struct worker_process *process)
{
    worker_process_end(process, false);
    secret_dealloc(process->reader.buffer);
    secret_dealloc(process->out.data);
    process->reader.buffer = NULL;
    process->out.data = NULL;
}

enum sso_code worker_process_start(struct worker_process *process, const struct config_hsm *section,
                                   unsigned sessions, struct sso_error *err)
{
    process->reader.have_bytes = 0;
    process->reader.taken_bytes = 0;
    process->reply_flags = 0;
    process->hangs = false;
    return spawner_spawn(process->spawner, section->name != NULL ? section->name : "", sessions,
                         &process->socket, &process->pid, err);
}

void worker_process_end(struct worker_process *process, bool kill)
{
    if (process->socket < 0)
        return;
    close(process->socket);
    process->socket = -1;
    if (kill)
        spawner_kill(process->spawner, process->pid);
}

static enum sso_code wait_for_frame(struct worker_process *process, int64_t deadline_ms,
                                    struct decoder *out, struct sso_error *err)
{
    while (!frame_next(&process->reader, out)) {
        int64_t left = deadline_ms - boot_clock_ms();
        struct pollfd ready = {.fd = process->socket, .events = POLLIN};
        int n = left > 0 ? poll(&ready, 1, (int)left) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0) {
            process->hangs = true;
            return sso_fail(err, SSO_HSM_UNAVAILABLE,
                            "a worker did not answer in time: the module or its token hangs");
        }
        if (n < 0 || frame_fill(&process->reader, process->socket, MSG_DONTWAIT) < 0)
            return sso_fail(err, SSO_HSM_UNAVAILABLE,
                            "a worker ended before it answered: the module crashed, or somebody "
                            "killed it");
    }
    return SSO_OK;
}

static enum sso_code receive(struct worker_process *process, uint32_t id, int64_t deadline_ms,
                             struct decoder *reply, bool *died, struct sso_error *err)
{
    struct reply_header header;
    *died = true;
    enum sso_code code = wait_for_frame(process, deadline_ms, reply, err);
    if (code != SSO_OK)
        return code;
    if (!frame_get_reply_header(reply, &header) || header.id != id)
        return sso_fail(err, SSO_HSM_UNAVAILABLE, "a worker answered with a damaged frame");
    *died = false;
    process->reply_flags = header.flags;
    if (header.code != SSO_OK) {
        char text[SSO_ERROR_DETAIL_BYTES] = "";
        decode_text(reply, text, sizeof text);
        return sso_fail(err, header.code, "%s", text);
    }
    return SSO_OK;
}
enum sso_code worker_process_greeting(struct worker_process *process, unsigned deadline_ms,
                                      struct decoder *reply, bool *died, struct sso_error *err)
{
    return receive(process, SPAWNER_HELLO_ID, boot_clock_ms() + deadline_ms, reply, died, err);
}

enum sso_code worker_process_call(struct worker_process *process, enum frame_kind kind,
                                  const struct encoder *body, unsigned deadline_ms,
                                  struct decoder *reply, bool *died, struct sso_error *err)
{
    int64_t deadline = boot_clock_ms() + deadline_ms;
    uint32_t id = ++process->next_id;
    frame_begin_request(&process->out, id, kind);
    if (body != NULL)
        encode_fixed(&process->out, body->data, body->length_bytes);
    enum sso_code code = frame_finish(&process->out, err);
    if (code != SSO_OK)
        return code;
    *died = true;
    bool sent = frame_send(process->socket, &process->out, deadline);
    encoder_clear(&process->out); /* a ceremony's frame holds a wrapping key */
    if (!sent)
        return sso_fail(err, SSO_HSM_UNAVAILABLE, "a worker ended before it was asked");
    return receive(process, id, deadline, reply, died, err);
}
