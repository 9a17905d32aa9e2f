-- A VM that is stopped for the sake of a newer image is started again as soon as it has stopped, unless somebody tells it
-- to stop in the meantime.

ALTER TABLE vm_runtimes ADD COLUMN restart boolean NOT NULL DEFAULT false;
