#include "common/clock.h"
#include "store/sql_statement.h"

static void bind_token(struct sql_statement *statement, const struct token_identity *token)
{
    sql_bind_text(statement, token->token);
    sql_bind_text(statement, token->serial);
    sql_bind_text(statement, token->manufacturer);
    sql_bind_text(statement, token->model);
}

static enum sso_code put(struct store_tx *tx, const struct token_identity *token, const char *node,
                         struct sso_error *err)
{
    static const char sql[] =
        "INSERT INTO pin_refusals (token, serial, manufacturer, model, node, since_ms)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (token, serial, manufacturer, model, node)"
        " DO UPDATE SET since_ms = excluded.since_ms";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    bind_token(&statement, token);
    sql_bind_text(&statement, node);
    sql_bind_integer(&statement, wall_clock_ms());
    return sql_run(&statement, NULL, err);
}

static enum sso_code of_others(struct store_tx *tx, const struct token_identity *token,
                               const char *node, char other[static 65], struct sso_error *err)
{
    static const char sql[] = "SELECT node FROM pin_refusals WHERE token = ? AND serial = ? AND"
                              " manufacturer = ? AND model = ? AND node <> ? LIMIT 1";
    SQL_STATEMENT_AUTO statement = {0};
    bool found = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    bind_token(&statement, token);
    sql_bind_text(&statement, node);
    rc = sql_step(&statement, &found, err);
    if (rc == SSO_OK)
        other[0] = '\0';
    if (rc != SSO_OK || !found)
        return rc;
    sql_read_name(&statement, other, 65);
    return sql_check_row(&statement, "a refused PIN", err);
}

static enum sso_code clear(struct store_tx *tx, const struct token_identity *token,
                           struct sso_error *err)
{
    static const char sql[] = "DELETE FROM pin_refusals WHERE token = ? AND serial = ? AND"
                              " manufacturer = ? AND model = ?";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    bind_token(&statement, token);
    return sql_run(&statement, NULL, err);
}

const struct store_refusal_ops sql_refusal_ops = {
    .put = put,
    .of_others = of_others,
    .clear = clear,
};
