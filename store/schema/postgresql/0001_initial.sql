-- The tables of ../sqlite, as PostgreSQL has them; a table that is there is here too, with the same
-- columns in the same order (tests/store/copy.c compares). Text is compared byte by byte whatever the
-- database's locale is. Everything is made in the first schema of the search path.
-- Times are milliseconds since 1970, 0: never. Enumerations are the numbers of the headers.

CREATE TABLE schema_migrations (
    number     bigint PRIMARY KEY,
    name       text COLLATE "C" NOT NULL,
    checksum   bytea NOT NULL, -- SHA-256 of the file
    applied_ms bigint NOT NULL
);

COMMENT ON TABLE schema_migrations IS 'sso-hsm'; -- by which the program knows its own

CREATE TABLE system (
    one        bigint PRIMARY KEY CHECK (one = 1),
    id         bytea NOT NULL,
    name       text COLLATE "C" NOT NULL,
    created_ms bigint NOT NULL
);

-- Who is the master; the row is made by whoever is the first.
CREATE TABLE master_lease (
    one       bigint PRIMARY KEY CHECK (one = 1),
    node      text COLLATE "C" NOT NULL,
    address   text COLLATE "C" NOT NULL,
    home      bytea NOT NULL, -- id of its state directory
    instance  bytea NOT NULL, -- of its process; zeros: given back
    epoch     bigint NOT NULL,
    beat      bigint NOT NULL,
    lease_ms  bigint NOT NULL,
    successor text COLLATE "C" NOT NULL -- node that a planned move goes to
);

-- Nodes that could become it.
CREATE TABLE standbys (
    node      text COLLATE "C" NOT NULL PRIMARY KEY,
    address   text COLLATE "C" NOT NULL,
    beat      bigint NOT NULL,
    able      bigint NOT NULL,
    missing   text COLLATE "C" NOT NULL, -- why it is not
    ready_for bigint NOT NULL            -- epoch whose planned move may go on
);

CREATE TABLE settings (
    name    text COLLATE "C" NOT NULL PRIMARY KEY,
    value   text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    tag     bytea NOT NULL
);

CREATE TABLE generations (
    number         bigint PRIMARY KEY,
    secret_id      bytea NOT NULL UNIQUE,
    suite          bigint NOT NULL,
    state          bigint NOT NULL,
    compromised    bigint NOT NULL,
    no_backup      bigint NOT NULL,
    closed         bigint NOT NULL, -- nothing is wrapped under it any more
    created_ms     bigint NOT NULL,
    backed_up_ms   bigint NOT NULL,
    last_drill_ms  bigint NOT NULL,
    retired_ms     bigint NOT NULL,
    going_ms       bigint NOT NULL, -- since when its keys are being destroyed
    share_set      text COLLATE "C" NOT NULL,
    canary_wrapped bytea NOT NULL,
    canary_mac     bytea NOT NULL,
    version        bigint NOT NULL,
    tag            bytea NOT NULL,
    wraps          bigint NOT NULL  -- raised without a new version, not under the tag
);

CREATE TABLE destructions (
    generation    bigint PRIMARY KEY,
    asked_by      text COLLATE "C" NOT NULL,
    asked_uid     bigint NOT NULL,
    asked_ms      bigint NOT NULL,
    grace_ms      bigint NOT NULL,
    for_ever      bigint NOT NULL,
    older_backups bigint NOT NULL,
    confirmed_by  text COLLATE "C" NOT NULL,
    confirmed_ms  bigint NOT NULL,
    destroying_ms bigint NOT NULL,
    version       bigint NOT NULL,
    tag           bytea NOT NULL
);

CREATE TABLE generation_tokens (
    generation   bigint NOT NULL,
    token        text COLLATE "C" NOT NULL,
    serial       text COLLATE "C" NOT NULL,
    manufacturer text COLLATE "C" NOT NULL,
    model        text COLLATE "C" NOT NULL,
    node         text COLLATE "C" NOT NULL,
    evidence     text COLLATE "C" NOT NULL,
    weak         bigint NOT NULL,
    since_ms     bigint NOT NULL,
    destroyed_ms bigint NOT NULL,
    version      bigint NOT NULL,
    tag          bytea NOT NULL,
    PRIMARY KEY (generation, token, serial, manufacturer, model, node)
);

CREATE TABLE share_sets (
    id                 text COLLATE "C" NOT NULL PRIMARY KEY, -- a UUID
    threshold          bigint NOT NULL,
    count              bigint NOT NULL,
    iteration_exponent bigint NOT NULL,
    identifier         bigint NOT NULL, -- of SLIP-39
    passphrase         bigint NOT NULL,
    created_ms         bigint NOT NULL,
    fingerprints       bytea NOT NULL, -- 16 of 8 bytes
    verifier           bytea NOT NULL,
    version            bigint NOT NULL,
    tag                bytea NOT NULL
);

CREATE TABLE sealed_keys (
    key_id     bytea NOT NULL PRIMARY KEY,
    purpose    text COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    born       bigint NOT NULL,
    wrapped    bytea NOT NULL
);

-- A node that joined has a tag of zeros until it is approved.
CREATE TABLE nodes (
    name          text COLLATE "C" NOT NULL PRIMARY KEY,
    address       text COLLATE "C" NOT NULL,
    public_key    bytea NOT NULL, -- SHA-256 of the SubjectPublicKeyInfo of its certificate
    approved      bigint NOT NULL,
    apps          text COLLATE "C" NOT NULL, -- with commas between them; empty: all
    release_burst bigint NOT NULL,
    approved_by   text COLLATE "C" NOT NULL,
    joined_ms     bigint NOT NULL,
    approved_ms   bigint NOT NULL,
    revocation    bigint NOT NULL, -- setting system.revocation when it was last approved
    version       bigint NOT NULL,
    tag           bytea NOT NULL
);

-- Tokens that refused the PIN of a node; gone when one accepts a PIN.
CREATE TABLE pin_refusals (
    token        text COLLATE "C" NOT NULL,
    serial       text COLLATE "C" NOT NULL,
    manufacturer text COLLATE "C" NOT NULL,
    model        text COLLATE "C" NOT NULL,
    node         text COLLATE "C" NOT NULL,
    since_ms     bigint NOT NULL,
    PRIMARY KEY (token, serial, manufacturer, model, node)
);

CREATE TABLE applications (
    id          bytea NOT NULL PRIMARY KEY,
    name        text COLLATE "C" NOT NULL,
    type        bigint NOT NULL,
    enabled     bigint NOT NULL,
    cached      bigint NOT NULL,
    tickets_allowed   bigint NOT NULL,
    tickets_validated bigint NOT NULL,
    ticket_lifetime_ms       bigint NOT NULL, -- 0: as the setting says
    ticket_lifetime_since_ms bigint NOT NULL,
    description text COLLATE "C" NOT NULL,
    contact     text COLLATE "C" NOT NULL,
    fields      text COLLATE "C" NOT NULL, -- JSON: [{"label":"…","masked":true}, …]
    admins      text COLLATE "C" NOT NULL,
    users       text COLLATE "C" NOT NULL, -- JSON: ["group", …]
    readers     text COLLATE "C" NOT NULL,
    created_ms  bigint NOT NULL,
    updated_ms  bigint NOT NULL,
    version     bigint NOT NULL,
    tag         bytea NOT NULL
);
-- lower() folds ASCII letters only, as names of applications are compared.
CREATE UNIQUE INDEX applications_by_name ON applications (lower(name));

CREATE TABLE mappings (
    application_id bytea NOT NULL REFERENCES applications (id) DEFERRABLE INITIALLY DEFERRED,
    principal      text COLLATE "C" NOT NULL,
    external_user  text COLLATE "C" NOT NULL,
    state          bigint NOT NULL,
    updated_ms     bigint NOT NULL,
    version        bigint NOT NULL,
    tag            bytea NOT NULL,
    PRIMARY KEY (application_id, principal)
);

-- `place` is the order of a scan. No index has the generation or the wrapped row key, which a rotation
-- changes in every row: with room left in each page the new version of a row goes beside the old one
-- and no index is touched (HOT). The foreign keys end a race that SQLite's one writer cannot have: a
-- credential written while its application is deleted; checked at the commit, since the application
-- is deleted first.
CREATE TABLE credentials (
    place           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    row_id          bytea NOT NULL UNIQUE CHECK (octet_length(row_id) = 16),
    generation      bigint NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    wrapped_row_key bytea NOT NULL,
    format          bigint NOT NULL,
    application_id  bytea NOT NULL REFERENCES applications (id) DEFERRABLE INITIALLY DEFERRED,
    principal       text COLLATE "C" NOT NULL,
    external_user   text COLLATE "C" NOT NULL,
    born            bigint NOT NULL,
    row_key_id      bytea NOT NULL,
    nonce           bytea NOT NULL,
    version         bigint NOT NULL,
    updated         bigint NOT NULL,
    ciphertext      bytea NOT NULL CHECK (octet_length(ciphertext) <= 4194304),
    UNIQUE (application_id, principal)
) WITH (fillfactor = 75);

-- Each ticket once. Of no use once the ticket has long expired.
CREATE TABLE tickets_redeemed (
    id         bytea NOT NULL PRIMARY KEY,
    expires_ms bigint NOT NULL
);
CREATE INDEX tickets_redeemed_by_expiry ON tickets_redeemed (expires_ms);

CREATE TABLE rotations (
    id                  bigint PRIMARY KEY,
    state               bigint NOT NULL,
    phase               bigint NOT NULL,
    to_generation       bigint NOT NULL,
    from_generations    text COLLATE "C" NOT NULL,
    total               bigint NOT NULL,
    done                bigint NOT NULL,
    skipped             bigint NOT NULL,
    failed              bigint NOT NULL,
    rate                bigint NOT NULL,
    dry_run             bigint NOT NULL,
    reencrypt           bigint NOT NULL,
    full_speed          bigint NOT NULL,
    verify              bigint NOT NULL,
    without_nodes       text COLLATE "C" NOT NULL,
    renew_born          bigint NOT NULL,
    started_ms          bigint NOT NULL,
    finished_ms         bigint NOT NULL,
    error               text COLLATE "C" NOT NULL,
    error_code          text COLLATE "C" NOT NULL  -- its name
);

CREATE TABLE quarantine (
    row_id     bytea NOT NULL PRIMARY KEY,
    generation bigint NOT NULL,
    code       text COLLATE "C" NOT NULL, -- its name: numbers of codes are not stored
    reason     text COLLATE "C" NOT NULL,
    tries      bigint NOT NULL,
    since_ms   bigint NOT NULL,
    seen       bytea NOT NULL, -- digest of the row as it was then
    retry      bigint NOT NULL  -- 1: to be tried again
);

-- Rows that were renewed because a generation was marked compromised, and whose owners have not
-- changed the credential since.
CREATE TABLE exposed (
    row_id   bytea NOT NULL PRIMARY KEY,
    born     bigint NOT NULL, -- as it was before the renewal
    since_ms bigint NOT NULL
);

-- Public parts of the keys that sign the heads of the chains; the first column is CKA_ID.
CREATE TABLE audit_keys (
    id           bytea NOT NULL PRIMARY KEY,
    token        text COLLATE "C" NOT NULL,
    serial       text COLLATE "C" NOT NULL,
    manufacturer text COLLATE "C" NOT NULL,
    model        text COLLATE "C" NOT NULL,
    node         text COLLATE "C" NOT NULL,
    public_key   bytea NOT NULL,
    since_ms     bigint NOT NULL,
    tag          bytea NOT NULL
);

CREATE TABLE audit_signatures (
    number    bigint PRIMARY KEY,
    time_ms   bigint NOT NULL,
    key_id    bytea NOT NULL,
    heads     bytea NOT NULL, -- count, then node, number and hash of each (common/encode.h)
    signature bytea NOT NULL
);

-- Where a chain begins whose older records were pruned: after this one. A signature names it, and a
-- record announces it.
CREATE TABLE audit_bases (
    node      text COLLATE "C" NOT NULL PRIMARY KEY,
    number    bigint NOT NULL,
    hash      bytea NOT NULL,
    signature bigint NOT NULL,
    time_ms   bigint NOT NULL,
    tag       bytea NOT NULL
);

CREATE TABLE audit (
    node        text COLLATE "C" NOT NULL,
    number      bigint NOT NULL,
    time_ms     bigint NOT NULL,
    actor       text COLLATE "C" NOT NULL,
    how         text COLLATE "C" NOT NULL,
    operation   text COLLATE "C" NOT NULL,
    target      text COLLATE "C" NOT NULL,
    outcome     text COLLATE "C" NOT NULL,
    request_id  bytea NOT NULL,
    row_id      bytea NOT NULL,
    row_version bigint NOT NULL,
    hash        bytea NOT NULL,
    PRIMARY KEY (node, number)
);
