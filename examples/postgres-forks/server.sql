select 'server process ' || split_part(pg_read_file('postmaster.pid'), E'\n', 1) || ', up since ' || pg_postmaster_start_time();
