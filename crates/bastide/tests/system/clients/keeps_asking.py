"""Asks payments by the outbound proxy without a pause, every other time on a new connection, and prints
what came of it: a status, or the name of a fault.
"""

import http.client
import sys
import time

connection, number = None, 0
while True:
    number += 1
    try:
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=15)
        connection.request("GET", "/rates", headers={"host": "payments"})
        answer = connection.getresponse()
        answer.read()
        said = str(answer.status)
    except (OSError, http.client.HTTPException) as fault:
        said = type(fault).__name__
    print(said, flush=True)
    if number % 2 == 0 or not said.isdigit():
        connection.close()
        connection = None
    time.sleep(0.02)
