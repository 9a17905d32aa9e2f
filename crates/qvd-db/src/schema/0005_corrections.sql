-- Two mistakes of schema 4.3.0 that existing software does not rely on.

-- Only one administrator of the whole system could say which properties to see, and could not be deleted then.
ALTER TABLE views_setups_properties_administrator
    DROP CONSTRAINT views_setups_properties_administrator_qvd_obj_prop_id_view_type,
    ADD CONSTRAINT views_setups_properties_administrator_administrator_id_qvd_obj_
        UNIQUE (administrator_id, qvd_obj_prop_id, view_type, device_type),
    DROP CONSTRAINT views_setups_properties_administrator_fk_administrator_id,
    ADD CONSTRAINT views_setups_properties_administrator_fk_administrator_id
        FOREIGN KEY (administrator_id) REFERENCES administrators (id) ON DELETE CASCADE DEFERRABLE;
