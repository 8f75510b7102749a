#include <string.h>

#include "common/encode.h"
#include "common/json.h"
#include "common/secret.h"
#include "store/sql_rows.h"

/* Fields and groups as JSON: 32 labels or 16 groups, each byte escaped at worst. */
#define JSON_BYTES_MAX 65536

void sql_bind_folded(struct sql_statement *statement, const char *name,
                     char folded[static APPLICATION_NAME_SIZE])
{
    size_t length = strlen(name);
    if (length >= APPLICATION_NAME_SIZE) { /* there is none */
        sql_bind_text(statement, name);
        return;
    }
    for (size_t i = 0; i <= length; i++)
        folded[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] - 'A' + 'a' : name[i]);
    sql_bind_text(statement, folded);
}

/* --- fields and groups --- */

static char *fields_json(const struct application *application)
{
    json_t *array = json_array();
    for (size_t i = 0; i < application->field_count; i++) {
        const struct application_field *field = &application->field[i];
        json_array_append_new(
            array, json_pack("{s:s, s:b}", "label", field->label, "masked", (int)field->masked));
    }
    /* An append that failed shows as an array that is too short. */
    bool whole = json_array_size(array) == application->field_count;
    char *text = whole ? json_line(array) : NULL;
    json_decref(array);
    return text;
}

static char *groups_json(const struct application *application)
{
    json_t *array = json_array();
    for (size_t i = 0; i < application->user_group_count; i++)
        json_array_append_new(array, json_string(application->users[i]));
    bool whole = json_array_size(array) == application->user_group_count;
    char *text = whole ? json_line(array) : NULL;
    json_decref(array);
    return text;
}

/* What a thread read last: lookups one after the other are of few applications, and parsing the
 * same JSON again was a good part of each. */
struct known {
    size_t length; /* 0: nothing */
    char text[1024];
    size_t count;
    union {
        struct application_field field[FIELDS_MAX];
        char users[GROUPS_MAX][GROUP_BYTES_MAX + 1];
    };
};

static bool is_known(const struct known *known, const char *text, size_t length)
{
    return length > 0 && known->length == length && memcmp(known->text, text, length) == 0;
}

static void know(struct known *known, const char *text, size_t length, const void *elements,
                 size_t count, size_t bytes)
{
    known->length = length <= sizeof known->text ? length : 0;
    memcpy(known->text, text, known->length);
    memcpy(known->field, elements, bytes);
    known->count = count;
}

static json_t *parse_array(struct sql_statement *s, const char *text, size_t length, size_t maximum)
{
    json_t *array = text != NULL ? json_parse(text, length, NULL) : NULL;
    if (!json_is_array(array) || json_array_size(array) > maximum)
        s->damaged = true;
    return array;
}

static bool copy_text(const json_t *value, char *out, size_t size)
{
    size_t length = json_string_length(value);
    if (!json_is_string(value) || length == 0 || length >= size)
        return false;
    memcpy(out, json_string_value(value), length + 1);
    return strlen(out) == length;
}

static void parse_fields(struct sql_statement *s, const char *text, size_t length,
                         struct application *application)
{
    json_t *array = parse_array(s, text, length, FIELDS_MAX);
    size_t count = s->damaged ? 0 : json_array_size(array);
    for (size_t i = 0; i < count; i++) {
        struct application_field *field = &application->field[i];
        const json_t *value = json_array_get(array, i);
        const json_t *masked = json_object_get(value, "masked");
        if (!copy_text(json_object_get(value, "label"), field->label, sizeof field->label) ||
            !json_is_boolean(masked) || json_object_size(value) != 2)
            s->damaged = true;
        field->masked = json_is_true(masked);
    }
    application->field_count = count;
    json_decref(array);
}

static void read_fields(struct sql_statement *s, struct application *application)
{
    static _Thread_local struct known known;
    size_t length;
    const char *text = sql_view_text(s, JSON_BYTES_MAX, &length);
    if (is_known(&known, text, length)) {
        memcpy(application->field, known.field, sizeof known.field);
        application->field_count = known.count;
        return;
    }
    parse_fields(s, text, length, application);
    if (!s->damaged)
        know(&known, text, length, application->field, application->field_count,
             sizeof application->field);
}

static void parse_groups(struct sql_statement *s, const char *text, size_t length,
                         struct application *application)
{
    json_t *array = parse_array(s, text, length, GROUPS_MAX);
    size_t count = s->damaged ? 0 : json_array_size(array);
    for (size_t i = 0; i < count; i++)
        if (!copy_text(json_array_get(array, i), application->users[i],
                       sizeof application->users[i]))
            s->damaged = true;
    application->user_group_count = count;
    json_decref(array);
}

static void read_groups(struct sql_statement *s, struct application *application)
{
    static _Thread_local struct known known;
    size_t length;
    const char *text = sql_view_text(s, JSON_BYTES_MAX, &length);
    if (is_known(&known, text, length)) {
        memcpy(application->users, known.users, sizeof known.users);
        application->user_group_count = known.count;
        return;
    }
    parse_groups(s, text, length, application);
    if (!s->damaged)
        know(&known, text, length, application->users, application->user_group_count,
             sizeof application->users);
}

void sql_read_application(struct sql_statement *s, void *out)
{
    struct application *application = out;
    sql_read_bytes(s, application->id, sizeof application->id);
    sql_read_name(s, application->name, sizeof application->name);
    application->type =
        (enum application_type)sql_read_integer(s, APPLICATION_INDIVIDUAL, APPLICATION_CONFIG);
    application->enabled = sql_read_bool(s);
    application->cached = sql_read_bool(s);
    application->tickets_allowed = sql_read_bool(s);
    application->tickets_validated = sql_read_bool(s);
    application->ticket_lifetime_ms = sql_read_integer(s, 0, TICKET_LIFETIME_MS_MAX);
    application->ticket_lifetime_since_ms = sql_read_time(s);
    sql_read_text(s, application->description, sizeof application->description);
    sql_read_text(s, application->contact, sizeof application->contact);
    read_fields(s, application);
    sql_read_text(s, application->admins, sizeof application->admins);
    read_groups(s, application);
    sql_read_text(s, application->readers, sizeof application->readers);
    application->created_ms = sql_read_time(s);
    application->updated_ms = sql_read_time(s);
    application->version = sql_read_u64(s);
    sql_read_bytes(s, application->tag, sizeof application->tag);
}

/* --- reading --- */

static enum sso_code read_one(struct sql_statement *s, struct application *out,
                              struct sso_error *err)
{
    bool found = false;
    enum sso_code rc = sql_step(s, &found, err);
    if (rc != SSO_OK)
        return rc;
    if (!found)
        return sso_fail(err, SSO_NOT_FOUND, "the application does not exist");
    struct application application = {0};
    sql_read_application(s, &application);
    if ((rc = sql_check_row(s, "an application", err)) == SSO_OK)
        *out = application;
    return rc;
}

static enum sso_code get(struct store_tx *tx, const char *name, struct application *out,
                         struct sso_error *err)
{
    static const char sql[] =
        "SELECT " APPLICATION_COLUMNS " FROM applications AS a WHERE lower(a.name) = ?";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    char folded[APPLICATION_NAME_SIZE];
    sql_bind_folded(&statement, name, folded);
    rc = read_one(&statement, out, err);
    return rc != SSO_NOT_FOUND ? rc : sso_fail(err, rc, "application %s does not exist", name);
}

static enum sso_code get_by_id(struct store_tx *tx, const uint8_t id[static APPLICATION_ID_BYTES],
                               struct application *out, struct sso_error *err)
{
    static const char sql[] =
        "SELECT " APPLICATION_COLUMNS " FROM applications AS a WHERE a.id = ?";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, id, APPLICATION_ID_BYTES);
    return read_one(&statement, out, err);
}

/* Its name is for a text about it. */
static void distrust(void *element)
{
    struct application *application = element;
    application->enabled = false;
    memset(application->tag, 0, sizeof application->tag);
}

static enum sso_code list(struct store_tx *tx, struct application **out, size_t *count,
                          struct sso_error *err)
{
    static const char sql[] =
        "SELECT " APPLICATION_COLUMNS " FROM applications AS a ORDER BY lower(a.name)";
    static const struct sql_list rows = {"an application", sizeof **out, sql_read_application,
                                         distrust};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    return rc != SSO_OK ? rc : sql_collect(&statement, &rows, out, count, err);
}

/* --- writing --- */

static enum sso_code run_with_row(struct store_tx *tx, const char *sql,
                                  const struct application *application, uint64_t *changed,
                                  struct sso_error *err)
{
    enum sso_code rc;
    char *fields = fields_json(application);
    char *groups = groups_json(application);
    struct sql_statement s = {0};
    if (fields == NULL || groups == NULL) {
        rc = sso_fail(err, SSO_BAD_REQUEST,
                      "fields and groups of application %s must be UTF-8 text", application->name);
        goto out;
    }
    if ((rc = sql_prepare(tx, sql, &s, err)) != SSO_OK)
        goto out;
    sql_bind_bytes(&s, application->id, sizeof application->id);
    sql_bind_text(&s, application->name);
    sql_bind_integer(&s, application->type);
    sql_bind_integer(&s, application->enabled);
    sql_bind_integer(&s, application->cached);
    sql_bind_integer(&s, application->tickets_allowed);
    sql_bind_integer(&s, application->tickets_validated);
    sql_bind_integer(&s, application->ticket_lifetime_ms);
    sql_bind_integer(&s, application->ticket_lifetime_since_ms);
    sql_bind_text(&s, application->description);
    sql_bind_text(&s, application->contact);
    sql_bind_text(&s, fields);
    sql_bind_text(&s, application->admins);
    sql_bind_text(&s, groups);
    sql_bind_text(&s, application->readers);
    sql_bind_integer(&s, application->created_ms);
    sql_bind_integer(&s, application->updated_ms);
    sql_bind_u64(&s, application->version);
    sql_bind_bytes(&s, application->tag, sizeof application->tag);
    rc = sql_run(&s, changed, err);
out:
    sql_finish(&s);
    wiping_free(fields);
    wiping_free(groups);
    return rc;
}

static enum sso_code insert(struct store_tx *tx, const struct application *application,
                            struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO applications (id, name, type, enabled, cached, tickets_allowed,"
        " tickets_validated, ticket_lifetime_ms, ticket_lifetime_since_ms, description, contact,"
        " fields, admins, users, readers, created_ms, updated_ms, version, tag)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    uint64_t inserted = 0;
    enum sso_code rc = run_with_row(tx, sql, application, &inserted, err);
    if (rc == SSO_OK && inserted != 1)
        return sso_fail(err, SSO_ALREADY_EXISTS, "application %s exists already",
                        application->name);
    return rc;
}

static enum sso_code update(struct store_tx *tx, const struct application *application,
                            struct sso_error *err)
{
    static const char sql[] =
        "UPDATE applications SET name = ?2, type = ?3, enabled = ?4, cached = ?5,"
        " tickets_allowed = ?6, tickets_validated = ?7, ticket_lifetime_ms = ?8,"
        " ticket_lifetime_since_ms = ?9, description = ?10, contact = ?11, fields = ?12,"
        " admins = ?13, users = ?14, readers = ?15, created_ms = ?16, updated_ms = ?17,"
        " version = ?18, tag = ?19 WHERE id = ?1 AND version = ?18 - 1";
    uint64_t changed = 0;
    enum sso_code rc = run_with_row(tx, sql, application, &changed, err);
    if (rc == SSO_OK && changed != 1)
        return sso_fail(err, SSO_VERSION_CONFLICT, "application %s has changed meanwhile",
                        application->name);
    return rc;
}

static enum sso_code run_with_id(struct store_tx *tx, const char *sql, const uint8_t *id,
                                 uint64_t *changed, struct sso_error *err)
{
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, id, APPLICATION_ID_BYTES);
    return sql_run(&statement, changed, err);
}

static enum sso_code delete (struct store_tx *tx, const uint8_t id[static APPLICATION_ID_BYTES],
                             bool keep_application, uint64_t *credentials_deleted,
                             struct sso_error *err) {
    static const char quarantine_sql[] =
        "DELETE FROM quarantine WHERE row_id IN"
        " (SELECT row_id FROM credentials WHERE application_id = ?)";
    static const char exposed_sql[] = "DELETE FROM exposed WHERE row_id IN"
                                      " (SELECT row_id FROM credentials WHERE application_id = ?)";
    static const char credentials_sql[] = "DELETE FROM credentials WHERE application_id = ?";
    static const char mappings_sql[] = "DELETE FROM mappings WHERE application_id = ?";
    static const char application_sql[] = "DELETE FROM applications WHERE id = ?";
    static const char touch_sql[] = "UPDATE applications SET id = id WHERE id = ?";
    uint64_t found = 0;
    /* First, so that nothing is deleted where there is no such application. */
    enum sso_code rc = run_with_id(tx, keep_application ? touch_sql : application_sql, id, &found,
                                   err);
    if (rc == SSO_OK && found == 0) return sso_fail(err, SSO_NOT_FOUND,
                                                    "the application does not exist");
    if (rc == SSO_OK) rc = run_with_id(tx, quarantine_sql, id, NULL, err);
    if (rc == SSO_OK) rc = run_with_id(tx, exposed_sql, id, NULL, err);
    if (rc == SSO_OK) rc = run_with_id(tx, credentials_sql, id, credentials_deleted, err);
    if (rc == SSO_OK) rc = run_with_id(tx, mappings_sql, id, NULL, err);
    return rc;
}

const struct store_application_ops sql_application_ops = {
    .get = get,
    .get_by_id = get_by_id,
    .list = list,
    .insert = insert,
    .update = update,
    .delete = delete,
};
