#!/usr/bin/env bash
# huggingface_hub 2.1.0, HF_ENDPOINT: ModelCard.validate asks huggingface.co about the card, not the
# Hub that is set.
#
# Who publishes to a Hub of their own, or through a mirror, sets HF_ENDPOINT. Uploads, downloads and
# the check of a card that is part of a commit go there. ModelCard.validate, which is for finding out
# before, and push_to_hub of a card, which calls it, send the text of the card to huggingface.co. So
# it leaves the house, is judged by another Hub's rules, and where huggingface.co is not reached, a
# card of a private Hub cannot be validated at all. Since 2.2.0 the Hub that is set is asked.
#
# Seen with Python 3.11.7 on Linux, x86-64:
#   2.1.0: the Hub that is set got no request; huggingface.co was asked for /api/validate-yaml
#   2.2.0: the Hub that is set got POST /api/validate-yaml
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cat > "$home/run.py" <<'PYTHON'
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

arrived = []


class Hub(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        arrived.append(f"POST {self.path}")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"

import huggingface_hub
from huggingface_hub import ModelCard, repocard

wanted = []
session = repocard.get_session()


class Watched:
    """The client's own session; what is for another host is noted, and not sent."""

    def post(self, url, **given):
        wanted.append(url)
        if not url.startswith(os.environ["HF_ENDPOINT"]):
            raise ConnectionError("not sent")
        return session.post(url, **given)


repocard.get_session = Watched
try:
    ModelCard("---\nlicense: apache-2.0\n---\n# A model\n").validate()
except ConnectionError:
    pass
version = huggingface_hub.__version__
if version == "2.1.0":
    assert (arrived, wanted) == ([], ["https://huggingface.co/api/validate-yaml"]), (arrived, wanted)
    print("2.1.0: the Hub that is set got no request; huggingface.co was asked for /api/validate-yaml")
else:
    assert arrived == ["POST /api/validate-yaml"], arrived
    print(f"{version}: the Hub that is set got {arrived[0]}")
PYTHON
seen() { # what a version does
  python3 -m venv "$home/$1"
  "$home/$1/bin/pip" install --quiet --disable-pip-version-check "$1"
  "$home/$1/bin/python" "$home/run.py"
}
seen huggingface_hub==2.1.0
seen huggingface_hub==2.2.0
