#include "common/digest.h"

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Read-only once filled: looking an algorithm up by name costs more than hashing a row. */
static struct {
    EVP_MD *sha256;
    EVP_MAC *hmac;
    EVP_CIPHER *aes_256_gcm;
    pthread_key_t contexts_key;
} library;
static pthread_once_t library_once = PTHREAD_ONCE_INIT;

struct contexts {
    EVP_MD_CTX *sha256;
    EVP_MAC_CTX *hmac;
};

static void must(bool worked, const char *what)
{
    if (worked)
        return;
    fprintf(stderr, "OpenSSL cannot %s: out of memory, or its providers are not there\n", what);
    abort();
}

static void contexts_free(void *memory)
{
    struct contexts *contexts = memory;
    EVP_MD_CTX_free(contexts->sha256);
    EVP_MAC_CTX_free(contexts->hmac);
    free(contexts);
}

static void library_fill(void)
{
    library.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    library.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    library.aes_256_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    must(library.sha256 != NULL && library.hmac != NULL && library.aes_256_gcm != NULL &&
             pthread_key_create(&library.contexts_key, contexts_free) == 0,
         "give SHA-256, HMAC and AES-256-GCM");
}

static struct contexts *contexts_of_thread(void)
{
    must(pthread_once(&library_once, library_fill) == 0, "be set up");
    struct contexts *contexts = pthread_getspecific(library.contexts_key);
    if (contexts != NULL)
        return contexts;
    contexts = calloc(1, sizeof *contexts);
    must(contexts != NULL && pthread_setspecific(library.contexts_key, contexts) == 0,
         "make digest contexts");
    contexts->sha256 = EVP_MD_CTX_new();
    contexts->hmac = EVP_MAC_CTX_new(library.hmac);
    char sha256[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha256, 0),
        OSSL_PARAM_construct_end(),
    };
    must(contexts->sha256 != NULL && contexts->hmac != NULL &&
             EVP_MAC_CTX_set_params(contexts->hmac, parameters) == 1,
         "make digest contexts");
    return contexts;
}

void digest_sha256(const void *bytes, size_t count, uint8_t out[static DIGEST_BYTES])
{
    EVP_MD_CTX *context = contexts_of_thread()->sha256;
    must(EVP_DigestInit_ex2(context, library.sha256, NULL) == 1 &&
             EVP_DigestUpdate(context, bytes, count) == 1 &&
             EVP_DigestFinal_ex(context, out, NULL) == 1,
         "make a SHA-256 digest");
}

void digest_hmac_sha256(const uint8_t *key, size_t key_bytes, const void *bytes, size_t count,
                        uint8_t out[static DIGEST_BYTES])
{
    static const uint8_t no_key[DIGEST_BYTES];
    EVP_MAC_CTX *context = contexts_of_thread()->hmac;
    size_t written;
    must(EVP_MAC_init(context, key, key_bytes, NULL) == 1 &&
             EVP_MAC_update(context, bytes, count) == 1 &&
             EVP_MAC_final(context, out, &written, DIGEST_BYTES) == 1 &&
             /* The context lives on in ordinary memory: a new key wipes the old one from it. */
             EVP_MAC_init(context, no_key, sizeof no_key, NULL) == 1,
         "make an HMAC");
}

const EVP_CIPHER *digest_aes_256_gcm(void)
{
    must(pthread_once(&library_once, library_fill) == 0, "be set up");
    return library.aes_256_gcm;
}
