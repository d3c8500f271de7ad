-- Hosts that have, or are getting, a sealed disk of another one. A row goes when the layer is released and the host was told.
create table layer_copies (
  layer_id uuid not null,
  host_id uuid not null references hosts,
  -- Null while it is on its way.
  arrived_at timestamptz,
  -- When it last could not be brought.
  refused_at timestamptz,
  primary key (layer_id, host_id)
);
create index layer_copies_host on layer_copies (host_id);

-- Layers packed by a host so that another one can have them. A name stands for the same content for ever.
create table layer_blobs (
  copy_id text primary key,
  kind text not null check (kind in ('image', 'source', 'sealed')),
  driver text not null,
  -- Names of the layers below it, top first.
  below text[] not null,
  -- Names the bytes in the store of layers.
  digest text not null,
  size_bytes bigint not null,
  used_at timestamptz not null default clock_timestamp()
);
