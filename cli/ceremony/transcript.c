#include "cli/ceremony/transcript.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/digest.h"

void transcript_say(struct encoder *out, const char *format, ...)
{
    char line[BACKUP_AUDIT_KEY_SIZE + 2 * PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    encode_fixed(out, line, strlen(line));
}

void transcript_audit_key(const struct audit_key *key, char out[static BACKUP_AUDIT_KEY_SIZE])
{
    char uri[TOKEN_URI_SIZE], id[2 * AUDIT_KEY_ID_BYTES + 1], point[2 * AUDIT_PUBLIC_KEY_BYTES + 1];
    token_identity_uri(&key->token, uri);
    hex_encode(key->id, sizeof key->id, id);
    hex_encode(key->public_key, sizeof key->public_key, point);
    snprintf(out, BACKUP_AUDIT_KEY_SIZE, "%s %s %s", uri, id, point);
}

static void say_key(struct encoder *out, const struct backing_witness *witness)
{
    char hex[2 * SECRET_ID_BYTES + 1], uri[TOKEN_URI_SIZE];
    struct hsm_status status;
    hsm_status(witness->pool, &status);
    hex_encode(witness->generation->secret_id, SECRET_ID_BYTES, hex);
    token_identity_uri(&witness->token->token, uri);
    transcript_say(out, "generation:   %" PRIu32 ", secret id %s, %s\n",
                   witness->generation->number, hex, suite_name(witness->generation->suite));
    transcript_say(out, "token:        %s\n", uri);
    transcript_say(out, "firmware:     %s\n",
                   status.firmware[0] != '\0' ? status.firmware : "not said");
    transcript_say(out, "evidence:     %s\n", witness->token->evidence);
    if (witness->token->weak)
        transcript_say(
            out, "WEAK TOKEN:   a required check failed and was accepted by the configuration\n");
    transcript_signer(witness->signer, out);
}

void transcript_signer(const struct signer *signer, struct encoder *out)
{
    char key[BACKUP_AUDIT_KEY_SIZE];
    if (!signer->present)
        return;
    transcript_audit_key(&signer->key, key);
    transcript_say(out, "audit key:    %s\n", key);
}

void transcript_share_set(const struct share_set *set, bool new_set, struct encoder *out)
{
    char time[RFC3339_SIZE], hex[2 * SHARE_FINGERPRINT_BYTES + 1];
    transcript_say(out, "share set:    %s of %s, %u of %u shares%s, %s\n", set->id,
                   rfc3339(set->created_ms, time), set->scheme.threshold, set->scheme.count,
                   set->passphrase ? ", with a passphrase" : "",
                   new_set ? "handed out now" : "handed out before");
    for (unsigned i = 0; i < set->scheme.count; i++) {
        hex_encode(set->fingerprint[i], SHARE_FINGERPRINT_BYTES, hex);
        transcript_say(out, "share %2u:     fingerprint %s\n", i + 1, hex);
    }
}

static void say_backup(struct encoder *out, const struct backing *backing)
{
    transcript_say(out, "backup file:  %s\n", backing->options->backup);
    transcript_say(out, "its SHA-256:  %s\n", backing->digest);
    transcript_say(
        out, "proven:       the master secret in the token was installed by unwrapping this very "
             "backup\n");
}

static enum sso_code sign(const struct ceremony *ceremony, const struct signer *signer,
                          struct encoder *out, struct sso_error *err)
{
    uint8_t signature[AUDIT_SIGNATURE_BYTES];
    char hex[2 * AUDIT_SIGNATURE_BYTES + 1];
    struct signed_text text = {"transcript", out->data, out->length_bytes};
    if (!signer->present) {
        transcript_say(out, "signature:    none: the token has no audit signing key\n");
        return SSO_OK;
    }
    enum sso_code rc = signer_sign(ceremony, signer, &text, signature, err);
    hex_encode(signature, sizeof signature, hex);
    if (rc == SSO_OK)
        transcript_say(out, "signature:    %s\n", hex);
    return rc;
}

static void say_signatures(struct encoder *out, unsigned officers)
{
    transcript_say(out, "\nSigned by hand, after comparing what is above with what was seen:\n\n"
                        "  ceremony leader   ____________________  ____________________\n");
    for (unsigned i = 0; i < officers; i++)
        transcript_say(out, "  officer %2u        ____________________  ____________________\n",
                       i + 1);
    transcript_say(out, "  witness           ____________________  ____________________\n");
}

void transcript_head(const struct ceremony *ceremony, const char *name, struct encoder *out)
{
    char time[RFC3339_SIZE], host[256] = "", id[2 * SYSTEM_ID_BYTES + 1];
    gethostname(host, sizeof host - 1);
    hex_encode(ceremony->system.id, SYSTEM_ID_BYTES, id);
    transcript_say(out, "sso-hsm transcript 1\n");
    transcript_say(out, "ceremony:     %s\n", name);
    transcript_say(out, "system:       %s, id %s\n", ceremony->system.name, id);
    transcript_say(out, "time:         %s\n", rfc3339(wall_clock_ms(), time));
    transcript_say(out, "host:         %s, node %s, sso-hsm %s\n", host,
                   ceremony->config->cluster.node, SSO_HSM_VERSION);
    transcript_say(out, "at the console: %s\n", ceremony->person.name);
}

enum sso_code transcript_end(const struct ceremony *ceremony, const struct signer *signer,
                             unsigned officers, struct encoder *out, struct sso_error *err)
{
    enum sso_code rc = sign(ceremony, signer, out, err);
    say_signatures(out, officers);
    if (rc == SSO_OK && out->failed)
        rc = sso_fail(err, SSO_NO_MEMORY, "no memory for the transcript");
    return rc;
}

enum sso_code transcript_compose(const struct ceremony *ceremony, const struct backing *backing,
                                 const struct backing_witness *witness, struct encoder *out,
                                 struct sso_error *err)
{
    transcript_head(ceremony, witness->ceremony, out);
    say_key(out, witness);
    transcript_share_set(&backing->set, backing->new_set, out);
    say_backup(out, backing);
    return transcript_end(ceremony, witness->signer,
                          backing->new_set ? backing->set.scheme.count : 0, out, err);
}

enum sso_code transcript_record(const struct ceremony *ceremony, const struct encoder *transcript,
                                struct audit_record *out, struct sso_error *err)
{
    uint8_t digest[DIGEST_BYTES];
    char hex[2 * DIGEST_BYTES + 1], target[160];
    digest_sha256(transcript->data, transcript->length_bytes, digest);
    hex_encode(digest, sizeof digest, hex);
    snprintf(target, sizeof target, "transcript sha256 %s", hex);
    return console_record(ceremony, "ceremony.transcript", target, out, err);
}
