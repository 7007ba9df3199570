"""With nothing but the standard library, to try it: AUTHIO_ACTION_SECRETS=asec_… python3 examples/plain.py"""

import os
import pathlib
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from authio_actions import Receiver  # noqa: E402
from triggers import decide  # noqa: E402

receiver = Receiver(os.environ["AUTHIO_ACTION_SECRETS"].split(","))


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = receiver.answer(body, self.headers.get("Authio-Signature"), decide)
        self.send_response(answer.status)
        for name, value in (answer.headers | {"Content-Length": str(len(answer.body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
