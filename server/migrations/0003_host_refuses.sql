-- Why a host takes no new work just now, as it said last; null when it does.
alter table hosts add column refuses text;
