/* Writes docs/events.md from the table of events: events-doc > docs/events.md. A test compares. */
#include <stdio.h>

#include "custodian/events.h"

static const char *const severity_names[] = {
    [SEVERITY_INFO] = "info", [SEVERITY_WARNING] = "warning", [SEVERITY_ERROR] = "error"};

int main(void)
{
    puts(
        "# Events\n\n"
        "Made from the table in `custodian/events.c` by `events-doc`. A *lasting* event stands in "
        "health until its\ncause is gone, and is logged once when it begins and once when it ends; "
        "the others are logged each time.\n"
        "An *error* concerns the whole system, a *warning* a part of it or what may come.\n");
    for (int i = 0; i < EVENTS; i++) {
        const struct event_facts *event = &event_table[i];
        printf("## %s\n\n%s, %s. %s\n\n*What to do:* %s\n%s", event->name,
               severity_names[event->severity], event->lasting ? "lasting" : "each time",
               event->meaning, event->remedy, i + 1 < EVENTS ? "\n" : "");
    }
    return 0;
}
