#include "store/sql_statement.h"

/* In milliseconds; 0 where no application has one of its own. */
static enum sso_code longest_lifetime(struct store_tx *tx, int64_t *out, struct sso_error *err)
{
    static const char sql[] = "SELECT coalesce(max(ticket_lifetime_ms), 0) FROM applications";
    SQL_STATEMENT_AUTO statement = {0};
    bool found = false;
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK || (rc = sql_step(&statement, &found, err)) != SSO_OK)
        return rc;
    *out = sql_read_integer(&statement, 0, TICKET_LIFETIME_MS_MAX);
    return sql_check_row(&statement, "the ticket lifetimes of applications", err);
}

static enum sso_code forget(struct store_tx *tx, int64_t before_ms, struct sso_error *err)
{
    static const char sql[] = "DELETE FROM tickets_redeemed WHERE expires_ms < ?";
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, sql, &statement, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&statement, before_ms);
    return sql_run(&statement, NULL, err);
}

static enum sso_code redeem(struct store_tx *tx, const struct ticket_claims *claims,
                            int64_t forget_ms, struct sso_error *err)
{
    static const char sql[] = "INSERT INTO tickets_redeemed (id, expires_ms) VALUES (?, ?)"
                              " ON CONFLICT DO NOTHING";
    SQL_STATEMENT_AUTO statement = {0};
    int64_t longest_ms = 0;
    enum sso_code rc;
    if ((rc = forget(tx, forget_ms, err)) != SSO_OK ||
        (rc = longest_lifetime(tx, &longest_ms, err)) != SSO_OK ||
        (rc = sql_prepare(tx, sql, &statement, err)) != SSO_OK)
        return rc;
    int64_t end_ms = claims->issued_ms + longest_ms;
    sql_bind_bytes(&statement, claims->id, TICKET_ID_BYTES);
    sql_bind_integer(&statement, end_ms > claims->expires_ms ? end_ms : claims->expires_ms);
    rc = sql_insert(&statement, err);
    if (rc == SSO_ALREADY_EXISTS)
        return sso_fail(err, rc, "the ticket was redeemed before");
    return rc;
}

const struct store_ticket_ops sql_ticket_ops = {
    .redeem = redeem,
};
