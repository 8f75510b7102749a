#include <stdlib.h>
#include <string.h>

#include "cli/ceremony/findings.h"
#include "common/json.h"
#include "common/row.h"

void findings_add(struct findings *findings, const struct failure *failure)
{
    char uuid[UUID_TEXT_SIZE] = "";
    if (failure->row != NULL)
        uuid_text(failure->row->row_id, uuid);
    const struct sso_code_facts *facts = sso_code_facts(failure->error->code);
    json_t *principal = json_text_or_null(failure->principal);
    json_t *detail = json_string(failure->error->detail);
    json_t *object = json_pack(
        "{s:o, s:o, s:o, s:o, s:s, s:o}", "row", json_text_or_null(uuid), "app",
        json_text_or_null(failure->application), "principal",
        principal != NULL ? principal : json_null(), "generation",
        failure->generation != 0 ? json_integer(failure->generation) : json_null(), "code",
        facts->name, "detail", detail != NULL ? detail : json_string(facts->title));
    pthread_mutex_lock(&findings->lock);
    findings->failed++;
    json_array_append_new(findings->failures, object);
    pthread_mutex_unlock(&findings->lock);
}

static enum sso_code check_structure(struct store_tx *tx, json_t *structure, uint64_t *rows,
                                     struct sso_error *err)
{
    char **lines = NULL;
    struct generation_rows *counted = NULL;
    size_t count = 0, generations = 0;
    enum sso_code rc = store_check_structure(tx, &lines, &count, err);
    for (size_t i = 0; i < count; i++) {
        json_t *line = json_string(lines[i]);
        json_array_append_new(structure, line != NULL ? line : json_string("(no UTF-8)"));
        free(lines[i]);
    }
    free(lines);
    if (rc == SSO_OK)
        rc = store_count_by_generation(tx, &counted, &generations, err);
    for (size_t i = 0; i < generations; i++)
        *rows += counted[i].credentials;
    free(counted);
    return rc;
}

static enum sso_code open_everything(struct ceremony *ceremony, struct store_tx *tx,
                                     struct findings *findings, struct sso_error *err)
{
    enum sso_code rc = installation_open_pools(ceremony, NULL, false, err);
    if (rc == SSO_OK)
        rc = installation_open_keyring(ceremony, err);
    if (rc == SSO_OK)
        rc = installation_open_policy(ceremony, err);
    if (rc == SSO_OK)
        rc = check_policy_rows(ceremony, tx, findings, err);
    if (rc == SSO_OK)
        rc = check_credential_rows(ceremony, tx, findings, err);
    return rc;
}

static enum sso_code audit_check(struct ceremony *ceremony, bool ok, struct sso_error *err)
{
    struct audit_record record;
    STORE_TX_AUTO tx = NULL;
    enum sso_code rc = console_record(ceremony, "database.check", "all rows", &record, err);
    if (!ok)
        strcpy(record.outcome, sso_code_facts(SSO_ROW_CORRUPT)->name);
    if (rc == SSO_OK)
        rc = store_begin(ceremony->store, STORE_WRITE, &tx, err);
    if (rc == SSO_OK)
        rc = store_audit_append(tx, &record, 1, err);
    if (rc == SSO_OK)
        rc = store_commit(&tx, err);
    if (rc == SSO_OK)
        console_keep_head(ceremony, &record, false);
    return rc;
}

enum sso_code ceremony_check_database(struct ceremony *ceremony, const struct check_wish *wish,
                                      json_t **report, struct sso_error *err)
{
    const bool open = wish->open;
    struct findings findings = {.failures = json_array()};
    json_t *structure = json_array();
    STORE_TX_AUTO tx = NULL;
    uint64_t rows = 0;
    pthread_mutex_init(&findings.lock, NULL);
    enum sso_code rc = ceremony_open_database(ceremony, err);
    if (rc == SSO_OK)
        rc = store_begin(ceremony->store, STORE_READ, &tx, err);
    if (rc == SSO_OK)
        rc = check_structure(tx, structure, &rows, err);
    findings.progress = wish->show_progress;
    findings.total = rows;
    if (rc == SSO_OK && open)
        rc = open_everything(ceremony, tx, &findings, err);
    if (rc == SSO_OK && wish->against_audit)
        rc = check_against_audit(ceremony, tx, &findings, err);
    store_rollback(&tx);
    bool ok = json_array_size(structure) == 0 && findings.failed == 0;
    if (rc == SSO_OK && open)
        rc = audit_check(ceremony, ok, err);
    if (rc == SSO_OK)
        *report = json_pack("{s:b, s:O, s:I, s:o, s:I, s:O}", "ok", ok, "structure", structure,
                            "rows", (json_int_t)(open ? findings.rows : rows), "opened",
                            open ? json_integer((json_int_t)findings.opened) : json_null(),
                            "failed", (json_int_t)findings.failed, "failures", findings.failures);
    json_decref(structure);
    json_decref(findings.failures);
    pthread_mutex_destroy(&findings.lock);
    return rc;
}
