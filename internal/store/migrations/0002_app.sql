-- Placement counts the deployments of an application on each device. Those that were there before count as none.
ALTER TABLE deployments ADD COLUMN app TEXT NOT NULL DEFAULT '';
