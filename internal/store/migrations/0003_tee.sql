-- Deployments of one owner can share a TEE instance. It is called after the deployment that it was made for, and takes one place.
ALTER TABLE deployments ADD COLUMN tee TEXT NOT NULL DEFAULT '';
UPDATE deployments SET tee = id;
CREATE INDEX deployments_tee ON deployments (tee);
