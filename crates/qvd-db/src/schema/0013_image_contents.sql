-- What was found in the file of an image when it came in.

ALTER TABLE dis
    ADD COLUMN format text,
    ADD COLUMN unpacked_size bigint,
    ADD COLUMN remarks text;
