/*
 * The limit that P1 is measured against (DESIGN §12): the bare PKCS#11 calls of a rewrap, or of the
 * release of a row key, in as many processes as there are workers. Handles are found once, the
 * wrapped keys are distinct, the processes leave a barrier together, the first second is not
 * counted. It shares no code with what it measures.
 *
 *   p11_reference --module SO --token LABEL --pin-file FILE --suite aes256-kw|aes256-gcm
 *                 [--operation rewrap|release] [--processes N] [--seconds S] [--init-args TEXT]
 */
#include <fcntl.h>
#include <getopt.h>
#include <p11-kit/p11-kit.h>
#include <p11-kit/pkcs11.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROWS 2048
#define KEY_BYTES 32
#define IV_BYTES 12
#define TAG_BYTES 16
#define BINDING_BYTES 32
#define PROCESSES_MAX 64

struct options {
    const char *module, *token, *pin_file, *suite, *operation, *init_args;
    int processes, seconds;
};

struct shared {
    atomic_int ready, go, stop;
    atomic_ullong rows[PROCESSES_MAX];
};

struct row {
    unsigned char wrapped[64];
    unsigned char binding[BINDING_BYTES];
};

struct bench {
    CK_FUNCTION_LIST *p11;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE from, to;
    struct row row[ROWS];
};

static void check(CK_RV rv, const char *what)
{
    if (rv == CKR_OK)
        return;
    fprintf(stderr, "p11_reference: %s says 0x%lx\n", what, rv);
    exit(1);
}

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS class_secret = CKO_SECRET_KEY;
static CK_KEY_TYPE type_aes = CKK_AES;

static void start_module(struct bench *bench, const struct options *o)
{
    struct {
        CK_C_INITIALIZE_ARGS standard;
        void *past_the_end; /* NSS reads it */
    } args = {.standard = {.flags = CKF_OS_LOCKING_OK, .pReserved = (void *)o->init_args}};
    CK_SLOT_ID slots[64], slot = 0;
    CK_ULONG count = 64;
    bool found = false;
    bench->p11 = p11_kit_module_load(o->module, P11_KIT_MODULE_UNMANAGED);
    if (bench->p11 == NULL) {
        fprintf(stderr, "p11_reference: %s does not load\n", o->module);
        exit(1);
    }
    check(bench->p11->C_Initialize(&args), "C_Initialize");
    check(bench->p11->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
    for (CK_ULONG i = 0; i < count && !found; i++) {
        CK_TOKEN_INFO info;
        char label[sizeof info.label + 1] = "";
        if (bench->p11->C_GetTokenInfo(slots[i], &info) != CKR_OK)
            continue;
        memcpy(label, info.label, sizeof info.label);
        for (size_t n = sizeof info.label; n > 0 && label[n - 1] == ' '; n--)
            label[n - 1] = '\0';
        found = strcmp(label, o->token) == 0;
        slot = slots[i];
    }
    if (!found) {
        fprintf(stderr, "p11_reference: no token %s\n", o->token);
        exit(1);
    }
    check(bench->p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                    &bench->session),
          "C_OpenSession");
}

static void log_in(struct bench *bench, const char *pin_file)
{
    unsigned char pin[256];
    int fd = open(pin_file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, pin, sizeof pin) : -1;
    if (n <= 0) {
        perror(pin_file);
        exit(1);
    }
    close(fd);
    if (pin[n - 1] == '\n')
        n--;
    check(bench->p11->C_Login(bench->session, CKU_USER, pin, (CK_ULONG)n), "C_Login");
    memset(pin, 0, sizeof pin);
}

/* Token objects, as master secrets are: SoftHSM looks at their files again at every use. They are
 * destroyed at the end. */
static CK_OBJECT_HANDLE make_master(struct bench *bench, bool wraps)
{
    CK_ULONG bytes = KEY_BYTES;
    CK_BBOOL *kw = wraps ? &yes : &no, *gcm = wraps ? &no : &yes;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class_secret, sizeof class_secret},
        {CKA_KEY_TYPE, &type_aes, sizeof type_aes},
        {CKA_VALUE_LEN, &bytes, sizeof bytes},
        {CKA_TOKEN, &yes, 1},
        {CKA_PRIVATE, &yes, 1},
        {CKA_SENSITIVE, &yes, 1},
        {CKA_EXTRACTABLE, &no, 1},
        {CKA_WRAP, kw, 1},
        {CKA_UNWRAP, kw, 1},
        {CKA_ENCRYPT, gcm, 1},
        {CKA_DECRYPT, gcm, 1},
        {CKA_SIGN, &no, 1},
        {CKA_VERIFY, &no, 1},
        {CKA_DERIVE, &no, 1},
    };
    CK_MECHANISM generate = {.mechanism = CKM_AES_KEY_GEN};
    CK_OBJECT_HANDLE key;
    check(bench->p11->C_GenerateKey(bench->session, &generate, template,
                                    sizeof template / sizeof template[0], &key),
          "C_GenerateKey");
    return key;
}

static CK_OBJECT_HANDLE unwrap(struct bench *bench, CK_OBJECT_HANDLE master,
                               const unsigned char *wrapped, bool sensitive)
{
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class_secret, sizeof class_secret},
        {CKA_KEY_TYPE, &type_aes, sizeof type_aes},
        {CKA_TOKEN, &no, 1},
        {CKA_PRIVATE, &yes, 1},
        {CKA_SENSITIVE, sensitive ? &yes : &no, 1},
        {CKA_EXTRACTABLE, &yes, 1},
        {CKA_ENCRYPT, &no, 1},
        {CKA_DECRYPT, &no, 1},
        {CKA_WRAP, &no, 1},
        {CKA_UNWRAP, &no, 1},
        {CKA_SIGN, &no, 1},
        {CKA_VERIFY, &no, 1},
        {CKA_DERIVE, &no, 1},
    };
    CK_MECHANISM kw = {.mechanism = CKM_AES_KEY_WRAP};
    CK_OBJECT_HANDLE key;
    check(bench->p11->C_UnwrapKey(bench->session, &kw, master, (CK_BYTE_PTR)wrapped, 40, template,
                                  sizeof template / sizeof template[0], &key),
          "C_UnwrapKey");
    return key;
}

static void wrap(struct bench *bench, CK_OBJECT_HANDLE master, CK_OBJECT_HANDLE key,
                 unsigned char *out)
{
    CK_MECHANISM kw = {.mechanism = CKM_AES_KEY_WRAP};
    CK_ULONG length = 64;
    check(bench->p11->C_WrapKey(bench->session, &kw, master, key, out, &length), "C_WrapKey");
    check(bench->p11->C_DestroyObject(bench->session, key), "C_DestroyObject");
}

static void gcm_params(CK_GCM_PARAMS *out, unsigned char *iv, struct row *row)
{
    *out = (CK_GCM_PARAMS){.pIv = iv,
                           .ulIvLen = IV_BYTES,
                           .ulIvBits = IV_BYTES * 8,
                           .pAAD = row->binding,
                           .ulAADLen = BINDING_BYTES,
                           .ulTagBits = TAG_BYTES * 8};
}

static void gcm_open(struct bench *bench, CK_OBJECT_HANDLE master, struct row *row,
                     unsigned char out[static 64])
{
    CK_GCM_PARAMS params;
    gcm_params(&params, row->wrapped, row);
    CK_MECHANISM gcm = {CKM_AES_GCM, &params, sizeof params};
    CK_ULONG length = 64;
    check(bench->p11->C_DecryptInit(bench->session, &gcm, master), "C_DecryptInit");
    check(bench->p11->C_Decrypt(bench->session, row->wrapped + IV_BYTES, KEY_BYTES + TAG_BYTES, out,
                                &length),
          "C_Decrypt");
}

static void gcm_seal(struct bench *bench, CK_OBJECT_HANDLE master, struct row *row,
                     unsigned char *key, unsigned char *out)
{
    unsigned char iv[IV_BYTES];
    CK_GCM_PARAMS params;
    if (getrandom(iv, sizeof iv, 0) != (ssize_t)sizeof iv)
        exit(1);
    gcm_params(&params, iv, row);
    CK_MECHANISM gcm = {CKM_AES_GCM, &params, sizeof params};
    CK_ULONG length = KEY_BYTES + TAG_BYTES;
    check(bench->p11->C_EncryptInit(bench->session, &gcm, master), "C_EncryptInit");
    check(bench->p11->C_Encrypt(bench->session, key, KEY_BYTES, out + IV_BYTES, &length),
          "C_Encrypt");
    memcpy(out, iv, sizeof iv);
}

static void make_rows(struct bench *bench, bool wraps)
{
    bench->from = make_master(bench, wraps);
    bench->to = make_master(bench, wraps);
    for (size_t i = 0; i < ROWS; i++) {
        struct row *row = &bench->row[i];
        unsigned char key[KEY_BYTES];
        CK_ATTRIBUTE template[] = {
            {CKA_CLASS, &class_secret, sizeof class_secret},
            {CKA_KEY_TYPE, &type_aes, sizeof type_aes},
            {CKA_TOKEN, &no, 1},
            {CKA_EXTRACTABLE, &yes, 1},
            {CKA_SENSITIVE, &yes, 1},
            {CKA_VALUE, key, sizeof key},
        };
        CK_OBJECT_HANDLE object;
        if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key ||
            getrandom(row->binding, sizeof row->binding, 0) != (ssize_t)sizeof row->binding)
            exit(1);
        if (!wraps) {
            gcm_seal(bench, bench->from, row, key, row->wrapped);
            continue;
        }
        check(bench->p11->C_CreateObject(bench->session, template,
                                         sizeof template / sizeof template[0], &object),
              "C_CreateObject");
        wrap(bench, bench->from, object, row->wrapped);
    }
}

static void one(struct bench *bench, bool wraps, bool rewraps, size_t n)
{
    unsigned char out[64];
    struct row *row = &bench->row[n % ROWS];
    if (wraps && rewraps) {
        wrap(bench, bench->to, unwrap(bench, bench->from, row->wrapped, true), out);
    } else if (wraps) {
        CK_OBJECT_HANDLE key = unwrap(bench, bench->from, row->wrapped, false);
        CK_ATTRIBUTE value = {CKA_VALUE, out, KEY_BYTES};
        check(bench->p11->C_GetAttributeValue(bench->session, key, &value, 1),
              "C_GetAttributeValue");
        check(bench->p11->C_DestroyObject(bench->session, key), "C_DestroyObject");
    } else {
        unsigned char key[64];
        gcm_open(bench, bench->from, row, key);
        if (rewraps)
            gcm_seal(bench, bench->to, row, key, out);
    }
}

static _Noreturn void run(const struct options *o, struct shared *shared, int number)
{
    struct bench *bench = calloc(1, sizeof *bench);
    bool wraps = strcmp(o->suite, "aes256-kw") == 0, rewraps = strcmp(o->operation, "rewrap") == 0;
    if (bench == NULL)
        exit(1);
    /* One after the other: SoftHSM overlooks a token that another process writes to. */
    while (atomic_load(&shared->ready) < number)
        usleep(1000);
    start_module(bench, o);
    log_in(bench, o->pin_file);
    make_rows(bench, wraps);
    atomic_fetch_add(&shared->ready, 1);
    while (!atomic_load(&shared->go))
        usleep(100);
    for (size_t n = 0; !atomic_load_explicit(&shared->stop, memory_order_relaxed); n++) {
        one(bench, wraps, rewraps, n);
        atomic_store_explicit(&shared->rows[number], n + 1, memory_order_relaxed);
    }
    check(bench->p11->C_DestroyObject(bench->session, bench->from), "C_DestroyObject");
    check(bench->p11->C_DestroyObject(bench->session, bench->to), "C_DestroyObject");
    bench->p11->C_Finalize(NULL);
    _exit(0);
}

static unsigned long long total(struct shared *shared, int processes)
{
    unsigned long long sum = 0;
    for (int i = 0; i < processes; i++)
        sum += atomic_load(&shared->rows[i]);
    return sum;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static bool read_options(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {
        {"module", required_argument, NULL, 'm'},
        {"token", required_argument, NULL, 't'},
        {"pin-file", required_argument, NULL, 'p'},
        {"suite", required_argument, NULL, 's'},
        {"operation", required_argument, NULL, 'o'},
        {"processes", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 'd'},
        {"init-args", required_argument, NULL, 'i'},
        {0},
    };
    *o =
        (struct options){.suite = "aes256-kw", .operation = "rewrap", .processes = 2, .seconds = 5};
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (c) {
        case 'm':
            o->module = optarg;
            break;
        case 't':
            o->token = optarg;
            break;
        case 'p':
            o->pin_file = optarg;
            break;
        case 's':
            o->suite = optarg;
            break;
        case 'o':
            o->operation = optarg;
            break;
        case 'n':
            o->processes = atoi(optarg);
            break;
        case 'd':
            o->seconds = atoi(optarg);
            break;
        case 'i':
            o->init_args = optarg;
            break;
        default:
            return false;
        }
    }
    bool suite = strcmp(o->suite, "aes256-kw") == 0 || strcmp(o->suite, "aes256-gcm") == 0;
    bool operation = strcmp(o->operation, "rewrap") == 0 || strcmp(o->operation, "release") == 0;
    return optind == argc && o->module != NULL && o->token != NULL && o->pin_file != NULL &&
           suite && operation && o->processes > 0 && o->processes <= PROCESSES_MAX &&
           o->seconds > 0;
}

int main(int argc, char **argv)
{
    struct options o;
    if (!read_options(argc, argv, &o)) {
        fputs("usage: p11_reference --module SO --token LABEL --pin-file FILE "
              "--suite aes256-kw|aes256-gcm\n                     [--operation rewrap|release] "
              "[--processes N] [--seconds S] [--init-args TEXT]\n",
              stderr);
        return 2;
    }
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    for (int i = 0; i < o.processes; i++) {
        pid_t pid = fork();
        if (pid == 0)
            run(&o, shared, i);
        if (pid < 0)
            return 1;
    }
    while (atomic_load(&shared->ready) < o.processes) {
        if (waitpid(-1, NULL, WNOHANG) > 0)
            return 1;
        usleep(1000);
    }
    atomic_store(&shared->go, 1);
    sleep(1);
    unsigned long long first = total(shared, o.processes);
    double began = now();
    sleep((unsigned)o.seconds);
    unsigned long long rows = total(shared, o.processes) - first;
    double took = now() - began;
    atomic_store(&shared->stop, 1);
    int failed = 0;
    for (int status; wait(&status) > 0;)
        failed |= status;
    printf("suite=%s operation=%s processes=%d rows_per_second=%.0f\n", o.suite, o.operation,
           o.processes, (double)rows / took);
    return failed != 0;
}
