-- Bearer tokens: only a hash is kept.
CREATE TABLE tokens (
    hash    BLOB PRIMARY KEY,
    role    TEXT NOT NULL,
    name    TEXT NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE devices (
    id         TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    doc        BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE deployments (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    owner    TEXT NOT NULL,
    device   TEXT NOT NULL,
    state    TEXT NOT NULL,
    version  INTEGER NOT NULL,
    retry_at INTEGER, -- when a wake-up is due; NULL: never
    updated  INTEGER NOT NULL,
    fixed    BLOB NOT NULL, -- what never changes: plan, configuration, owner's key
    doc      BLOB NOT NULL
);
CREATE INDEX deployments_owner ON deployments (owner);
CREATE INDEX deployments_device ON deployments (device, state);
CREATE INDEX deployments_retry ON deployments (retry_at) WHERE retry_at IS NOT NULL;

-- A step is done once: the key makes a second time an error.
CREATE TABLE trace (
    deployment TEXT NOT NULL,
    step       INTEGER NOT NULL,
    doc        BLOB NOT NULL,
    PRIMARY KEY (deployment, step)
) WITHOUT ROWID;

CREATE TABLE packages (
    deployment      TEXT NOT NULL,
    role            TEXT NOT NULL,
    owner           TEXT NOT NULL,
    repository      TEXT NOT NULL,
    digest          TEXT NOT NULL, -- of the OCI manifest
    manifest_id     TEXT NOT NULL, -- of the SUIT manifest: its manifest-component-id
    manifest_digest TEXT NOT NULL, -- likewise its digest
    sequence        INTEGER NOT NULL,
    envelope        BLOB NOT NULL,
    created         INTEGER NOT NULL,
    PRIMARY KEY (deployment, role)
) WITHOUT ROWID;
CREATE INDEX packages_manifest ON packages (owner, manifest_id);

-- Which payloads a device may fetch.
CREATE TABLE package_blobs (
    digest     TEXT NOT NULL,
    deployment TEXT NOT NULL,
    role       TEXT NOT NULL,
    PRIMARY KEY (digest, deployment, role)
) WITHOUT ROWID;
CREATE INDEX package_blobs_deployment ON package_blobs (deployment, role);

CREATE TABLE evidence (
    id         TEXT PRIMARY KEY,
    deployment TEXT NOT NULL,
    created    INTEGER NOT NULL,
    pending    INTEGER NOT NULL,
    doc        BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX evidence_deployment ON evidence (deployment, pending, created);

CREATE TABLE appraisals (
    id         TEXT PRIMARY KEY,
    deployment TEXT NOT NULL,
    created    INTEGER NOT NULL,
    doc        BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX appraisals_deployment ON appraisals (deployment, created);

CREATE TABLE releases (
    id         TEXT PRIMARY KEY,
    deployment TEXT NOT NULL,
    created    INTEGER NOT NULL,
    doc        BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX releases_deployment ON releases (deployment, created);

CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    deployment TEXT NOT NULL,
    time       INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    message    TEXT NOT NULL
);
CREATE INDEX events_deployment ON events (deployment, seq);

-- TEEP tokens and challenges that were answered. Each expires; of each deployment only the newest are kept, and the
-- floor refuses those that were dropped.
CREATE TABLE used_tokens (
    deployment TEXT NOT NULL,
    expiry     INTEGER NOT NULL,
    token      BLOB NOT NULL,
    PRIMARY KEY (deployment, expiry, token)
) WITHOUT ROWID;
CREATE TABLE token_floors (
    deployment TEXT PRIMARY KEY,
    floor      INTEGER NOT NULL
) WITHOUT ROWID;
