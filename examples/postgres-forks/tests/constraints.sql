do $$ begin
  insert into orders (customer_id, cents) values (101, 5);
  raise exception 'an order of nobody was taken';
exception when foreign_key_violation then null; end $$;
do $$ begin
  insert into orders (customer_id, cents) values (1, 0);
  raise exception 'an order for nothing was taken';
exception when check_violation then null; end $$;
