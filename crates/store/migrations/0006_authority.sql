-- The enrolment authority: its certificate, and its private key, sealed as all secrets are. Both are there or neither.
ALTER TABLE installation ADD COLUMN authority_certificate MEDIUMTEXT;
ALTER TABLE installation ADD COLUMN authority_key MEDIUMTEXT;
