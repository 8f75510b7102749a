#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/config.h"

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
static const struct unit sizes[] = {{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Digits and a unit, without a sign or blanks. */
static bool parse(const char *text, const struct unit *units, size_t unit_count, uint64_t *out)
{
    uint64_t number = 0;
    const char *next = text;
    for (; isdigit((unsigned char)*next); next++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*next - '0'), &number))
            return false;
    if (next == text)
        return false;
    for (size_t i = 0; i < unit_count; i++)
        if (strcmp(next, units[i].name) == 0)
            return !__builtin_mul_overflow(number, units[i].factor, out);
    return false;
}

bool parse_duration_ms(const char *text, uint64_t *out)
{
    return parse(text, durations, COUNT(durations), out);
}

bool parse_size_bytes(const char *text, uint64_t *out)
{
    return parse(text, sizes, COUNT(sizes), out);
}

void format_duration(uint64_t ms, char out[static 24])
{
    const struct unit *unit = durations;
    while (ms % unit->factor != 0)
        unit++;
    if (ms == 0)
        unit = &durations[3]; /* 0s */
    snprintf(out, 24, "%llu%s", (unsigned long long)(ms / unit->factor), unit->name);
}
