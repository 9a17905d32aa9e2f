-- What a node promises about its lease, and where its second witness is; NULL as long as it promises nothing.

ALTER TABLE host_runtimes
    ADD COLUMN lease_seconds double precision,
    ADD COLUMN beat_seconds double precision,
    ADD COLUMN storage text;
