#include "faulty.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CODE(name)                                                                                 \
    {                                                                                              \
        name, #name                                                                                \
    }
static const struct {
    CK_RV code;
    const char *name;
} codes[] = {
    CODE(CKR_HOST_MEMORY),
    CODE(CKR_SLOT_ID_INVALID),
    CODE(CKR_GENERAL_ERROR),
    CODE(CKR_FUNCTION_FAILED),
    CODE(CKR_ARGUMENTS_BAD),
    CODE(CKR_ATTRIBUTE_READ_ONLY),
    CODE(CKR_ATTRIBUTE_SENSITIVE),
    CODE(CKR_ATTRIBUTE_TYPE_INVALID),
    CODE(CKR_ATTRIBUTE_VALUE_INVALID),
    CODE(CKR_DEVICE_ERROR),
    CODE(CKR_DEVICE_MEMORY),
    CODE(CKR_DEVICE_REMOVED),
    CODE(CKR_ENCRYPTED_DATA_INVALID),
    CODE(CKR_FUNCTION_CANCELED),
    CODE(CKR_FUNCTION_NOT_SUPPORTED),
    CODE(CKR_KEY_HANDLE_INVALID),
    CODE(CKR_KEY_FUNCTION_NOT_PERMITTED),
    CODE(CKR_MECHANISM_INVALID),
    CODE(CKR_OBJECT_HANDLE_INVALID),
    CODE(CKR_OPERATION_ACTIVE),
    CODE(CKR_OPERATION_NOT_INITIALIZED),
    CODE(CKR_PIN_INCORRECT),
    CODE(CKR_PIN_LOCKED),
    CODE(CKR_SESSION_CLOSED),
    CODE(CKR_SESSION_COUNT),
    CODE(CKR_SESSION_HANDLE_INVALID),
    CODE(CKR_TEMPLATE_INCONSISTENT),
    CODE(CKR_TOKEN_NOT_PRESENT),
    CODE(CKR_TOKEN_NOT_RECOGNIZED),
    CODE(CKR_USER_ALREADY_LOGGED_IN),
    CODE(CKR_USER_NOT_LOGGED_IN),
    CODE(CKR_WRAPPED_KEY_INVALID),
    CODE(CKR_CRYPTOKI_NOT_INITIALIZED),
};

static const char *const function_names[] = {
#define X(name) "C_" #name,
    FUNCTIONS(X)
#undef X
};

const char *function_name(enum function function)
{
    return function < FN_COUNT ? function_names[function] : "*";
}

static _Noreturn void unreadable(const char *what, const char *word)
{
    fprintf(stderr, "faulty-module: control file: %s: %s\n", what, word != NULL ? word : "");
    _exit(99);
}

/* The words of one line, one after the other. */
struct words {
    char *left;
};

static char *next_word(struct words *words)
{
    return strsep(&words->left, " \t");
}

static char *word_of(struct words *words, const char *what)
{
    char *word = words->left != NULL ? next_word(words) : NULL;
    if (word == NULL || *word == '\0')
        unreadable("something is missing", what);
    return word;
}

static unsigned long number_of(struct words *words, const char *what)
{
    char *word = word_of(words, what), *end;
    unsigned long number = strtoul(word, &end, 0);
    if (*end != '\0')
        unreadable(what, word);
    return number;
}

static CK_RV code_of(struct words *words)
{
    char *word = word_of(words, "a code"), *end;
    CK_RV number = strtoul(word, &end, 0);
    if (*end == '\0')
        return number;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (strcmp(codes[i].name, word) == 0)
            return codes[i].code;
    unreadable("no such code", word);
}

static void read_data(struct rule *rule, const char *hex)
{
    for (; hex[0] != '\0' && hex[1] != '\0' && rule->data_size < RULE_DATA_BYTES; hex += 2) {
        unsigned byte;
        if (sscanf(hex, "%2x", &byte) != 1)
            unreadable("not hex", hex);
        rule->data[rule->data_size++] = (uint8_t)byte;
    }
    if (*hex != '\0' || rule->data_size == 0)
        unreadable("not hex, or too long", hex);
}

static void read_action(struct rule *rule, const char *word, struct words *words)
{
    if (strcmp(word, "return") == 0) {
        rule->action = ACTION_RETURN;
        rule->code = code_of(words);
    } else if (strcmp(word, "break-session") == 0) {
        rule->action = ACTION_BREAK_SESSION;
        rule->code = code_of(words);
    } else if (strcmp(word, "break-process") == 0) {
        rule->action = ACTION_BREAK_PROCESS;
        rule->code = code_of(words);
    } else if (strcmp(word, "delay") == 0) {
        char *spread = word_of(words, "a delay");
        rule->action = ACTION_DELAY;
        int n = sscanf(spread, "%lu..%lu", &rule->low, &rule->high);
        if (n < 1)
            unreadable("no delay", spread);
        if (n == 1)
            rule->high = rule->low;
    } else if (strcmp(word, "hang") == 0) {
        rule->action = ACTION_HANG;
        rule->low = number_of(words, "seconds to hang");
    } else if (strcmp(word, "grow") == 0) {
        rule->action = ACTION_GROW;
        rule->low = number_of(words, "bytes to grow");
    } else if (strcmp(word, "crash") == 0) {
        rule->action = ACTION_CRASH;
    } else if (strcmp(word, "remove") == 0) {
        rule->action = ACTION_REMOVE;
        rule->code = CKR_DEVICE_REMOVED;
    } else {
        unreadable("no such action", word);
    }
}

static void read_rule(struct control *out, const char *name, struct words *words)
{
    if (out->rule_count == RULES_MAX)
        unreadable("too many rules", name);
    struct rule *rule = &out->rule[out->rule_count++];
    *rule = (struct rule){.function = FN_COUNT};
    for (size_t i = 0; i < FN_COUNT; i++)
        if (strcmp(function_names[i], name) == 0)
            rule->function = (enum function)i;
    if (rule->function == FN_COUNT && strcmp(name, "*") != 0)
        unreadable("no such setting or function", name);
    for (;;) {
        char *word = word_of(words, "an action");
        if (strcmp(word, "at") == 0 || strcmp(word, "from") == 0) {
            rule->when = *word == 'a' ? WHEN_AT : WHEN_FROM;
            rule->number = number_of(words, "the number of a call");
        } else if (strcmp(word, "rate") == 0) {
            rule->when = WHEN_RATE;
            rule->rate = strtod(word_of(words, "a rate"), NULL);
        } else if (strcmp(word, "times") == 0) {
            rule->times = number_of(words, "a number of times");
        } else if (strcmp(word, "data") == 0) {
            read_data(rule, word_of(words, "data"));
        } else if (strcmp(word, "after") == 0) {
            rule->after = true;
        } else {
            read_action(rule, word, words);
            return;
        }
    }
}

static bool read_flag(struct settings *out, const char *word)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {
        {"log", &out->log},
        {"gone", &out->gone},
        {"emptied", &out->emptied},
        {"hide-session-limit", &out->hide_session_limit},
        {"refuse-non-sensitive", &out->refuse_non_sensitive},
        {"refuse-plaintext", &out->refuse_plaintext},
        {"refuse-copyable", &out->refuse_copyable},
        {"hide-foreign", &out->hide_foreign},
        {"want-unwrap-length", &out->want_unwrap_length},
    };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(flags[i].name, word) == 0) {
            *flags[i].flag = true;
            return true;
        }
    }
    return false;
}

static enum gcm_iv gcm_iv_of(const char *mode)
{
    static const char *const modes[] = {"caller", "param", "zeros", "front", "within", "appended"};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(modes[i], mode) == 0)
            return (enum gcm_iv)i;
    unreadable("no such mode of IVs", mode);
}

static void read_line(struct control *control, char *line)
{
    struct settings *out = &control->settings;
    struct words words = {line};
    line[strcspn(line, "#\n")] = '\0';
    while (*words.left == ' ')
        words.left++;
    for (size_t n = strlen(words.left); n > 0 && words.left[n - 1] == ' ';)
        words.left[--n] = '\0';
    if (*words.left == '\0')
        return;
    char *word = next_word(&words);
    if (read_flag(out, word)) {
        ;
    } else if (strcmp(word, "serial") == 0) {
        snprintf(out->serial, sizeof out->serial, "%s", word_of(&words, "a serial"));
    } else if (strcmp(word, "sessions") == 0) {
        out->sessions = (unsigned)number_of(&words, "a number of sessions");
        if (words.left != NULL)
            out->sessions_code = code_of(&words);
    } else if (strcmp(word, "pin-tries") == 0) {
        out->pin_tries = (unsigned)number_of(&words, "a number of tries");
    } else if (strcmp(word, "gcm-iv") == 0) {
        out->gcm_iv = gcm_iv_of(word_of(&words, "a mode of IVs"));
    } else {
        read_rule(control, word, &words);
    }
    if (words.left != NULL)
        unreadable("more than was expected", words.left);
}

void control_read(const char *path, struct control *out)
{
    char line[1024];
    *out = (struct control){.settings.sessions_code = CKR_SESSION_COUNT};
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        read_line(out, line);
    fclose(file);
}
