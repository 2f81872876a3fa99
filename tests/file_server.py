"""A web server on this machine that serves one file, breaks off, waits, or refuses."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 5000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """Serves `content` at any path.

    ranges: whether the server can continue a download. breaks_at: the byte at which it ends the first connection.
    waits_at: the byte at which it waits until `go_on` is set.
    """

    def __init__(self):
        self.content, self.ranges, self.breaks_at, self.asked, self.status = CONTENT, True, None, [], None
        self.waits_at, self.go_on = None, threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.bin"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self.http.shutdown()
        self.http.server_close()

    def answer(self, handler):
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0
        if self.status:
            handler.send_error(self.status)
            return
        if start and start >= len(self.content):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(self.content) - start))
        handler.end_headers()
        end, self.breaks_at = self.breaks_at, None
        if self.waits_at:
            handler.wfile.write(self.content[start : self.waits_at])
            self.go_on.wait(60)
            start = self.waits_at
        handler.wfile.write(self.content[start:end])
