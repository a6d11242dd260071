"""A webhook that runs in a machine: notes what it gets, one JSON body a line.

It fails while /run/webhook.fails is there.

python3 webhook.py PORT FILE [SECONDS before it notes anything]
"""

import json
import pathlib
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if pathlib.Path("/run/webhook.fails").exists():
            self.send_response(503)
        else:
            time.sleep(float(sys.argv[3]) if len(sys.argv) > 3 else 0)
            with pathlib.Path(sys.argv[2]).open("a", encoding="utf-8") as file:
                file.write(json.dumps(json.loads(body)) + "\n")
            self.send_response(200)
        self.end_headers()


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
