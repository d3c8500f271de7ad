create table customers (id int primary key, name text not null);
create table orders (
  id int generated always as identity primary key,
  customer_id int not null references customers,
  cents int not null check (cents > 0)
);
insert into customers select n, 'customer ' || n from generate_series(1, 100) n;
insert into orders (customer_id, cents) select 1 + n % 100, n from generate_series(1, 5000) n;
create index on orders (customer_id);
