#include "tokens.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <p11-kit/pkcs11.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOFTHSM "/usr/lib/softhsm/libsofthsm2.so"
/* A PIN of a test needs no 10,000 rounds of PBKDF2, which every login would pay. */
#define NSS_QUICK "NSS_MAX_MP_PBE_ITERATION_COUNT=1"
#define NSS "/usr/lib/x86_64-linux-gnu/libsoftokn3.so"

static void must(bool held, const char *what)
{
    if (held)
        return;
    perror(what);
    abort();
}

static int run(char *const argv[])
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDOUT_FILENO);
        execvp(argv[0], argv);
        _exit(127);
    }
    int status = 0;
    must(pid > 0 && waitpid(pid, &status, 0) == pid, "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

__attribute__((format(printf, 1, 2))) static char *text(const char *format, ...)
{
    char *out = NULL;
    va_list args;
    va_start(args, format);
    must(vasprintf(&out, format, args) >= 0, "vasprintf");
    va_end(args);
    return out;
}

void test_token_set_pin(struct test_token *token, const char *pin)
{
    char *path = text("%s/pin", token->folder);
    (void)unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    must(fd >= 0 && dprintf(fd, "%s\n", pin) > 0 && close(fd) == 0, "PIN file");
    free(path);
}

void test_token_make_faulty(struct test_token *token)
{
    char *environment = text("%s,FAULTY_MODULE=%s,FAULTY_FOLDER=%s/faulty",
                             token->section.environment, token->section.module, token->folder);
    char *folder = text("%s/faulty", token->folder);
    must(mkdir(folder, 0700) == 0 || errno == EEXIST, folder);
    free(folder);
    free(token->section.environment);
    free(token->section.module);
    token->section.environment = environment;
    token->section.module = strdup(getenv("FAULTY_MODULE"));
}

void test_token_control(const struct test_token *token, const char *format, ...)
{
    char *fresh = text("%s/faulty/control.new", token->folder),
         *path = text("%s/faulty/control", token->folder);
    char *fired = text("%s/faulty/fired", token->folder);
    va_list args;
    va_start(args, format);
    FILE *file = fopen(fresh, "w");
    must(file != NULL && vfprintf(file, format, args) >= 0 && fclose(file) == 0, fresh);
    va_end(args);
    (void)unlink(fired);
    must(rename(fresh, path) == 0, path);
    free(fresh);
    free(path);
    free(fired);
}

long test_token_count(const struct test_token *token, const char *name)
{
    struct stat st;
    char *path = text("%s/faulty/%s", token->folder, name);
    long size = stat(path, &st) == 0 ? (long)st.st_size : 0;
    free(path);
    return size;
}

void test_token_select(struct test_token *token, const char *label)
{
    free(token->section.token);
    token->section.token = text("pkcs11:token=%s?pin-source=file:%s/pin", label, token->folder);
}

static void make_softhsm(struct test_token *token, const char *const *labels)
{
    char *conf = text("%s/softhsm2.conf", token->folder);
    char *tokens = text("%s/tokens", token->folder);
    must(mkdir(tokens, 0700) == 0, tokens);
    FILE *file = fopen(conf, "w");
    must(file != NULL, conf);
    fprintf(file, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens);
    fclose(file);
    setenv("SOFTHSM2_CONF", conf, 1);
    for (; *labels != NULL; labels++) {
        char *argv[] = {"softhsm2-util", "--init-token", "--free", "--label", (char *)*labels,
                        "--so-pin",      "so-" TEST_PIN, "--pin",  TEST_PIN,  NULL};
        must(run(argv) == 0, "softhsm2-util");
    }
    unsetenv("SOFTHSM2_CONF");
    token->section.module = strdup(SOFTHSM);
    token->section.environment = text("SOFTHSM2_CONF=%s", conf);
    free(conf);
    free(tokens);
}

/* In a child: a module that this process has initialised once is never quite gone. The PIN of a new
 * key database is set in the mode that it will be used in, since FIPS mode has rules for it. */
static void init_nss(const char *module, const char *init_args)
{
    struct {
        CK_C_INITIALIZE_ARGS standard;
        void *past_the_end;
    } args = {.standard = {.flags = CKF_OS_LOCKING_OK, .pReserved = (void *)init_args}};
    pid_t pid = fork();
    if (pid == 0) {
        putenv((char[]){NSS_QUICK});
        void *library = dlopen(module, RTLD_NOW);
        CK_C_GetFunctionList get = NULL;
        void *symbol = library != NULL ? dlsym(library, "C_GetFunctionList") : NULL;
        memcpy(&get, &symbol, sizeof get);
        CK_FUNCTION_LIST *p11 = NULL;
        CK_SESSION_HANDLE session;
        CK_SLOT_ID slots[8];
        CK_ULONG count = 8;
        /* The last slot is the key database; without FIPS mode there is one before it, without
         * keys of its own. */
        bool done = get != NULL && get(&p11) == CKR_OK && p11->C_Initialize(&args) == CKR_OK &&
                    p11->C_GetSlotList(CK_TRUE, slots, &count) == CKR_OK && count > 0 &&
                    p11->C_OpenSession(slots[count - 1], CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL,
                                       NULL, &session) == CKR_OK &&
                    p11->C_Login(session, CKU_SO, (CK_BYTE_PTR) "", 0) == CKR_OK &&
                    p11->C_InitPIN(session, (CK_BYTE_PTR)TEST_PIN, sizeof TEST_PIN - 1) == CKR_OK;
        if (done)
            p11->C_Finalize(NULL);
        _exit(done ? 0 : 1);
    }
    int status = 0;
    must(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "NSS token");
}

static void make_nss(struct test_token *token, const char *module, const char *label)
{
    token->section.module = strdup(module);
    token->section.environment = strdup(NSS_QUICK);
    token->section.init_args = text("configDir='sql:%s' certPrefix='' keyPrefix='' "
                                    "secmod='secmod.db' dbTokenDescription='%s' "
                                    "FIPSTokenDescription='%s'",
                                    token->folder, label, label);
    token->section.weak_token_accepted = true;
    init_nss(module, token->section.init_args);
}

/* `control`: what faulty-module obeys in front of SoftHSM; NULL: it is not there. */
static const struct {
    const char *name, *control;
} kinds[TOKEN_KINDS] = {
    [TOKEN_SOFTHSM] = {"softhsm", NULL},
    [TOKEN_NSS] = {"nss", NULL},
    [TOKEN_NSS_FIPS] = {"nss-fips", NULL},
    [TOKEN_SHUT] = {"shut", "refuse-plaintext\nrefuse-non-sensitive\n"},
    [TOKEN_LENGTH] = {"length", "want-unwrap-length\n"},
    [TOKEN_IV_PARAM] = {"iv-param", "gcm-iv param\n"},
    [TOKEN_IV_ZEROS] = {"iv-zeros", "gcm-iv zeros\n"},
    [TOKEN_IV_FRONT] = {"iv-front", "gcm-iv front\n"},
    [TOKEN_IV_WITHIN] = {"iv-within", "gcm-iv within\n"},
    [TOKEN_IV_APPENDED] = {"iv-appended", "gcm-iv appended\n"},
};

enum token_kind test_token_kind(const char *name)
{
    for (size_t i = 0; name != NULL && i < TOKEN_KINDS; i++)
        if (strcmp(name, kinds[i].name) == 0)
            return (enum token_kind)i;
    must(name == NULL, name);
    return TOKEN_SOFTHSM;
}

const char *test_token_kind_name(enum token_kind kind)
{
    return kinds[kind].name;
}

/* Where the library is that a kind of token comes from, and the module that is to be loaded. */
static const char *module_of(enum token_kind kind, const char **module)
{
    const char *shim = getenv("NSS_FIPS_MODULE");
    bool nss = kind == TOKEN_NSS || kind == TOKEN_NSS_FIPS;
    *module = !nss ? SOFTHSM : kind == TOKEN_NSS ? NSS : shim;
    must(*module != NULL, "NSS_FIPS_MODULE");
    return nss ? NSS : SOFTHSM;
}

bool test_token_new(struct test_token *token, enum token_kind kind, const char *const *labels)
{
    const char *module = NULL;
    *token = (struct test_token){.section = {.name = strdup(""),
                                             .workers = 2,
                                             .sessions_per_worker = CONFIG_AUTO,
                                             .worker_memory_limit_bytes = 256u << 20,
                                             .deadline_ms = 10000}};
    if (access(module_of(kind, &module), R_OK) != 0)
        return false;
    snprintf(token->folder, sizeof token->folder, "%s", "/tmp/sso-pkcs11-XXXXXX");
    must(mkdtemp(token->folder) != NULL, "mkdtemp");
    snprintf(token->state, sizeof token->state, "%s/state", token->folder);
    must(mkdir(token->state, 0700) == 0, token->state);
    test_token_set_pin(token, TEST_PIN);
    if (kind == TOKEN_NSS || kind == TOKEN_NSS_FIPS)
        make_nss(token, module, labels[0]);
    else
        make_softhsm(token, labels);
    if (kinds[kind].control != NULL) {
        test_token_make_faulty(token);
        test_token_control(token, "%s", kinds[kind].control);
    }
    /* Each worker makes an RSA key of its own there, which takes a second on a busy machine. */
    if (kind == TOKEN_NSS_FIPS || kind == TOKEN_SHUT)
        token->section.workers = 1;
    test_token_select(token, labels[0]);
    return true;
}

void test_token_free(struct test_token *token)
{
    if (token->folder[0] != '\0') {
        char *argv[] = {"rm", "-rf", "--", token->folder, NULL};
        run(argv);
    }
    free(token->section.name);
    free(token->section.module);
    free(token->section.init_args);
    free(token->section.environment);
    free(token->section.token);
    *token = (struct test_token){0};
}

/* Parent and name of a process; a worker is a child of a child of ours. */
static bool process(int pid, int *parent, char name[static 64])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    bool known = file != NULL && fscanf(file, "%*d (%63[^)]) %*c %d", name, parent) == 2;
    if (file != NULL)
        fclose(file);
    return known;
}

int test_worker_pids(int *pids, int maximum)
{
    int count = 0;
    DIR *proc = opendir("/proc");
    must(proc != NULL, "/proc");
    for (struct dirent *entry; (entry = readdir(proc)) != NULL && count < maximum;) {
        int pid = atoi(entry->d_name), parent = 0, grandparent = 0;
        char name[64] = "", other[64] = "";
        if (pid > 0 && process(pid, &parent, name) && strcmp(name, "sso-hsm-worker") == 0 &&
            process(parent, &grandparent, other) && grandparent == getpid())
            pids[count++] = pid;
    }
    closedir(proc);
    return count;
}

void test_token_environment(const struct test_token *token)
{
    char *copy = text("%s", token->section.environment), *left = copy;
    for (char *pair; (pair = strsep(&left, ",")) != NULL;) {
        char *value = strchr(pair, '=');
        must(value != NULL, pair);
        *value = '\0';
        must(setenv(pair, value + 1, 1) == 0, pair);
    }
    free(copy);
}

bool test_token_spawner(const struct test_token *token, struct spawner **spawner)
{
    struct sso_error err = {0};
    spawner_stop(spawner);
    if (spawner_start(getenv("SSO_HSM_WORKER"), &token->section, 1, spawner, &err) == SSO_OK)
        return true;
    fprintf(stderr, "%s\n", err.detail);
    return false;
}
