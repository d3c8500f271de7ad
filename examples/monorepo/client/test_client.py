import unittest

import client


class ClientTest(unittest.TestCase):
    def test_asks_a_server_and_puts_a_prefix_before_its_answer(self):
        self.assertEqual(client.ask("/bin/echo"), "server says: caisson")


if __name__ == "__main__":
    unittest.main()
