"""A web server of somebody else's."""

import http.server

from asking import picture


class Shelf(http.server.BaseHTTPRequestHandler):
    """A picture, something endless, and ways to elsewhere."""

    seen: list[str] = []

    def do_GET(self):
        self.seen.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(1 << 16))
            except OSError:
                pass
        elif self.path == "/picture.jpg":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture(3))
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass
