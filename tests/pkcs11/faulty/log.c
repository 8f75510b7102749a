#include "faulty.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES_MAX 2048

struct line {
    char text[LINE_BYTES_MAX];
    size_t length;
};

static void __attribute__((format(printf, 2, 3))) say(struct line *line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof line->text - line->length;
    int n = vsnprintf(line->text + line->length, room, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= room)
        _exit(99); /* a log that leaves something out would prove nothing */
    line->length += (size_t)n;
}

static void say_value(struct line *line, const CK_ATTRIBUTE *attribute)
{
    CK_ULONG number;
    if (attribute->pValue != NULL && attribute->ulValueLen == sizeof(CK_BBOOL)) {
        say(line, "%u", *(const CK_BBOOL *)attribute->pValue);
    } else if (attribute->pValue != NULL && attribute->ulValueLen == sizeof number) {
        memcpy(&number, attribute->pValue, sizeof number);
        say(line, "%lu", number);
    } else {
        say(line, "*");
    }
}

static void say_attributes(struct line *line, const char *name, const CK_ATTRIBUTE *attribute,
                           CK_ULONG count, bool asked)
{
    for (CK_ULONG i = 0; i < count; i++) {
        if (i == 0)
            say(line, " %s=", name);
        say(line, "%s0x%lx:", i > 0 ? "," : "", attribute[i].type);
        if (asked)
            say(line, "%ld", (long)attribute[i].ulValueLen);
        else
            say_value(line, &attribute[i]);
    }
}

void log_call(const struct call *call, const char *end)
{
    struct line line = {.length = 0};
    say(&line, "%lld %d %s session=%lu objects=%lx,%lx rv=", (long long)now_us(), getpid(),
        function_name(call->function), call->session, call->object[0], call->object[1]);
    if (end != NULL)
        say(&line, "%s", end);
    else
        say(&line, "0x%lx", call->rv);
    say(&line, "%s%s", call->fault ? " fault" : "", call->stale ? " stale" : "");
    say_attributes(&line, "attributes", call->template, call->template_count,
                   call->function == FN_GetAttributeValue);
    say_attributes(&line, "public", call->public, call->public_count, false);
    if (call->made[0] != 0)
        say(&line, " made=%lx,%lx", call->made[0], call->made[1]);
    say(&line, "\n");
    state_append("calls", line.text, line.length);
}
