-- Fingerprint of the trusted key that signed a package; NULL where nobody has looked.
ALTER TABLE software_package ADD COLUMN signed_by VARCHAR(64);
