-- Types and lengths are checked whenever a row is read, since the owner of the file can write
-- anything into it; only what orders a scan is constrained here, so that a scan never stops.
-- Times are milliseconds since 1970, 0: never. Enumerations are the numbers of the headers.

CREATE TABLE schema_migrations (
    number     INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    checksum   BLOB    NOT NULL, -- SHA-256 of the file
    applied_ms INTEGER NOT NULL
);

CREATE TABLE system (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    id         BLOB    NOT NULL,
    name       TEXT    NOT NULL,
    created_ms INTEGER NOT NULL
);

-- Who is the master; the row is made by whoever is the first.
CREATE TABLE master_lease (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    node      TEXT    NOT NULL,
    address   TEXT    NOT NULL,
    home      BLOB    NOT NULL, -- id of its state directory
    instance  BLOB    NOT NULL, -- of its process; zeros: given back
    epoch     INTEGER NOT NULL,
    beat      INTEGER NOT NULL,
    lease_ms  INTEGER NOT NULL,
    successor TEXT    NOT NULL  -- node that a planned move goes to
);

-- Nodes that could become it.
CREATE TABLE standbys (
    node      TEXT    NOT NULL PRIMARY KEY,
    address   TEXT    NOT NULL,
    beat      INTEGER NOT NULL,
    able      INTEGER NOT NULL,
    missing   TEXT    NOT NULL, -- why it is not
    ready_for INTEGER NOT NULL  -- epoch whose planned move may go on
) WITHOUT ROWID;

CREATE TABLE settings (
    name    TEXT    NOT NULL PRIMARY KEY,
    value   TEXT    NOT NULL,
    version INTEGER NOT NULL,
    tag     BLOB    NOT NULL
) WITHOUT ROWID;

CREATE TABLE generations (
    number         INTEGER PRIMARY KEY,
    secret_id      BLOB    NOT NULL UNIQUE,
    suite          INTEGER NOT NULL,
    state          INTEGER NOT NULL,
    compromised    INTEGER NOT NULL,
    no_backup      INTEGER NOT NULL,
    closed         INTEGER NOT NULL, -- nothing is wrapped under it any more
    created_ms     INTEGER NOT NULL,
    backed_up_ms   INTEGER NOT NULL,
    last_drill_ms  INTEGER NOT NULL,
    retired_ms     INTEGER NOT NULL,
    going_ms       INTEGER NOT NULL, -- since when its keys are being destroyed
    share_set      TEXT    NOT NULL,
    canary_wrapped BLOB    NOT NULL,
    canary_mac     BLOB    NOT NULL,
    version        INTEGER NOT NULL,
    tag            BLOB    NOT NULL,
    wraps          INTEGER NOT NULL  -- raised without a new version, not under the tag
);

CREATE TABLE destructions (
    generation    INTEGER PRIMARY KEY,
    asked_by      TEXT    NOT NULL,
    asked_uid     INTEGER NOT NULL,
    asked_ms      INTEGER NOT NULL,
    grace_ms      INTEGER NOT NULL,
    for_ever      INTEGER NOT NULL,
    older_backups INTEGER NOT NULL,
    confirmed_by  TEXT    NOT NULL,
    confirmed_ms  INTEGER NOT NULL,
    destroying_ms INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    tag           BLOB    NOT NULL
);

CREATE TABLE generation_tokens (
    generation   INTEGER NOT NULL,
    token        TEXT    NOT NULL,
    serial       TEXT    NOT NULL,
    manufacturer TEXT    NOT NULL,
    model        TEXT    NOT NULL,
    node         TEXT    NOT NULL,
    evidence     TEXT    NOT NULL,
    weak         INTEGER NOT NULL,
    since_ms     INTEGER NOT NULL,
    destroyed_ms INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    tag          BLOB    NOT NULL,
    PRIMARY KEY (generation, token, serial, manufacturer, model, node)
);

CREATE TABLE share_sets (
    id                 TEXT    NOT NULL PRIMARY KEY, -- a UUID
    threshold          INTEGER NOT NULL,
    count              INTEGER NOT NULL,
    iteration_exponent INTEGER NOT NULL,
    identifier         INTEGER NOT NULL, -- of SLIP-39
    passphrase         INTEGER NOT NULL,
    created_ms         INTEGER NOT NULL,
    fingerprints       BLOB    NOT NULL, -- 16 of 8 bytes
    verifier           BLOB    NOT NULL,
    version            INTEGER NOT NULL,
    tag                BLOB    NOT NULL
) WITHOUT ROWID;

CREATE TABLE sealed_keys (
    key_id     BLOB    NOT NULL PRIMARY KEY,
    purpose    TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    born       INTEGER NOT NULL,
    wrapped    BLOB    NOT NULL
);

-- A node that joined has a tag of zeros until it is approved.
CREATE TABLE nodes (
    name          TEXT    NOT NULL PRIMARY KEY,
    address       TEXT    NOT NULL,
    public_key    BLOB    NOT NULL, -- SHA-256 of the SubjectPublicKeyInfo of its certificate
    approved      INTEGER NOT NULL,
    apps          TEXT    NOT NULL, -- with commas between them; empty: all
    release_burst INTEGER NOT NULL,
    approved_by   TEXT    NOT NULL,
    joined_ms     INTEGER NOT NULL,
    approved_ms   INTEGER NOT NULL,
    revocation    INTEGER NOT NULL, -- setting system.revocation when it was last approved
    version       INTEGER NOT NULL,
    tag           BLOB    NOT NULL
) WITHOUT ROWID;

-- Tokens that refused the PIN of a node; gone when one accepts a PIN.
CREATE TABLE pin_refusals (
    token        TEXT    NOT NULL,
    serial       TEXT    NOT NULL,
    manufacturer TEXT    NOT NULL,
    model        TEXT    NOT NULL,
    node         TEXT    NOT NULL,
    since_ms     INTEGER NOT NULL,
    PRIMARY KEY (token, serial, manufacturer, model, node)
) WITHOUT ROWID;

CREATE TABLE applications (
    id          BLOB    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,
    type        INTEGER NOT NULL,
    enabled     INTEGER NOT NULL,
    cached      INTEGER NOT NULL,
    tickets_allowed   INTEGER NOT NULL,
    tickets_validated INTEGER NOT NULL,
    ticket_lifetime_ms       INTEGER NOT NULL, -- 0: as the setting says
    ticket_lifetime_since_ms INTEGER NOT NULL,
    description TEXT    NOT NULL,
    contact     TEXT    NOT NULL,
    fields      TEXT    NOT NULL, -- JSON: [{"label":"…","masked":true}, …]
    admins      TEXT    NOT NULL,
    users       TEXT    NOT NULL, -- JSON: ["group", …]
    readers     TEXT    NOT NULL,
    created_ms  INTEGER NOT NULL,
    updated_ms  INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    tag         BLOB    NOT NULL
);
-- lower() folds ASCII letters only, as names of applications are compared.
CREATE UNIQUE INDEX applications_by_name ON applications (lower(name));

CREATE TABLE mappings (
    application_id BLOB    NOT NULL,
    principal      TEXT    NOT NULL,
    external_user  TEXT    NOT NULL,
    state          INTEGER NOT NULL,
    updated_ms     INTEGER NOT NULL,
    version        INTEGER NOT NULL,
    tag            BLOB    NOT NULL,
    PRIMARY KEY (application_id, principal)
) WITHOUT ROWID;

-- A table with rowid: with the row id as the key of the table itself inner pages would hold whole
-- rows, and long ciphertexts would make the tree deep. Small things first, the ciphertext last, so
-- that a scan without it reads no overflow page. No index has the generation or the wrapped row
-- key: a rotation changes both in every row, and would spend as much on the index as on the rows.
CREATE TABLE credentials (
    row_id          BLOB    NOT NULL CHECK (typeof(row_id) = 'blob' AND length(row_id) = 16),
    generation      INTEGER NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    wrapped_row_key BLOB    NOT NULL,
    format          INTEGER NOT NULL,
    application_id  BLOB    NOT NULL,
    principal       TEXT    NOT NULL,
    external_user   TEXT    NOT NULL,
    born            INTEGER NOT NULL,
    row_key_id      BLOB    NOT NULL,
    nonce           BLOB    NOT NULL,
    version         INTEGER NOT NULL,
    updated         INTEGER NOT NULL,
    ciphertext      BLOB    NOT NULL
);
CREATE UNIQUE INDEX credentials_by_row_id ON credentials (row_id);
CREATE UNIQUE INDEX credentials_by_principal ON credentials (application_id, principal);

-- Each ticket once. Of no use once the ticket has long expired.
CREATE TABLE tickets_redeemed (
    id         BLOB    NOT NULL PRIMARY KEY,
    expires_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tickets_redeemed_by_expiry ON tickets_redeemed (expires_ms);

CREATE TABLE rotations (
    id                  INTEGER PRIMARY KEY,
    state               INTEGER NOT NULL,
    phase               INTEGER NOT NULL,
    to_generation       INTEGER NOT NULL,
    from_generations    TEXT    NOT NULL,
    total               INTEGER NOT NULL,
    done                INTEGER NOT NULL,
    skipped             INTEGER NOT NULL,
    failed              INTEGER NOT NULL,
    rate                INTEGER NOT NULL,
    dry_run             INTEGER NOT NULL,
    reencrypt           INTEGER NOT NULL,
    full_speed          INTEGER NOT NULL,
    verify              INTEGER NOT NULL,
    without_nodes       TEXT    NOT NULL,
    renew_born          INTEGER NOT NULL,
    started_ms          INTEGER NOT NULL,
    finished_ms         INTEGER NOT NULL,
    error               TEXT    NOT NULL,
    error_code          TEXT    NOT NULL  -- its name
);

CREATE TABLE quarantine (
    row_id     BLOB    NOT NULL PRIMARY KEY,
    generation INTEGER NOT NULL,
    code       TEXT    NOT NULL, -- its name: numbers of codes are not stored
    reason     TEXT    NOT NULL,
    tries      INTEGER NOT NULL,
    since_ms   INTEGER NOT NULL,
    seen       BLOB    NOT NULL, -- digest of the row as it was then
    retry      INTEGER NOT NULL  -- 1: to be tried again
) WITHOUT ROWID;

-- Rows that were renewed because a generation was marked compromised, and whose owners have not
-- changed the credential since.
CREATE TABLE exposed (
    row_id   BLOB    NOT NULL PRIMARY KEY,
    born     INTEGER NOT NULL, -- as it was before the renewal
    since_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- Public parts of the keys that sign the heads of the chains; the first column is CKA_ID.
CREATE TABLE audit_keys (
    id           BLOB    NOT NULL PRIMARY KEY,
    token        TEXT    NOT NULL,
    serial       TEXT    NOT NULL,
    manufacturer TEXT    NOT NULL,
    model        TEXT    NOT NULL,
    node         TEXT    NOT NULL,
    public_key   BLOB    NOT NULL,
    since_ms     INTEGER NOT NULL,
    tag          BLOB    NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit_signatures (
    number    INTEGER PRIMARY KEY,
    time_ms   INTEGER NOT NULL,
    key_id    BLOB    NOT NULL,
    heads     BLOB    NOT NULL, -- count, then node, number and hash of each (common/encode.h)
    signature BLOB    NOT NULL
);

-- Where a chain begins whose older records were pruned: after this one. A signature names it, and a
-- record announces it.
CREATE TABLE audit_bases (
    node      TEXT    NOT NULL PRIMARY KEY,
    number    INTEGER NOT NULL,
    hash      BLOB    NOT NULL,
    signature INTEGER NOT NULL,
    time_ms   INTEGER NOT NULL,
    tag       BLOB    NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
    node        TEXT    NOT NULL,
    number      INTEGER NOT NULL,
    time_ms     INTEGER NOT NULL,
    actor       TEXT    NOT NULL,
    how         TEXT    NOT NULL,
    operation   TEXT    NOT NULL,
    target      TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,
    request_id  BLOB    NOT NULL,
    row_id      BLOB    NOT NULL,
    row_version INTEGER NOT NULL,
    hash        BLOB    NOT NULL,
    PRIMARY KEY (node, number)
) WITHOUT ROWID;
