#include "store/sql_statement.h"

static enum sso_code redeem(struct store_tx *tx, const uint8_t id[static TICKET_ID_BYTES],
                            int64_t expires_ms, int64_t forget_ms, struct sso_error *err)
{
    static const char forget_sql[] = "DELETE FROM tickets_redeemed WHERE expires_ms < ?";
    static const char sql[] = "INSERT INTO tickets_redeemed (id, expires_ms) VALUES (?, ?)"
                              " ON CONFLICT DO NOTHING";
    SQL_STATEMENT_AUTO forget = {0};
    SQL_STATEMENT_AUTO statement = {0};
    enum sso_code rc = sql_prepare(tx, forget_sql, &forget, err);
    if (rc != SSO_OK)
        return rc;
    sql_bind_integer(&forget, forget_ms);
    if ((rc = sql_run(&forget, NULL, err)) != SSO_OK ||
        (rc = sql_prepare(tx, sql, &statement, err)) != SSO_OK)
        return rc;
    sql_bind_bytes(&statement, id, TICKET_ID_BYTES);
    sql_bind_integer(&statement, expires_ms);
    rc = sql_insert(&statement, err);
    if (rc == SSO_ALREADY_EXISTS)
        return sso_fail(err, rc, "the ticket was redeemed before");
    return rc;
}

const struct store_ticket_ops sql_ticket_ops = {
    .redeem = redeem,
};
