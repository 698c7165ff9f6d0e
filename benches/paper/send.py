"""The paper's way to send: `requests` over SOCKS to a system tor, one PUT after the other.

Reads one value a line from standard input, sends it, and answers with the status code on a line.
"""
import sys

import requests

address, socks_port = sys.argv[1], sys.argv[2]
proxy = f"socks5h://127.0.0.1:{socks_port}"
session = requests.session()
session.proxies = {"http": proxy, "https": proxy}

for line in sys.stdin:
    body = {"id_device": "patient", "data": line.rstrip("\n")}
    try:
        print(session.put(f"http://{address}/", json=body, timeout=60).status_code, flush=True)
    except requests.RequestException as error:
        print(f"error {type(error).__name__}", flush=True)
