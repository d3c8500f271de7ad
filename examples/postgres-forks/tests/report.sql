delete from customers where id not in (select customer_id from orders);
do $$ begin
  assert (select sum(cents) from orders) = 12502500, 'the total is wrong';
  assert (select count(distinct customer_id) from orders) = 100, 'a customer without orders';
end $$;
