#include <stdio.h>
#include <string.h>

#include "cli/entsso_xml.h"
#include "common/policy.h"

/* One application while it is read. */
struct reading {
    struct entsso *entsso;
    const xmlNode *node;
    json_t *object; /* what the API takes */
    json_t *field[FIELDS_MAX + 1];
    bool of_group, of_configuration;
};

static void set_text(struct reading *reading, const xmlNode *node, const char *member)
{
    char text[ENTSSO_TEXT_BYTES];
    if (entsso_text(reading->entsso, node, text))
        json_object_set_new(reading->object, member, json_string(text));
}

/* One or, in order, several accounts with semicolons between them. */
static void set_accounts(struct reading *reading, const xmlNode *node, bool users)
{
    char text[ENTSSO_TEXT_BYTES], *rest = text, *account;
    json_t *list = json_array();
    if (!entsso_text(reading->entsso, node, text))
        text[0] = '\0';
    while ((account = strsep(&rest, ";")) != NULL) {
        account += strspn(account, " \t\r\n");
        if (account[0] == '\0')
            continue;
        const char *here = entsso_translate(reading->entsso, node, account);
        if (here != NULL)
            json_array_append_new(list, json_string(here));
    }
    if (users)
        json_object_set(reading->object, "users", list);
    else if (json_array_size(list) > 1)
        entsso_fault(reading->entsso, node, "an application has one group of administrators here");
    else if (json_array_size(list) == 1)
        json_object_set(reading->object, "admins", json_array_get(list, 0));
    json_decref(list);
}

static void read_field(struct reading *reading, const xmlNode *node)
{
    unsigned long ordinal = FIELDS_MAX + 1;
    bool masked = false;
    const char *label = NULL;
    struct entsso *entsso = reading->entsso;
    for (const xmlAttr *each = node->properties; each != NULL; each = each->next) {
        const char *name = (const char *)each->name;
        const char *value = each->children != NULL ? (const char *)each->children->content : "";
        if (strcasecmp(name, "ordinal") == 0) {
            if (!entsso_number(entsso, node, name, value, 0, FIELDS_MAX, &ordinal))
                return;
        } else if (strcasecmp(name, "masked") == 0) {
            entsso_yes(entsso, node, name, value, &masked);
        } else if (strcasecmp(name, "label") == 0) {
            label = value;
        } else {
            entsso_fault(entsso, node, "the attribute %s is not known here", name);
        }
    }
    if (label == NULL || label[0] == '\0' || ordinal > FIELDS_MAX)
        entsso_fault(entsso, node, "wants ordinal and label");
    else if (reading->field[ordinal] != NULL)
        entsso_fault(entsso, node, "the ordinal %lu stands here twice", ordinal);
    else
        reading->field[ordinal] = json_pack("{s:s,s:b}", "label", label, "masked", masked);
}

static void set_flag(struct reading *reading, const xmlNode *node, const char *name, bool yes)
{
    /* What is there, and what it is called here; `member` NULL: it means nothing here. */
    static const struct {
        const char *name, *member;
        bool negated, silent;
    } flags[] = {
        {"allowTickets", "allow_tickets", false, false},
        {"validateTickets", "validate_tickets", false, false},
        {"enableApp", "enabled", false, false},
        {"disableCredCache", "cache", true, false},
        {"windowsInitiatedSSO", NULL, false, true}, /* all there is here */
        {"allowLocalAccounts", NULL, false, true},  /* the map says who is who */
        {"adminAccountSame", NULL, false, false},
        {"hostInitiatedSSO", NULL, false, false},
        {"validatePassword", NULL, false, true}, /* of host-initiated sign-on */
    };
    if (strcasecmp(name, "groupApp") == 0) {
        reading->of_group = yes;
        return;
    }
    if (strcasecmp(name, "configStoreApp") == 0) {
        reading->of_configuration = yes;
        return;
    }
    if (strcasecmp(name, "timeoutTickets") == 0) {
        if (!yes)
            entsso_note(reading->entsso, node, "%s is left out: tickets always expire here", name);
        return;
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcasecmp(flags[i].name, name) != 0)
            continue;
        if (flags[i].member != NULL)
            json_object_set_new(reading->object, flags[i].member,
                                json_boolean(yes != flags[i].negated));
        else if (yes && !flags[i].silent)
            entsso_note(reading->entsso, node, "%s has no meaning here and is left out", name);
        return;
    }
    entsso_fault(reading->entsso, node, "the flag %s is not known here", name);
}

static void set_ticket_lifetime(struct reading *reading, const xmlNode *node, const char *name,
                                const char *value)
{
    unsigned long minutes;
    if (entsso_number(reading->entsso, node, name, value, 1, TICKET_LIFETIME_MS_MAX / 60000,
                      &minutes))
        json_object_set_new(reading->object, "ticket_lifetime_minutes",
                            json_integer((json_int_t)minutes));
}

static void read_flags(struct reading *reading, const xmlNode *node)
{
    for (const xmlAttr *each = node->properties; each != NULL; each = each->next) {
        const char *name = (const char *)each->name;
        const char *value = each->children != NULL ? (const char *)each->children->content : "";
        bool yes = false;
        if (strcasecmp(name, "appTicketTimeout") == 0)
            set_ticket_lifetime(reading, node, name, value);
        else if (entsso_yes(reading->entsso, node, name, value, &yes))
            set_flag(reading, node, name, yes);
    }
}

static void read_child(struct reading *reading, const xmlNode *node)
{
    if (entsso_is(node, "description"))
        set_text(reading, node, "description");
    else if (entsso_is(node, "contact"))
        set_text(reading, node, "contact");
    else if (entsso_is(node, "appUserAccount"))
        set_accounts(reading, node, true);
    else if (entsso_is(node, "appAdminAccount"))
        set_accounts(reading, node, false);
    else if (entsso_is(node, "field"))
        read_field(reading, node);
    else if (entsso_is(node, "flags"))
        read_flags(reading, node);
    else if (entsso_is(node, "windowsAccount"))
        entsso_fault(reading->entsso, node,
                     "host groups (host-initiated sign-on) do not exist here");
    else
        entsso_fault(reading->entsso, node, "is not known in an application");
}

static void read_name(struct reading *reading)
{
    bool named = false;
    for (const xmlAttr *each = reading->node->properties; each != NULL; each = each->next) {
        const char *value = each->children != NULL ? (const char *)each->children->content : "";
        if (strcasecmp((const char *)each->name, "name") == 0)
            named = json_object_set_new(reading->object, "name", json_string(value)) == 0;
        else
            entsso_fault(reading->entsso, reading->node, "the attribute %s is not known here",
                         (const char *)each->name);
    }
    if (!named)
        entsso_fault(reading->entsso, reading->node, "has no name");
}

/* Field 0 is the user's name over there: here that is the external user, and no field. */
static void finish_fields(struct reading *reading)
{
    json_t *fields = json_array();
    size_t first = reading->of_configuration ? 0 : 1;
    bool gap = false;
    for (size_t i = 0; i <= FIELDS_MAX; i++) {
        if (reading->field[i] != NULL && gap)
            entsso_fault(reading->entsso, reading->node, "the ordinals of its fields have a gap");
        gap = gap || reading->field[i] == NULL;
        if (reading->field[i] != NULL && i >= first)
            json_array_append(fields, reading->field[i]);
        json_decref(reading->field[i]);
    }
    if (json_array_size(fields) == 0 || json_array_size(fields) > FIELDS_MAX)
        entsso_fault(reading->entsso, reading->node, "has no field, or too many%s",
                     first == 1 ? ", besides field 0, the user's name" : "");
    json_object_set_new(reading->object, "fields", fields);
}

void entsso_application(struct entsso *entsso, const xmlNode *node)
{
    struct reading reading = {.entsso = entsso, .node = node, .object = json_object()};
    read_name(&reading);
    for (const xmlNode *child = entsso_element(node->children); child != NULL;
         child = entsso_element(child->next))
        read_child(&reading, child);
    if (reading.of_group && reading.of_configuration)
        entsso_fault(entsso, node, "is a group application and a configuration store at once");
    json_object_set_new(
        reading.object, "type",
        json_string(application_type_name(reading.of_configuration ? APPLICATION_CONFIG
                                          : reading.of_group       ? APPLICATION_GROUP
                                                                   : APPLICATION_INDIVIDUAL)));
    finish_fields(&reading);
    json_array_append_new(entsso->apps, reading.object);
    json_array_append_new(entsso->app_places, entsso_place(entsso, node));
}
