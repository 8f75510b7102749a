/*
 * The frames between a token's pool and its workers, over a stream socketpair (DESIGN §4.1).
 *
 *   request  u32 length · u32 id · u8 kind · body
 *   reply    u32 length · u32 id · u8 flags · u16 code · u64 resident bytes · u32 work µs · body
 *
 * `length` counts what follows it. Both ends read strictly: an overlong frame, a value out of its
 * range or bytes left over end the conversation. Row keys travel in MAKE, WRAP and UNWRAP, so both
 * ends keep their buffers in locked memory.
 */
#ifndef SSO_PKCS11_FRAME_H
#define SSO_PKCS11_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/encode.h"
#include "common/error.h"
#include "pkcs11/hsm.h"

/* A power of two: the locked heap hands out nothing else. Bounds a frame, its length included. */
#define FRAME_BYTES_MAX 32768
#define FRAME_ITEMS_MAX 320

/* Session threads of one worker. */
#define SESSIONS_MAX 32

enum frame_kind {
    FRAME_HELLO = 1, /* load the module, find the token */
    FRAME_LOGIN,     /* read the PIN, log in, open the sessions */
    FRAME_OPEN,      /* find a generation's key and open its canary */
    FRAME_FORGET,
    FRAME_MAKE,
    FRAME_WRAP,
    FRAME_UNWRAP,
    FRAME_REWRAP,
    FRAME_GENERATE,
    FRAME_EVIDENCE,
    FRAME_DESTROY,
    FRAME_PROBE,
    FRAME_LIST,       /* the master secrets of a system that the token holds */
    FRAME_TAKE_UP,    /* canary and evidence of one that was made elsewhere, made anew */
    FRAME_AUDIT_MAKE, /* the audit signing key of this token */
    FRAME_AUDIT_SIGN,
    FRAME_AUDIT_DESTROY,
    /* Ceremonies with a backup: worker_backup.c. */
    FRAME_RANDOM,
    FRAME_GENERATE_BACKED,
    FRAME_TRY_BACKUP,
    FRAME_INSTALL_BACKUP,
    FRAME_REWRAP_BACKUP,
    FRAME_MEASURE, /* how fast the canary of a generation opens in so many sessions at once */
    FRAME_BENCH,   /* how fast a suite's calls are, with keys of the worker's own */
    FRAME_KINDS
};

/* The worker has done all it can with its module: start another. The frame was not to blame. */
#define REPLY_REPLACE_ME 1
/* To FRAME_LOGIN: C_Login said something else than that the PIN is right or wrong. */
#define REPLY_LOGIN_DOUBTFUL 2
/* To FRAME_LOGIN: the PIN was right, and something after it failed. */
#define REPLY_LOGIN_WORKED 4
/* To FRAME_LOGIN: the token has no session left. */
#define REPLY_NO_SESSION 8

struct reply_header {
    uint32_t id;
    uint8_t flags;
    enum sso_code code; /* not SSO_OK: the body is the text */
    uint64_t resident_bytes;
    uint32_t work_microseconds;
};

/* What a worker needs to begin. Texts are views. */
struct hello_request {
    const char *module, *init_args, *token;
    uint32_t sessions;
    bool weak_token_accepted;
};

/* What tells one PIN source from another, and from itself after a change. Never a PIN. */
struct pin_source_facts {
    char source[512]; /* "" where the token wants no login */
    uint64_t device, inode, size_bytes;
    int64_t modified_ns;
};

/* The same source, unchanged? */
bool pin_source_same(const struct pin_source_facts *a, const struct pin_source_facts *b);

struct hello_reply {
    struct token_identity token;
    char firmware[16];
    bool pin_count_low, pin_final_try, pin_locked;
    uint32_t sessions_max; /* of the token, over all its users; 0: it does not say, or no limit */
    struct pin_source_facts pin;
};

/* What came of FRAME_MEASURE (generation, sessions, milliseconds, operations at most). */
struct measurement {
    uint32_t sessions; /* as many as the token gave */
    uint32_t operations;
    uint32_t wall_microseconds, best_microseconds; /* in all, and for the fastest of them */
    uint32_t cpu_microseconds;                     /* of this process */
};

/* A buffer of FRAME_BYTES_MAX in locked memory that is filled from a socket. */
struct frame_reader {
    uint8_t *buffer;
    size_t have_bytes;  /* from the start of the buffer */
    size_t taken_bytes; /* of the frame that frame_next handed out last */
};

enum sso_code frame_buffer_new(uint8_t **out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Begins a frame in `out`, a fixed encoder over a buffer of FRAME_BYTES_MAX. */
void frame_begin_request(struct encoder *out, uint32_t id, enum frame_kind kind);
void frame_begin_reply(struct encoder *out, const struct reply_header *header);
/* Writes the header of a finished reply anew: its times are known only at the end. */
void frame_patch_reply(struct encoder *out, const struct reply_header *header);
/* Writes the length. SSO_TOO_LARGE where the frame does not fit its buffer. */
enum sso_code frame_finish(struct encoder *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* A view of the next whole frame that is in the buffer, without its length. The view stays until
 * the next call. False: there is none yet. `reader->have_bytes` of SIZE_MAX: the length is absurd.
 */
bool frame_next(struct frame_reader *reader, struct decoder *out);
bool frame_reader_broken(const struct frame_reader *reader);
/* Reads what is there. 1: something came, 0: nothing now (a non-blocking socket), -1: end or error.
 */
int frame_fill(struct frame_reader *reader, int socket, int flags);
/* Sends it all, waiting where the socket is full until `deadline_ms` (0: for ever). */
bool frame_send(int socket, const struct encoder *frame, int64_t deadline_ms);

bool frame_get_request_header(struct decoder *in, uint32_t *id, enum frame_kind *kind);
bool frame_get_reply_header(struct decoder *in, struct reply_header *out);

void frame_put_hello(struct encoder *out, const struct hello_request *hello);
void frame_put_hello_reply(struct encoder *out, const struct hello_reply *reply);
bool frame_get_hello_reply(struct decoder *in, struct hello_reply *out);
void frame_put_measurement(struct encoder *out, const struct measurement *measurement);
bool frame_get_measurement(struct decoder *in, struct measurement *out);
void frame_put_generation(struct encoder *out, const struct generation_key *key);
bool frame_get_generation(struct decoder *in, struct generation_key *out);
void frame_put_wrapped(struct encoder *out, const struct wrapped_key *wrapped);
void frame_get_wrapped(struct decoder *in, struct wrapped_key *out);
void frame_put_evidence(struct encoder *out, const struct evidence *evidence);
bool frame_get_evidence(struct decoder *in, struct evidence *out);
void frame_put_check(struct encoder *out, const struct check *check);
bool frame_get_check(struct decoder *in, struct check *out);
/* At most TOKEN_KEYS_MAX fit. */
void frame_put_token_key(struct encoder *out, const struct token_key *key);
bool frame_get_token_key(struct decoder *in, struct token_key *out);

/* One item of a batch on its way to the worker, and what came of it. `item->row_key` must point to
 * ROW_KEY_BYTES where the kind carries a row key in that direction. */
void frame_put_item(struct encoder *out, enum frame_kind kind, const struct key_item *item);
void frame_get_item(struct decoder *in, enum frame_kind kind, struct key_item *item);
void frame_put_result(struct encoder *out, enum frame_kind kind, const struct key_item *item);
void frame_get_result(struct decoder *in, enum frame_kind kind, struct key_item *item);
/* How many items of a kind fit, request and reply. */
size_t frame_capacity(enum frame_kind kind);

#endif
