-- What is kept of a job besides its disk for those that build in it; null when it is the disk alone.
alter table jobs add column snapshot text check (snapshot = 'memory');
-- Its host must be able to keep memory: for its own snapshot, or for that of a job that grows out of its disk.
alter table jobs add column needs_memory_snapshots boolean not null default false;
