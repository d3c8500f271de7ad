insert into orders (customer_id, cents) select 1 + n % 100, 1 from generate_series(1, 5000) n;
do $$ begin
  assert (select count(*) from orders) = 10000, 'orders of others, or too few';
end $$;
